//! Source buckets and kinds, as the kernel keeps them, and what a detector is told of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::Direction;
use firewall_common::layout::{
    HostKinds, SOURCE_WAYS, SourceBody, SourceCounters, SourceFronts, SourceHeads,
};
use firewall_common::packet::Packet;
use firewall_common::sources::{self, Meta, Observation, Recorded};

use crate::detect::{SourceSample, Time};

/// Seed of the source hash where no attacker can exploit it being known.
pub const SOURCE_SEED: u32 = 0x5bd1_e995;

#[derive(Debug)]
pub(super) struct Counts {
    fronts: Vec<SourceFronts>,
    heads: Vec<SourceHeads>,
    bodies: Vec<SourceBody>,
    pub(super) kinds: [HostKinds; 2],
    /// Buckets to which something was added since the last look.
    touched: Vec<u32>,
    /// A bit for each way of each bucket: whether something was added to it. Small enough to stay in the
    /// cache, as the buckets do not.
    is_touched: Vec<u64>,
    /// Room for the next look.
    pub(super) spare: Vec<SourceSample>,
}

impl Counts {
    /// `buckets` is a power of two.
    pub(super) fn new(buckets: u32) -> Self {
        let ways = buckets as usize * SOURCE_WAYS;
        Self {
            fronts: vec![SourceFronts::default(); buckets as usize],
            heads: vec![SourceHeads::default(); buckets as usize],
            bodies: vec![SourceBody::default(); buckets as usize],
            kinds: [HostKinds::default(); 2],
            touched: Vec::new(),
            is_touched: vec![0; ways.div_ceil(u64::BITS as usize)],
            spare: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn record(&mut self, observation: &Observation, now: u64) {
        let hash = sources::hash(observation.key, SOURCE_SEED);
        let index = sources::bucket_of(hash, self.heads.len() as u32);
        let at = index as usize;
        let (fronts, heads) = (&mut self.fronts[at], &mut self.heads[at]);
        let mark = sources::mark_of(hash);
        let placed = sources::place(fronts, heads, mark, observation, now, |word| word);
        if placed.adds {
            sources::add(&mut self.bodies[at], &placed, observation, now);
        }
        if placed.recorded() != Recorded::TurnedAway {
            let (word, shift) = place(index);
            let ways = self.is_touched[word] >> shift & ALL_WAYS;
            if ways == 0 {
                self.touched.push(index);
            }
            self.is_touched[word] |= 1 << (shift + placed.way);
        }
    }

    #[inline]
    pub(super) fn kinds(&mut self, packet: &Packet, direction: Direction) {
        kind_counts(packet, &mut self.kinds[direction as usize]);
    }

    /// The sources that sent something since the last look; bitmaps start anew.
    pub(super) fn samples(&mut self, now: u64, time: Time) -> Vec<SourceSample> {
        let mut samples = std::mem::take(&mut self.spare);
        samples.clear();
        // In the order of the table, as all other readers have them.
        self.touched.sort_unstable();
        for index in self.touched.drain(..) {
            let (word, shift) = place(index);
            let ways = self.is_touched[word] >> shift & ALL_WAYS;
            self.is_touched[word] &= !(ALL_WAYS << shift);
            let (heads, body) = (
                &self.heads[index as usize],
                &mut self.bodies[index as usize],
            );
            for way in (0..SOURCE_WAYS).filter(|way| ways >> way & 1 != 0) {
                let counters = &mut body.counters[way];
                let meta = Meta(heads.metas[way]);
                let sample = source_sample(heads.keys[way], meta, || *counters, now, time);
                samples.push(sample);
                counters.ports = 0;
                counters.hosts = 0;
            }
        }
        samples
    }
}

/// The bits of a bucket's ways.
const ALL_WAYS: u64 = (1 << SOURCE_WAYS) - 1;

/// Where a bucket has its bits: the word, and how far up in it.
fn place(index: u32) -> (usize, u32) {
    let bit = index as usize * SOURCE_WAYS;
    (bit / u64::BITS as usize, bit as u32 % u64::BITS)
}

/// Adds a packet to the counts of its kinds.
#[inline]
pub fn kind_counts(packet: &Packet, kinds: &mut HostKinds) {
    sources::kinds(packet, |kind| kinds.counts[kind as usize] += 1);
}

/// What one way of a bucket holds, and `counters` if it has some of its own; `now` on the packet clock is
/// `time` on the calendar.
pub fn source_sample(
    key: u64,
    meta: Meta,
    counters: impl FnOnce() -> SourceCounters,
    now: u64,
    time: Time,
) -> SourceSample {
    let now = meta.present(now);
    let counters = meta.counters(now).unwrap_or_else(counters);
    let milliseconds = now / 1_000_000;
    SourceSample {
        source: source_address(key),
        counters,
        // Of the moment of entry there are 32 bits, and it was no later than now.
        entered: milliseconds.saturating_sub(
            (milliseconds as u32)
                .wrapping_sub(counters.first_seen)
                .into(),
        ),
        last_seen: time.saturating_sub(meta.age(now) * 1_000_000),
    }
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
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    proptest! {
        #[test]
        fn each_look_tells_who_sent_since_the_last_and_nobody_else(
            steps in prop::collection::vec((0..12_u32, 0..SECOND / 4, any::<bool>()), 1..200),
        ) {
            // Places enough, and a time short enough, that none is displaced.
            let mut counts = Counts::new(64);
            let mut now = SECOND;
            let mut sent = BTreeMap::new();
            let mut packets: BTreeMap<IpAddr, u64> = BTreeMap::new();
            for (source, later, look) in steps {
                now += later;
                let observation = Observation {
                    key: 1 << 32 | u64::from(source),
                    packets: 1,
                    contact: true,
                    port: source as u8,
                    ..Observation::default()
                };
                counts.record(&observation, now);
                let address = source_address(observation.key);
                let packets = packets.entry(address).or_default();
                *packets += 1;
                sent.insert(address, (*packets, 1 << source));
                if look {
                    let told = counts.samples(now, now).into_iter();
                    let told: BTreeMap<_, _> = told
                        .map(|sample| (sample.source, (sample.counters.packets, sample.counters.ports)))
                        .collect();
                    prop_assert_eq!(told, std::mem::take(&mut sent));
                }
            }
        }
    }
}
