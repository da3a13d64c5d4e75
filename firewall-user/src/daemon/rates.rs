//! Who sends how much now: averages over about ten seconds from the cumulative counts of each tick.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::net::IpAddr;

use firewall_common::layout::SourceCounters;
use jiff::Timestamp;

use super::documents::{SourceDocument, SourceOrder};
use crate::detect::{SourceSample, Time};

/// Time constant of the average: after it, a steady rate shows to 63 %.
const WINDOW_SECONDS: f64 = 10.0;

/// Rates and totals of every source that the kernel's table holds.
#[derive(Debug, Default)]
pub struct Rates {
    time: Option<Time>,
    sources: HashMap<IpAddr, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    sample: SourceSample,
    /// Per second: packets, bytes, SYNs, requests.
    rates: [f64; 4],
}

impl Rates {
    /// Takes in the counts of a tick. Sources that left the table are forgotten.
    pub fn update(&mut self, time: Time, samples: &[SourceSample]) {
        let elapsed = match self.time {
            Some(before) if time > before => (time - before) as f64 / 1e9,
            // Nothing to divide by: only the totals are taken.
            _ => 0.0,
        };
        let weight = 1.0 - (-elapsed / WINDOW_SECONDS).exp();
        let mut sources = HashMap::with_capacity(samples.len());
        for sample in samples {
            let before = self.sources.get(&sample.source).filter(|before| {
                // Fewer packets than before: it left the table and came back.
                before.sample.counters.packets <= sample.counters.packets
            });
            let mut rates = before.map_or([0.0; 4], |before| before.rates);
            if elapsed > 0.0 {
                let earlier = before.map_or([0; 4], |before| counts(&before.sample.counters));
                let now = counts(&sample.counters);
                for (rate, (now, earlier)) in rates.iter_mut().zip(now.iter().zip(earlier)) {
                    let latest = now.saturating_sub(earlier) as f64 / elapsed;
                    *rate += weight * (latest - *rate);
                }
            }
            let sample = *sample;
            sources.insert(sample.source, Entry { sample, rates });
        }
        self.sources = sources;
        self.time = Some(time);
    }

    /// How many sources are known.
    pub fn tracked(&self) -> usize {
        self.sources.len()
    }

    /// The `limit` heaviest sources: by rate, then by total, so that those who fell silent follow.
    pub fn top(&self, by: SourceOrder, limit: usize) -> Vec<SourceDocument> {
        let index = by as usize;
        let heavier = |left: &&Entry, right: &&Entry| -> Ordering {
            right.rates[index]
                .total_cmp(&left.rates[index])
                .then_with(|| {
                    counts(&right.sample.counters)[index].cmp(&counts(&left.sample.counters)[index])
                })
                .then_with(|| left.sample.source.cmp(&right.sample.source))
        };
        let mut entries: Vec<&Entry> = self.sources.values().collect();
        if limit < entries.len() {
            entries.select_nth_unstable_by(limit, heavier);
            entries.truncate(limit);
        }
        entries.sort_unstable_by(heavier);
        entries.into_iter().map(Entry::document).collect()
    }
}

impl Entry {
    fn document(&self) -> SourceDocument {
        let SourceSample {
            source,
            counters,
            last_seen,
        } = self.sample;
        // Rates below a thousandth are the tail of the average, not traffic.
        let rate = |index: usize| (self.rates[index] * 1000.0).round() / 1000.0;
        SourceDocument {
            source,
            packets_per_second: rate(0),
            bytes_per_second: rate(1),
            syns_per_second: rate(2),
            requests_per_second: rate(3),
            packets: counters.packets,
            bytes: counters.bytes,
            syns: counters.syns.into(),
            requests: counters.requests.into(),
            drops: counters.drops,
            failed: counters.failed.into(),
            last_seen: Timestamp::from_nanosecond(last_seen.into()).unwrap_or_default(),
        }
    }
}

/// What is ranked, in the order of [`SourceOrder`].
fn counts(counters: &SourceCounters) -> [u64; 4] {
    [
        counters.packets,
        counters.bytes,
        counters.syns.into(),
        counters.requests.into(),
    ]
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
        for tick in 61..=160 {
            rates.update(tick * SECOND, &[sample(1, 6000, 0)]);
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
}
