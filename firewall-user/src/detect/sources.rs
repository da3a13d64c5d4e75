//! The detector's memory of sources: what each added since the last tick, and lately.
//!
//! Bounded in two ways. A source that has been idle for longer than every window is forgotten. At
//! the cap, newcomers displace sources that have been idle for a rate window: those that sent a
//! single packet when most did, as forged ones do; otherwise those that tried one port and host
//! only. With none of these left, a newcomer stays unknown.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use firewall_common::layout::SourceCounters;

use super::contacts::{Contacts, NewContacts};
use super::delta::{Delta, Handshakes};
use super::hashed::HashMap;
use super::window::Window;
use super::{SourceSample, Time};

/// By how many milliseconds the moment of entry may be told too early: the kernel keeps it in steps of 17,
/// by a clock that is behind by up to 10.
const ENTRY_SLACK: u64 = 32;

/// Memory for more than so many times the sources that are there is given back.
const ROOM: usize = 64;

/// The spans over which sources are remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spans {
    /// Rates.
    pub rate: Time,
    /// Contacts that make a port scan.
    pub scan: Time,
    /// Contacts that make a sweep.
    pub sweep: Time,
    /// The longer of these: contacts are kept so long.
    pub contacts: Time,
}

/// The time since the last tick.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub from: Time,
    pub now: Time,
}

/// All sources that were active lately.
#[derive(Debug)]
pub(super) struct Sources {
    spans: Spans,
    capacity: usize,
    /// Boxed: as a flood comes in, the map grows without moving all that is remembered.
    tracks: HashMap<IpAddr, Box<Track>>,
    /// Each of them once, who was looked at last at the end: a few are looked at in each tick, as a look at all of them is
    /// longer than a tick may be.
    order: VecDeque<IpAddr>,
    /// How many of them sent one packet only.
    singles: usize,
    /// [`Snapshot::clock`](super::Snapshot::clock) of the latest snapshot: an unknown source that entered
    /// later is new, one that entered before has counts from a time that is not looked at.
    clock: u64,
    swept: Time,
    made_room: Option<Time>,
}

/// What is remembered of one source.
#[derive(Clone, Debug)]
pub(super) struct Track {
    /// What came, for rates.
    pub rates: Window<{ Rate::COUNT }>,
    /// Whom it tried to reach.
    pub contacts: Contacts,
    /// SYNs of the latest tick: too young to be judged by what follows them.
    pub fresh_syns: u32,
    /// Whether an alert about this source accounts for its SYNs.
    pub accounted_for: bool,
    handshakes: Handshakes,
    previous: SourceCounters,
    entered: u64,
    last_active: Time,
}

/// Columns of [`Track::rates`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Rate {
    Packets,
    Syns,
    Requests,
}

impl Rate {
    const COUNT: usize = 3;
}

impl Sources {
    pub fn new(spans: Spans, capacity: usize) -> Self {
        Self {
            spans,
            capacity,
            tracks: HashMap::default(),
            order: VecDeque::new(),
            singles: 0,
            clock: 0,
            swept: 0,
            made_room: None,
        }
    }

    /// Takes the counts as they are for history: only what comes later is judged.
    pub fn rebase(&mut self, now: Time, clock: u64, samples: &[SourceSample]) {
        self.clock = clock;
        self.tracks.clear();
        self.order.clear();
        self.singles = 0;
        self.swept = now;
        let oldest = now.saturating_sub(self.spans.contacts);
        for sample in samples.iter().filter(|sample| sample.last_seen >= oldest) {
            if self.tracks.len() >= self.capacity {
                break;
            }
            let track = Box::new(Track::new(now, sample, sample.counters));
            let came_once = usize::from(track.came_once());
            if self.tracks.insert(sample.source, track).is_none() {
                self.order.push_back(sample.source);
                self.singles += came_once;
            }
        }
    }

