//! Who sends how much now: averages over about ten seconds from the cumulative counts of each tick.

use std::cmp::Ordering;
use std::collections::{VecDeque, hash_map};
use std::net::IpAddr;

use firewall_common::layout::SourceCounters;
use ipnet::IpNet;
use jiff::Timestamp;

use super::documents::{PrefixDocument, SourceDocument, SourceOrder};
use crate::detect::hashed::HashMap;
use crate::detect::{SourceSample, Time, prefix_of};

/// Time constant of the average: after it, a steady rate shows to 63 %.
const WINDOW_SECONDS: f64 = 10.0;

/// Most sources that are remembered, about 100 bytes each; beyond it the least of those that are weighed are forgotten.
const REMEMBERED: usize = 100_000;
/// So many are weighed at least, so that nobody is forgotten who sends more than half of these do.
const WEIGHED: usize = 1_024;
/// So many samples are taken in before there is room for more: memory for all of a flood's sources at once would stay.
const CHUNK: usize = 8_192;

/// Rates and totals of the sources that sent something lately. A silent source costs nothing: its rates
/// are brought up to date when they are asked for.
#[derive(Debug, Default)]
pub struct Rates {
    time: Option<Time>,
    sources: HashMap<IpAddr, Entry>,
    /// Each of them once, who was weighed last at the end.
    order: VecDeque<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    counts: Counts,
    drops: u64,
    failed: u32,
    last_seen: Time,
    /// Per second, at `updated`: packets, bytes, SYNs, requests.
    rates: [f32; 4],
    updated: Time,
}

/// What is ranked, in the order of [`SourceOrder`].
type Counts = [u64; 4];

impl Rates {
    /// Takes in the counts of those who sent something since the last time.
    pub fn update(&mut self, time: Time, samples: &[SourceSample]) {
        // With nothing to divide by, only the totals are taken.
        let from = self.time.map_or(time, |before| before.min(time));
        for chunk in samples.chunks(CHUNK) {
            self.take_in(from, time, chunk);
            self.forget_the_least(time);
        }
        self.time = Some(time);
    }

    fn take_in(&mut self, from: Time, time: Time, samples: &[SourceSample]) {
        let elapsed = seconds(from, time);
        for sample in samples {
            let now = counts(&sample.counters);
            let known = self.sources.entry(sample.source);
            let before = match &known {
                // Fewer packets than before: it left the table and came back.
                hash_map::Entry::Occupied(before) if before.get().counts[0] <= now[0] => {
                    Some(*before.get())
                }
                _ => None,
            };
            let mut rates = before.map_or([0.0; 4], |before| before.rates_at(from));
            if elapsed > 0.0 {
                let earlier = before.map_or([0; 4], |before| before.counts);
                let weight = 1.0 - (-elapsed / WINDOW_SECONDS).exp();
                for (rate, (now, earlier)) in rates.iter_mut().zip(now.iter().zip(earlier)) {
                    let latest = now.saturating_sub(earlier) as f64 / elapsed;
                    *rate += weight * (latest - *rate);
                }
            }
            let entry = Entry {
                counts: now,
                drops: sample.counters.drops,
                failed: sample.counters.failed,
                last_seen: sample.last_seen,
                rates: rates.map(|rate| rate as f32),
                updated: time,
            };
            if let hash_map::Entry::Vacant(_) = known {
                self.order.push_back(sample.source);
            }
            known.insert_entry(entry);
        }
    }

    /// One source, by the address under which it is accounted.
    pub fn get(&self, source: &IpAddr) -> Option<SourceDocument> {
        let now = self.time.unwrap_or_default();
        let entry = self.sources.get(source)?;
        Some(entry.document(*source, now))
    }

    /// The `limit` heaviest sources: by rate, then by total, so that those who fell silent follow.
    pub fn top(&self, by: SourceOrder, limit: usize) -> Vec<SourceDocument> {
        let index = by as usize;
        let now = self.time.unwrap_or_default();
        let mut entries: Vec<(f64, &IpAddr, &Entry)> = self
            .sources
            .iter()
            .map(|(source, entry)| (entry.rates_at(now)[index], source, entry))
            .collect();
        let heavier = |left: &(f64, &IpAddr, &Entry), right: &(f64, &IpAddr, &Entry)| -> Ordering {
            right
                .0
                .total_cmp(&left.0)
                .then_with(|| right.2.counts[index].cmp(&left.2.counts[index]))
                .then_with(|| left.1.cmp(right.1))
        };
        if limit < entries.len() {
            entries.select_nth_unstable_by(limit, heavier);
            entries.truncate(limit);
        }
        entries.sort_unstable_by(heavier);
        let entries = entries.into_iter();
        entries
            .map(|(_, source, entry)| entry.document(*source, now))
            .collect()
    }

