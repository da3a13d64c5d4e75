//! The bans in memory: what user space writes and the packet path reads (`firewall_common::bans`).
//! The same code serves the kernel's mapped arrays and the host engine's own memory.

mod exact;
mod filter;
mod memory;

use firewall_common::Address;
use firewall_common::bans::{Bans, HEADER_LIMIT, LIMITED, MAX_PREFIXES, tick_of};
use firewall_common::layout::BanKey;
use firewall_common::limit::Limit;
use ipnet::IpNet;
use thiserror::Error;

pub use memory::{BucketCopy, Memory, Shape};

use filter::Filter;

/// Why a prefix cannot be banned.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    #[error("the table of bans is full: it takes {MAX_PREFIXES} prefixes of each family")]
    Full,
    #[error("there is no memory for a table of bans")]
    NoMemory,
    #[error("a ban of all addresses is a policy: set defaults.inbound = \"drop\"")]
    Everything,
}

/// A set of bans.
#[derive(Debug)]
pub struct BanSet {
    memory: Memory,
    filter: Filter,
}

impl BanSet {
    /// An empty set in memory of this process alone.
    pub fn private() -> Result<Self, Refused> {
        let memory = Memory::private().map_err(|_| Refused::NoMemory)?;
        // Nobody can aim at the buckets of one's own recording.
        memory.seed_with(|| 1);
        let filter = Filter::default();
        Ok(Self { memory, filter })
    }

    /// Takes over what `memory` holds, and mends what a writer that died halfway left.
    pub fn open(memory: Memory, seed: impl FnOnce() -> u64) -> Self {
        let fresh = memory.seed() == 0;
        memory.seed_with(seed);
        let mut filter = Filter::default();
        if fresh {
            // Nobody has written to it yet, and to look through all of it takes a tenth of a second that a host
            // stands open at its start.
            return Self { memory, filter };
        }
        exact::mend(&memory);
        for (key, _) in exact::all(&memory) {
            filter.count(&key, true, memory.seed(), |_, _| {});
        }
        filter.write_all(&memory);
        Self { memory, filter }
    }

    /// Bans a prefix until `until`, CLOCK_MONOTONIC nanoseconds (`u64::MAX` is without end). Replaces
    /// the ban of the same prefix.
    pub fn insert(&mut self, prefix: IpNet, until: u64) -> Result<(), Refused> {
        self.put(prefix, tick_of(until))
    }

    /// As [`Self::insert`], but the prefix is held to the automatic limit instead of banned.
    pub fn limit(&mut self, prefix: IpNet, until: u64) -> Result<(), Refused> {
        self.put(prefix, tick_of(until) | LIMITED)
    }

    /// What those who are held to the automatic limit may send: a number of packets, each prefix for itself.
    pub fn set_limit(&mut self, limit: &Limit) {
        for (word, value) in (HEADER_LIMIT..).zip(limit.words()) {
            self.memory.set_filter(word, value);
        }
    }

    fn put(&mut self, prefix: IpNet, end: u64) -> Result<(), Refused> {
        let key = ban_key(prefix);
        if prefix.prefix_len() == 0 {
            return Err(Refused::Everything);
        }
        if exact::change(&self.memory, &key, end) {
            return Ok(());
        }
        if self.filter.total(&key) >= u64::from(MAX_PREFIXES) {
            return Err(Refused::Full);
        }
        exact::insert(&self.memory, &key, end)?;
        // The packet path sees the ban once the last of its bits is there.
        self.filter.add(&self.memory, &key);
        Ok(())
    }

    /// Lifts a ban; whether there was one.
    pub fn remove(&mut self, prefix: IpNet) -> bool {
        let key = ban_key(prefix);
        let known = exact::remove(&self.memory, &key);
        if known {
            self.filter.remove(&self.memory, &key);
        }
        known
    }

    /// Every ban and limit with its end in nanoseconds (`u64::MAX` is none), ended ones included.
    pub fn iter(&self) -> impl Iterator<Item = (BanKey, u64)> {
        // Each ban is counted: without any there is nothing to look for.
        let memory = (!self.is_empty()).then_some(&self.memory);
        memory.into_iter().flat_map(exact::all)
    }

    /// How many bans there are.
    pub fn len(&self) -> u64 {
        self.filter.all()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Bans for BanSet {
    type Bucket = BucketCopy;

    #[inline]
    fn ban_filter(&self, word: u32) -> u64 {
        self.memory.filter(word)
    }

    #[inline]
    fn bans_v4(&self, bucket: u32) -> Option<BucketCopy> {
        self.memory.bucket_v4(bucket)
    }

    #[inline]
    fn bans_v6(&self, bucket: u32) -> Option<BucketCopy> {
        self.memory.bucket_v6(bucket)
    }

    #[inline]
    fn forget_bits(&mut self, bits: u64) -> u64 {
        bits
    }
}

/// The key under which a prefix is banned.
pub fn ban_key(prefix: IpNet) -> BanKey {
    let (address, before) = match prefix {
        IpNet::V4(v4) => (Address::v4(v4.network().to_bits()), 96),
        IpNet::V6(v6) => {
            let bits = v6.network().to_bits();
            (Address::v6((bits >> 64) as u64, bits as u64), 0)
        }
    };
    BanKey::new(address, before + u32::from(prefix.prefix_len()))
}

/// The prefix of a ban's key.
pub fn prefix_of(key: &BanKey) -> Option<IpNet> {
    let address = key.address;
    if let Some(length) = v4_length(key) {
        let v4 = std::net::Ipv4Addr::from_bits(address.as_v4());
        return IpNet::new(v4.into(), length as u8).ok();
    }
    let bits = u128::from(address.high) << 64 | u128::from(address.low);
    IpNet::new(std::net::Ipv6Addr::from_bits(bits).into(), key.length as u8).ok()
}

/// The length of an IPv4 prefix as written, or `None` for IPv6.
fn v4_length(key: &BanKey) -> Option<u32> {
    (key.address.is_v4() && key.length > 96).then(|| key.length - 96)
}

#[cfg(test)]
mod tests;