    /// Takes a snapshot, `clock` being its time on the clock of entries, and shows each source that did
    /// something since the last one.
    pub fn update(
        &mut self,
        interval: Interval,
        clock: u64,
        samples: &[SourceSample],
        mut show: impl FnMut(IpAddr, &mut Track, &Delta),
    ) {
        for sample in samples {
            let Some((track, delta)) = self.track(interval, sample, samples.len()) else {
                continue;
            };
            if delta.is_nothing() {
                continue;
            }
            show(sample.source, track, &delta);
        }
        self.clock = clock;
        self.sweep(interval.now);
    }

    /// Brings the memory of one source up to date; `many` of them are in this tick.
    fn track(
        &mut self,
        interval: Interval,
        sample: &SourceSample,
        many: usize,
    ) -> Option<(&mut Track, Delta)> {
        let (now, spans) = (interval.now, self.spans);
        let entered = sample.entered.saturating_add(ENTRY_SLACK) >= self.clock;
        // At the cap only is it worth a look whether the source is known.
        if self.tracks.len() >= self.capacity && !self.tracks.contains_key(&sample.source) {
            self.make_room(now, many);
            if self.tracks.len() >= self.capacity {
                return None;
            }
        }
        let mut is_new = false;
        let track = match self.tracks.entry(sample.source) {
            Entry::Occupied(known) => {
                let track = known.into_mut();
                self.singles -= usize::from(track.came_once());
                track
            }
            Entry::Vacant(place) => {
                is_new = entered;
                let history = if entered {
                    SourceCounters::default()
                } else {
                    sample.counters
                };
                self.order.push_back(sample.source);
                place.insert(Box::new(Track::new(now, sample, history)))
            }
        };
        // Told too early, the entry of one that was shown already may fall into this interval, too.
        let entered_again = entered && track.entered != sample.entered;
        track.entered = sample.entered;
        let mut delta = track.advance(interval, spans, &sample.counters, entered_again);
        delta.is_new = is_new;
        self.singles += usize::from(track.came_once());
        Some((track, delta))
    }

    /// Forgets sources that no window reaches any more. Each is looked at now and then, and so many in a tick as belong to
    /// its length.
    fn sweep(&mut self, now: Time) {
        let longest = self.longest();
        let (length, round) = (now.saturating_sub(self.swept), (longest / 8).max(1));
        self.swept = now;
        let share = (self.order.len() as u128 * u128::from(length)).div_ceil(u128::from(round));
        let few = usize::try_from(share).unwrap_or(usize::MAX);
        self.look_through(few, usize::MAX, |track| {
            now.saturating_sub(track.last_active) <= longest
        });
        if self.tracks.capacity() > ROOM * self.tracks.len().max(ROOM) {
            self.tracks.shrink_to(self.tracks.len() * 2);
            self.order.shrink_to(self.tracks.len() * 2);
        }
    }

    /// At the cap, forgets idle sources, the least telling first, until there is room for so `many`; once a tick is enough.
    fn make_room(&mut self, now: Time, many: usize) {
        if self.tracks.len() < self.capacity || self.made_room == Some(now) {
            return;
        }
        self.made_room = Some(now);
        let (rate, longest) = (self.spans.rate, self.longest());
        // Among forged sources, whoever came twice is the one to remember; among ordinary ones,
        // whoever looks around.
        let is_flood = self.singles >= self.capacity / 2;
        self.look_through(usize::MAX, many, |track| {
            let idle = now.saturating_sub(track.last_active);
            let telling = if is_flood {
                !track.came_once()
            } else {
                track.contacts.is_curious()
            };
            idle <= rate || idle <= longest && telling
        });
    }

    /// Looks at `few` sources, those first that were not looked at for longest, and forgets `many` of them that are not
    /// kept.
    fn look_through(&mut self, few: usize, many: usize, keep: impl Fn(&Track) -> bool) {
        let mut forgotten = 0;
        for _ in 0..few.min(self.order.len()) {
            if forgotten >= many {
                break;
            }
            let Some(source) = self.order.pop_front() else {
                break;
            };
            match self.tracks.get(&source) {
                Some(track) if keep(track) => self.order.push_back(source),
                Some(track) => {
                    self.singles -= usize::from(track.came_once());
                    self.tracks.remove(&source);
                    forgotten += 1;
                }
                None => {}
            }
        }
    }