    /// The `limit` heaviest prefixes, by the sum of their sources' rates, then totals.
    pub fn top_prefixes(&self, by: SourceOrder, limit: usize) -> Vec<PrefixDocument> {
        let now = self.time.unwrap_or_default();
        let mut sums: HashMap<IpNet, Sum> = HashMap::default();
        for (source, entry) in &self.sources {
            let sum = sums.entry(prefix_of(*source)).or_default();
            sum.add(entry, entry.rates_at(now));
        }
        let index = by as usize;
        let mut sums: Vec<(IpNet, Sum)> = sums.into_iter().collect();
        sums.sort_unstable_by(|(left, one), (right, other)| {
            other.rates[index]
                .total_cmp(&one.rates[index])
                .then_with(|| other.counts[index].cmp(&one.counts[index]))
                .then_with(|| left.cmp(right))
        });
        sums.truncate(limit);
        let sums = sums.into_iter();
        sums.map(|(prefix, sum)| sum.document(prefix)).collect()
    }

    /// Forgets as many as are too many: of twice as many, and of those that were not weighed for longest, the half that sends
    /// fewest packets. To weigh all of them took longer than a round should.
    fn forget_the_least(&mut self, now: Time) {
        let many = self.sources.len().saturating_sub(REMEMBERED);
        if many == 0 {
            return;
        }
        let weighed = self.order.len().min(WEIGHED.max(2 * many));
        let mut rates: Vec<(f64, IpAddr)> = self
            .order
            .drain(..weighed)
            .map(|source| {
                let entry = self.sources.get(&source);
                (entry.map_or(0.0, |entry| entry.rates_at(now)[0]), source)
            })
            .collect();
        let forgotten = many.max(weighed / 2);
        let (least, next, rest) =
            rates.select_nth_unstable_by(forgotten, |left, right| left.0.total_cmp(&right.0));
        for (_, source) in least {
            self.sources.remove(source);
        }
        let kept = std::iter::once(next).chain(rest);
        self.order.extend(kept.map(|(_, source)| *source));
    }
}

impl Entry {
    /// The rates at `now`, had nothing come since they were updated.
    fn rates_at(&self, now: Time) -> [f64; 4] {
        let fade = (-seconds(self.updated, now) / WINDOW_SECONDS).exp();
        self.rates.map(|rate| f64::from(rate) * fade)
    }

    fn document(&self, source: IpAddr, now: Time) -> SourceDocument {
        let rates = self.rates_at(now).map(rounded);
        let [packets, bytes, syns, requests] = self.counts;
        SourceDocument {
            source,
            packets_per_second: rates[0],
            bytes_per_second: rates[1],
            syns_per_second: rates[2],
            requests_per_second: rates[3],
            packets,
            bytes,
            syns,
            requests,
            drops: self.drops,
            failed: self.failed.into(),
            last_seen: Timestamp::from_nanosecond(self.last_seen.into()).unwrap_or_default(),
            ban: None,
        }
    }
}

fn counts(counters: &SourceCounters) -> Counts {
    [
        counters.packets,
        counters.bytes,
        counters.syns.into(),
        counters.requests.into(),
    ]
}

/// What the sources of a prefix come to.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    sources: usize,
    counts: Counts,
    drops: u64,
    failed: u64,
    last_seen: Time,
    rates: [f64; 4],
}

impl Sum {
    fn add(&mut self, entry: &Entry, rates: [f64; 4]) {
        self.sources += 1;
        for (sum, count) in self.counts.iter_mut().zip(entry.counts) {
            *sum = sum.saturating_add(count);
        }
        for (sum, rate) in self.rates.iter_mut().zip(rates) {
            *sum += rate;
        }
        self.drops = self.drops.saturating_add(entry.drops);
        self.failed = self.failed.saturating_add(entry.failed.into());
        self.last_seen = self.last_seen.max(entry.last_seen);
    }

    fn document(&self, prefix: IpNet) -> PrefixDocument {
        let [packets, bytes, syns, requests] = self.counts;
        let rates = self.rates.map(rounded);
        PrefixDocument {
            prefix,
            sources: self.sources,
            packets_per_second: rates[0],
            bytes_per_second: rates[1],
            syns_per_second: rates[2],
            requests_per_second: rates[3],
            packets,
            bytes,
            syns,
            requests,
            drops: self.drops,
            failed: self.failed,
            last_seen: Timestamp::from_nanosecond(self.last_seen.into()).unwrap_or_default(),
        }
    }
}

/// Rates below a thousandth are the tail of the average, not traffic.
fn rounded(rate: f64) -> f64 {
    (rate * 1000.0).round() / 1000.0
}

