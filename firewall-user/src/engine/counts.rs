//! Source buckets and kinds, as the kernel keeps them, and what a detector is told of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::Direction;
use firewall_common::layout::{HostKinds, SOURCE_WAYS, SourceBucket};
use firewall_common::packet::Packet;
use firewall_common::sources::{self, Observation};

use crate::detect::{SourceSample, Time};

/// Seed of the source hash where no attacker can exploit it being known.
const SEED: u32 = 0x5bd1_e995;

#[derive(Debug)]
pub(super) struct Counts {
    buckets: Vec<SourceBucket>,
    pub(super) kinds: [HostKinds; 2],
}

impl Counts {
    /// `buckets` is a power of two.
    pub(super) fn new(buckets: u32) -> Self {
        Self {
            buckets: vec![SourceBucket::default(); buckets as usize],
            kinds: [HostKinds::default(); 2],
        }
    }

    #[inline]
    pub(super) fn record(&mut self, observation: &Observation, now: u64) {
        let index = sources::bucket_index(observation.key, SEED, self.buckets.len() as u32);
        sources::record(&mut self.buckets[index as usize], observation, now);
    }

    #[inline]
    pub(super) fn kinds(&mut self, packet: &Packet, direction: Direction) {
        kind_counts(packet, &mut self.kinds[direction as usize]);
    }

    pub(super) fn samples(&mut self, now: u64, time: Time) -> Vec<SourceSample> {
        let mut samples = Vec::new();
        for bucket in &mut self.buckets {
            for way in 0..SOURCE_WAYS {
                if let Some(sample) = source_sample(bucket, way, now, time) {
                    samples.push(sample);
                    bucket.counters[way].ports = 0;
                    bucket.counters[way].hosts = 0;
                }
            }
        }
        samples
    }
}

/// Adds a packet to the counts of its kinds.
#[inline]
pub fn kind_counts(packet: &Packet, kinds: &mut HostKinds) {
    sources::kinds(packet, |kind| kinds.counts[kind as usize] += 1);
}

/// What one way of a bucket holds; `now` on the packet clock is `time` on the calendar.
pub fn source_sample(
    bucket: &SourceBucket,
    way: usize,
    now: u64,
    time: Time,
) -> Option<SourceSample> {
    let key = bucket.keys[way];
    if key == 0 {
        return None;
    }
    // Milliseconds wrap after 49 days; the age does not, as long as it is less than that.
    let age = ((now / 1_000_000) as u32).wrapping_sub(bucket.last_seen[way]);
    let age = if age > u32::MAX / 2 { 0 } else { age };
    Some(SourceSample {
        source: source_address(key),
        counters: bucket.counters[way],
        last_seen: time.saturating_sub(u64::from(age) * 1_000_000),
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
