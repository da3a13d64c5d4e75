//! Source buckets and kinds, as the kernel keeps them, and what a detector is told of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::Direction;
use firewall_common::layout::{HostKinds, SOURCE_WAYS, SourceBody, SourceHeads};
use firewall_common::packet::Packet;
use firewall_common::sources::{self, Meta, Observation};

use crate::detect::{SourceSample, Time};

/// Seed of the source hash where no attacker can exploit it being known.
pub const SOURCE_SEED: u32 = 0x5bd1_e995;
/// For how long a bucket that nothing was added to is still looked at, in milliseconds: detectors tell
/// what came in one interval by what follows in the next.
const RECENT: u64 = 3_000;

#[derive(Debug)]
pub(super) struct Counts {
    heads: Vec<SourceHeads>,
    bodies: Vec<SourceBody>,
    pub(super) kinds: [HostKinds; 2],
    /// Buckets to which something was added lately.
    recent: Vec<u32>,
    /// A bit for each bucket: whether it is among them. Small enough to stay in the cache, as the
    /// buckets do not.
    is_recent: Vec<u64>,
}

impl Counts {
    /// `buckets` is a power of two.
    pub(super) fn new(buckets: u32) -> Self {
        Self {
            heads: vec![SourceHeads::default(); buckets as usize],
            bodies: vec![SourceBody::default(); buckets as usize],
            kinds: [HostKinds::default(); 2],
            recent: Vec::new(),
            is_recent: vec![0; buckets.div_ceil(u64::BITS) as usize],
        }
    }

    #[inline]
    pub(super) fn record(&mut self, observation: &Observation, now: u64) {
        let index = sources::bucket_index(observation.key, SOURCE_SEED, self.heads.len() as u32);
        let at = index as usize;
        sources::record(&mut self.heads[at], &mut self.bodies[at], observation, now);
        let (word, bit) = place(index);
        if self.is_recent[word] & bit == 0 {
            self.is_recent[word] |= bit;
            self.recent.push(index);
        }
    }

    #[inline]
    pub(super) fn kinds(&mut self, packet: &Packet, direction: Direction) {
        kind_counts(packet, &mut self.kinds[direction as usize]);
    }

    /// Every source.
    pub(super) fn samples(&mut self, now: u64, time: Time) -> Vec<SourceSample> {
        let mut samples = Vec::new();
        for (heads, body) in self.heads.iter().zip(&mut self.bodies) {
            sample(heads, body, now, time, &mut samples);
        }
        samples
    }

    /// The sources in buckets to which something was added lately: in a recording of many hours the
    /// whole table would be read hundreds of thousands of times.
    pub(super) fn recent_samples(&mut self, now: u64, time: Time) -> Vec<SourceSample> {
        let mut samples = Vec::new();
        // In the order of the table, as all other readers have them.
        self.recent.sort_unstable();
        self.recent.retain(|&index| {
            let heads = &self.heads[index as usize];
            sample(
                heads,
                &mut self.bodies[index as usize],
                now,
                time,
                &mut samples,
            );
            let mut ways = heads.keys.iter().zip(heads.metas);
            let is_recent = ways.any(|(key, meta)| *key != 0 && Meta(meta).age(now) < RECENT);
            if !is_recent {
                let (word, bit) = place(index);
                self.is_recent[word] &= !bit;
            }
            is_recent
        });
        samples
    }
}

/// Where a bucket has its bit.
fn place(index: u32) -> (usize, u64) {
    ((index / u64::BITS) as usize, 1 << (index % u64::BITS))
}

/// Adds what a bucket holds to `samples`; its bitmaps start anew.
fn sample(
    heads: &SourceHeads,
    body: &mut SourceBody,
    now: u64,
    time: Time,
    samples: &mut Vec<SourceSample>,
) {
    for way in 0..SOURCE_WAYS {
        if let Some(sample) = source_sample(heads, body, way, now, time) {
            samples.push(sample);
            body.counters[way].ports = 0;
            body.counters[way].hosts = 0;
        }
    }
}

/// Adds a packet to the counts of its kinds.
#[inline]
pub fn kind_counts(packet: &Packet, kinds: &mut HostKinds) {
    sources::kinds(packet, |kind| kinds.counts[kind as usize] += 1);
}

/// For so long the bits of a source's only packet are told, in milliseconds; those of others are told
/// once.
const ONLY_PACKET: u64 = 1_000;

/// What one way of a bucket holds; `now` on the packet clock is `time` on the calendar.
pub fn source_sample(
    heads: &SourceHeads,
    body: &SourceBody,
    way: usize,
    now: u64,
    time: Time,
) -> Option<SourceSample> {
    let key = heads.keys[way];
    if key == 0 {
        return None;
    }
    let meta = Meta(heads.metas[way]);
    let mut counters = body.counters[way];
    if let Some(only) = meta.counters(now) {
        counters = only;
        if meta.age(now) > ONLY_PACKET {
            counters.ports = 0;
            counters.hosts = 0;
        }
    }
    Some(SourceSample {
        source: source_address(key),
        counters,
        last_seen: time.saturating_sub(meta.age(now) * 1_000_000),
    })
}

/// The source of a key ([`firewall_common::Address::source_key`]): an IPv4 address, or the first
/// address of an IPv6 /64.
pub fn source_address(key: u64) -> IpAddr {
    if key >> 32 == 1 {
        IpAddr::V4(Ipv4Addr::from_bits(key as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(u128::from(key) << 64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    proptest! {
        #[test]
        fn recent_samples_lack_only_sources_that_were_silent_before_the_last_look(
            steps in prop::collection::vec((0..12_u32, 0..3 * SECOND, any::<bool>()), 1..200),
        ) {
            let (mut all, mut recent) = (Counts::new(4), Counts::new(4));
            let (mut now, mut looked) = (SECOND, SECOND);
            for (source, later, look) in steps {
                now += later;
                let observation = Observation {
                    key: 1 << 32 | u64::from(source),
                    packets: 1,
                    contact: true,
                    port: source as u8,
                    ..Observation::default()
                };
                all.record(&observation, now);
                recent.record(&observation, now);
                if !look {
                    continue;
                }
                let shown = |sample: &SourceSample| {
                    (sample.last_seen + SECOND >= looked).then(|| {
                        let counters = sample.counters;
                        (sample.source, sample.last_seen, counters.packets, counters.ports)
                    })
                };
                let mut expected: Vec<_> = all.samples(now, now).iter().filter_map(shown).collect();
                let mut found: Vec<_> =
                    recent.recent_samples(now, now).iter().filter_map(shown).collect();
                expected.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(found, expected);
                looked = now;
            }
        }
    }
}