/// Seconds between two times; none when the later is not later.
fn seconds(from: Time, to: Time) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Time = 1_000_000_000;

    fn sample(last: u8, packets: u64, syns: u32) -> SourceSample {
        SourceSample {
            source: IpAddr::from([203, 0, 113, last]),
            counters: SourceCounters {
                packets,
                bytes: packets * 60,
                syns,
                ..SourceCounters::default()
            },
            entered: 0,
            last_seen: 0,
        }
    }

    #[test]
    fn a_steady_rate_shows_after_a_while_and_fades_after_it_ends() {
        let mut rates = Rates::default();
        for tick in 0..=60 {
            rates.update(tick * SECOND, &[sample(1, tick * 100, 0)]);
        }
        let top = rates.top(SourceOrder::Packets, 10);
        assert!((top[0].packets_per_second - 100.0).abs() < 1.0, "{top:?}");
        assert!((top[0].bytes_per_second - 6000.0).abs() < 60.0, "{top:?}");
        // Whether the table is asked about it or not.
        for tick in 61..=110 {
            rates.update(tick * SECOND, &[sample(1, 6000, 0)]);
        }
        for tick in 111..=160 {
            rates.update(tick * SECOND, &[]);
        }
        let top = rates.top(SourceOrder::Packets, 10);
        assert!(top[0].packets_per_second < 0.01, "{top:?}");
        assert_eq!(top[0].packets, 6000);
    }

    #[test]
    fn the_order_is_the_one_asked_for_and_the_limit_holds() {
        let mut rates = Rates::default();
        rates.update(SECOND, &[]);
        rates.update(
            2 * SECOND,
            &[sample(1, 500, 1), sample(2, 100, 90), sample(3, 10, 0)],
        );
        let last = |by, limit| -> Vec<String> {
            rates
                .top(by, limit)
                .iter()
                .map(|source| source.source.to_string())
                .collect()
        };
        assert_eq!(
            last(SourceOrder::Packets, 2),
            ["203.0.113.1", "203.0.113.2"]
        );
        assert_eq!(
            last(SourceOrder::Syns, 9),
            ["203.0.113.2", "203.0.113.1", "203.0.113.3"]
        );
        assert!(last(SourceOrder::Bytes, 0).is_empty());
    }

    #[test]
    fn a_source_that_left_the_table_and_came_back_does_not_go_negative() {
        let mut rates = Rates::default();
        rates.update(SECOND, &[sample(1, 1000, 0)]);
        rates.update(2 * SECOND, &[sample(1, 5, 0)]);
        let top = rates.top(SourceOrder::Packets, 1);
        assert!(top[0].packets_per_second > 0.0 && top[0].packets_per_second < 5.0);
    }

    #[test]
    fn a_source_that_pauses_has_the_rate_of_one_that_is_looked_at_meanwhile() {
        let (mut told, mut silent) = (Rates::default(), Rates::default());
        for tick in 0..40 {
            let packets = if tick < 20 { tick * 10 } else { 200 };
            let sample = sample(1, packets, 0);
            told.update(tick * SECOND, &[sample]);
            let is_new = tick <= 20;
            silent.update(
                tick * SECOND,
                if is_new {
                    std::slice::from_ref(&sample)
                } else {
                    &[]
                },
            );
        }
        let rate = |rates: &Rates| rates.top(SourceOrder::Packets, 1)[0].packets_per_second;
        assert!(
            (rate(&told) - rate(&silent)).abs() < 0.01,
            "{} {}",
            rate(&told),
            rate(&silent)
        );
        assert!(rate(&told) > 0.5);
    }

    #[test]
    fn prefixes_are_the_sums_of_their_sources() {
        let mut rates = Rates::default();
        rates.update(SECOND, &[]);
        let other = SourceSample {
            source: IpAddr::from([198, 51, 100, 7]),
            ..sample(0, 250, 0)
        };
        rates.update(2 * SECOND, &[sample(1, 200, 3), sample(2, 100, 4), other]);
        let top = rates.top_prefixes(SourceOrder::Packets, 9);
        let told: Vec<_> = top
            .iter()
            .map(|prefix| {
                (
                    prefix.prefix.to_string(),
                    prefix.sources,
                    prefix.packets,
                    prefix.syns,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("203.0.113.0/24".to_owned(), 2, 300, 7),
                ("198.51.100.0/24".to_owned(), 1, 250, 0),
            ]
        );
        let single = rates.top(SourceOrder::Packets, 9);
        let sum: f64 = single.iter().map(|source| source.packets_per_second).sum();
        let sums: f64 = top.iter().map(|prefix| prefix.packets_per_second).sum();
        assert!((sum - sums).abs() < 0.01, "{sum} {sums}");
        assert_eq!(rates.top_prefixes(SourceOrder::Syns, 1)[0].syns, 7);
    }

    #[test]
    fn memory_is_bounded_and_who_sends_most_is_kept() {
        let mut rates = Rates::default();
        rates.update(SECOND, &[]);
        let address = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n));
        for second in 2..6 {
            let samples: Vec<_> = (0..90_000)
                .map(|n| SourceSample {
                    source: address(second * 100_000 + n),
                    ..sample(0, 1, 0)
                })
                .chain([sample(9, u64::from(second) * 500, 0)])
                .collect();
            rates.update(Time::from(second) * SECOND, &samples);
            assert!(rates.sources.len() <= REMEMBERED);
            assert_eq!(rates.order.len(), rates.sources.len());
        }
        let top = rates.top(SourceOrder::Packets, 1);
        assert_eq!(top[0].source, IpAddr::from([203, 0, 113, 9]));
    }
}