    /// After this long nothing of a source is left in any window.
    fn longest(&self) -> Time {
        self.spans.contacts.max(2 * self.spans.rate)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let singles = self.tracks.values().filter(|track| track.came_once());
        assert_eq!(self.singles, singles.count());
        assert_eq!(self.order.len(), self.tracks.len());
        self.tracks.len()
    }
}

impl Track {
    fn new(now: Time, sample: &SourceSample, previous: SourceCounters) -> Self {
        Self {
            rates: Window::default(),
            contacts: Contacts::default(),
            fresh_syns: 0,
            accounted_for: false,
            handshakes: Handshakes::default(),
            previous,
            entered: sample.entered,
            last_active: now,
        }
    }

    fn came_once(&self) -> bool {
        self.previous.packets <= 1
    }

    /// `entered` says that the source came into the kernel's table anew since the last tick.
    fn advance(
        &mut self,
        interval: Interval,
        spans: Spans,
        counters: &SourceCounters,
        entered: bool,
    ) -> Delta {
        let Interval { from, now } = interval;
        let mut delta = if entered {
            Delta::between(&SourceCounters::default(), counters)
        } else {
            Delta::between(&self.previous, counters)
        };
        self.previous = *counters;
        if now.saturating_sub(from) > spans.contacts {
            // The maps hold more than a window's worth of contacts: they cannot be taken for one.
            delta.ports = 0;
            delta.hosts = 0;
            delta.failed = 0;
        }
        if delta.is_nothing() {
            self.fresh_syns = 0;
            return delta;
        }
        self.last_active = now;
        self.fresh_syns = delta.syns;
        delta.completed = self.handshakes.advance(&delta);
        self.rates.add(
            from,
            now,
            spans.rate,
            [
                delta.packets as f64,
                f64::from(delta.syns),
                f64::from(delta.requests),
            ],
        );
        self.contacts.add(
            from,
            now,
            spans.contacts,
            NewContacts {
                ports: delta.ports,
                hosts: delta.hosts,
                failed: delta.failed,
                packets: delta.packets,
                completed: delta.completed,
            },
        );
        delta
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SECOND: Time = 1_000_000_000;
    const SPANS: Spans = Spans {
        rate: 2 * SECOND,
        scan: 60 * SECOND,
        sweep: 15 * SECOND,
        contacts: 60 * SECOND,
    };

    /// Milliseconds of the clock of entries.
    fn clock(time: Time) -> u64 {
        time / 1_000_000
    }

    fn sample(last: u32, now: Time, counters: SourceCounters) -> SourceSample {
        SourceSample {
            source: Ipv4Addr::from(0xc633_6400 + last).into(),
            counters,
            entered: counters.first_seen.into(),
            last_seen: now,
        }
    }

    fn counters(first_seen: u32, packets: u64, syns: u32) -> SourceCounters {
        SourceCounters {
            packets,
            syns,
            first_seen,
            ..SourceCounters::default()
        }
    }

    fn deltas(sources: &mut Sources, second: Time, samples: &[SourceSample]) -> Vec<Delta> {
        let interval = Interval {
            from: (second - 1) * SECOND,
            now: second * SECOND,
        };
        let mut shown = Vec::new();
        sources.update(interval, clock(interval.now), samples, |_, _, delta| {
            shown.push(*delta);
        });
        shown
    }

    #[test]
    fn a_source_that_was_there_before_is_judged_by_what_it_adds() {
        let mut sources = Sources::new(SPANS, 16);
        sources.rebase(
            SECOND,
            clock(SECOND),
            &[sample(1, SECOND, counters(5, 1_000, 10))],
        );
        let shown = deltas(
            &mut sources,
            2,
            &[sample(1, 2 * SECOND, counters(5, 1_007, 12))],
        );
        assert_eq!((shown[0].packets, shown[0].syns), (7, 2));
    }

    #[test]
    fn a_new_source_counts_from_zero() {
        let mut sources = Sources::new(SPANS, 16);
        sources.rebase(
            SECOND,
            clock(SECOND),
            &[sample(1, SECOND, counters(5, 10, 0))],
        );
        let shown = deltas(
            &mut sources,
            2,
            &[sample(2, 2 * SECOND, counters(1_900, 40, 3))],
        );
        assert_eq!((shown[0].packets, shown[0].syns), (40, 3));
    }

    #[test]
    fn an_old_source_that_was_never_looked_at_starts_without_history() {
        let mut sources = Sources::new(SPANS, 16);
        sources.rebase(
            SECOND,
            clock(SECOND),
            &[sample(1, SECOND, counters(500, 10, 0))],
        );
        let old = counters(100, 1_000_000, 900_000);
        assert!(deltas(&mut sources, 2, &[sample(2, 2 * SECOND, old)]).is_empty());
    }

    #[test]
    fn a_source_that_came_back_into_the_table_counts_from_zero() {
        let mut sources = Sources::new(SPANS, 16);
        sources.rebase(
            SECOND,
            clock(SECOND),
            &[sample(1, SECOND, counters(5, 1_000, 900))],
        );
        let back = sample(1, 2 * SECOND, counters(1_800, 10, 9));
        let shown = deltas(&mut sources, 2, &[back]);
        assert_eq!((shown[0].packets, shown[0].syns), (10, 9));
    }

    #[test]
    fn a_source_that_lost_part_of_its_counts_is_not_taken_for_new() {
        let mut sources = Sources::new(SPANS, 16);
        let other = sample(2, SECOND, counters(900, 1, 0));
        sources.rebase(
            SECOND,
            clock(SECOND),
            &[sample(1, SECOND, counters(5, 9_000, 0)), other],
        );
        let less = sample(1, 2 * SECOND, counters(700, 5_000, 0));
        assert!(deltas(&mut sources, 2, &[less]).is_empty());
        let more = sample(1, 3 * SECOND, counters(700, 5_003, 0));
        assert_eq!(deltas(&mut sources, 3, &[more])[0].packets, 3);
    }

    #[test]
    fn memory_stays_within_the_cap_and_idle_sources_are_forgotten() {
        let mut sources = Sources::new(SPANS, 100);
        for second in 2..40_u64 {
            let samples: Vec<_> = (0..80)
                .map(|n| {
                    let n = second as u32 * 80 + n;
                    sample(n, second * SECOND, counters(second as u32 * 1_000, 1, 1))
                })
                .collect();
            deltas(&mut sources, second, &samples);
            assert!(sources.len() <= 100);
        }
        assert!(sources.len() > 50);
        deltas(&mut sources, 200, &[]);
        assert_eq!(sources.len(), 0);
    }

    #[test]
    fn a_flood_of_strangers_does_not_displace_a_source_that_tries_around() {
        let mut sources = Sources::new(SPANS, 100);
        let scanner = |second: Time| {
            let mut counters = counters(1_500, second, second as u32);
            counters.ports = 1 << (second % 64);
            sample(9_999, second * SECOND, counters)
        };
        let mut seen = 0;
        for second in 2..40_u64 {
            let mut samples: Vec<_> = (0..200)
                .map(|n| {
                    let n = second as u32 * 200 + n;
                    sample(n, second * SECOND, counters(second as u32 * 1_000, 1, 1))
                })
                .collect();
            // It pauses for longer than a rate window between two tries.
            if second % 5 == 2 {
                samples.insert(0, scanner(second));
            }
            let scanning = IpAddr::from(Ipv4Addr::from(0xc633_6400_u32 + 9_999));
            let interval = Interval {
                from: (second - 1) * SECOND,
                now: second * SECOND,
            };
            sources.update(
                interval,
                clock(interval.now),
                &samples,
                |source, track, _| {
                    if source == scanning {
                        let reach =
                            track
                                .contacts
                                .reach(interval.now, SPANS.contacts, SPANS.contacts);
                        seen = seen.max(reach.ports.estimate as u32);
                    }
                },
            );
        }
        assert!(seen >= 7, "{seen} ports remembered of 8");
    }
}
