//! The detector's memory of sources: what each added since the last tick, and lately.
//!
//! Bounded in two ways. A source that has been idle for longer than every window is forgotten. At
//! the cap, newcomers displace sources that have been idle for a rate window: those that sent a
//! single packet when most did, as forged ones do; otherwise those that tried one port and host
//! only. With none of these left, a newcomer stays unknown.

#[cfg(test)]
mod tests;

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

/// At the cap, so many sources are looked at in a tick, or [`SEEN_PER_NEWCOMER`] times as many as there are newcomers: to look at all of them,
/// where all are worth keeping, is longer than a tick may be.
const SEEN_AT_THE_CAP: usize = 8_192;
const SEEN_PER_NEWCOMER: usize = 4;

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
    /// How many there were when the latest pass over all of them began, and how many of these are left to look at.
    pass: usize,
    left: usize,
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
            pass: 0,
            left: 0,
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
        if self.left == 0 || length >= round {
            (self.pass, self.left) = (self.order.len(), self.order.len());
        }
        let share = (self.pass as u128 * u128::from(length)).div_ceil(u128::from(round));
        let few = usize::try_from(share).map_or(self.left, |share| share.min(self.left));
        self.left -= few;
        self.look_through(few, usize::MAX, |track| {
            now.saturating_sub(track.last_active) <= longest
        });
        if self.tracks.capacity() > ROOM * self.tracks.len().max(ROOM) {
            self.tracks.shrink_to(self.tracks.len() * 2);
            self.order.shrink_to(self.tracks.len() * 2);
        }
    }

    /// At the cap, forgets idle sources, the least telling of those that were not looked at for longest, until there is room for so `many`; once a tick is enough.
    fn make_room(&mut self, now: Time, many: usize) {
        if self.tracks.len() < self.capacity || self.made_room == Some(now) {
            return;
        }
        self.made_room = Some(now);
        let (rate, longest) = (self.spans.rate, self.longest());
        // Among forged sources, whoever came twice is the one to remember; among ordinary ones,
        // whoever looks around.
        let is_flood = self.singles >= self.capacity / 2;
        let few = SEEN_AT_THE_CAP.max(many.saturating_mul(SEEN_PER_NEWCOMER));
        self.look_through(few, many, |track| {
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
