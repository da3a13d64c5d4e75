//! The kernel's table of bans. A handle of its own, since a ban must not wait for a policy that is
//! being loaded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use aya::maps::{Array, HashMap, Map, MapData};
#[cfg(test)]
use firewall_common::layout::BAN_LENGTH_WORDS;
use firewall_common::layout::{Ban, BanKey};
use ipnet::IpNet;

use super::object::words;
use super::{ActiveBan, clock};
use crate::engine::{BanLengths, ban_key, nanoseconds};

/// A handle on the bans in force; clones share it.
#[derive(Clone)]
pub struct BanTable(Arc<Mutex<Bans>>);

struct Bans {
    table: HashMap<MapData, BanKey, Ban>,
    lengths: Array<MapData, u64>,
    by_length: BanLengths,
}

impl std::fmt::Debug for BanTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BanTable").finish_non_exhaustive()
    }
}

impl BanTable {
    pub(super) fn open(open: &mut impl FnMut(&str) -> anyhow::Result<Map>) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Bans::open(open)?))))
    }

    /// A table that no program reads, for tests; `None` where the kernel grants none.
    #[cfg(test)]
    pub fn unread() -> Option<Self> {
        let table = HashMap::create(1024, 0).ok()?;
        let lengths = Array::create(BAN_LENGTH_WORDS, 0).ok()?;
        Some(Self(Arc::new(Mutex::new(Bans {
            table,
            lengths,
            by_length: BanLengths::default(),
        }))))
    }

    /// Lets every handle see the table of `other`, which was opened anew.
    pub(super) fn follow(&self, other: Self) -> anyhow::Result<()> {
        let other = Arc::into_inner(other.0).context("the table opened anew is shared already")?;
        *self.lock() = other.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(())
    }

    /// Bans a prefix for `duration`; `None` is without end. Replaces the ban of the same prefix.
    pub fn ban(&self, prefix: IpNet, duration: Option<Duration>) -> anyhow::Result<()> {
        let until = duration.map_or(u64::MAX, |time| {
            clock::monotonic().saturating_add(nanoseconds(time))
        });
        self.lock()
            .insert(ban_key(prefix), until)
            .with_context(|| format!("banning {prefix}"))
    }

    /// Lifts a ban; whether there was one.
    pub fn unban(&self, prefix: IpNet) -> anyhow::Result<bool> {
        self.lock()
            .remove(&ban_key(prefix))
            .with_context(|| format!("unbanning {prefix}"))
    }

    /// Bans in force; those that have ended are removed.
    pub fn bans(&self) -> anyhow::Result<Vec<ActiveBan>> {
        let mut bans = self.lock();
        let now = clock::monotonic();
        let mut ended = Vec::new();
        let mut active = Vec::new();
        for entry in &bans.table {
            let (key, ban) = entry?;
            if ban.until <= now {
                ended.push(key);
            } else if let Some(prefix) = prefix_of(&key) {
                let remaining =
                    (ban.until != u64::MAX).then(|| Duration::from_nanos(ban.until - now));
                active.push(ActiveBan { prefix, remaining });
            }
        }
        for key in ended {
            bans.remove(&key)?;
        }
        Ok(active)
    }

    /// How many prefixes are in the table.
    pub(super) fn len(&self) -> u64 {
        self.lock().by_length.total()
    }

    fn lock(&self) -> MutexGuard<'_, Bans> {
        // A panic while a ban is written leaves the kernel's table as it is, which is consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bans {
    fn open(open: &mut impl FnMut(&str) -> anyhow::Result<Map>) -> anyhow::Result<Self> {
        let mut bans = Self {
            table: open("BAN_TABLE")?.try_into()?,
            lengths: words(open("BAN_LENGTHS")?)?,
            by_length: BanLengths::default(),
        };
        for key in bans.table.keys() {
            bans.by_length.add(&key?)?;
        }
        bans.write_lengths(true)?;
        Ok(bans)
    }

    fn insert(&mut self, key: BanKey, until: u64) -> anyhow::Result<()> {
        let known = self.table.get(&key, 0).is_ok();
        if !known {
            self.by_length.add(&key)?;
        }
        // The entry before its length, so that a length is never looked up in vain.
        if let Err(error) = self.table.insert(key, Ban { until }, 0) {
            if !known {
                self.by_length.remove(&key);
            }
            return Err(error.into());
        }
        if !known {
            self.write_lengths(true)?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &BanKey) -> anyhow::Result<bool> {
        if self.table.remove(key).is_err() {
            return Ok(false);
        }
        self.by_length.remove(key);
        self.write_lengths(false)?;
        Ok(true)
    }

    /// Writes the list of lengths. One more length shifts those after it, so that a longer list is
    /// written from its end and a shorter one from its beginning: no length is missing meanwhile.
    fn write_lengths(&mut self, longer: bool) -> anyhow::Result<()> {
        let mut words: Vec<_> = self.by_length.words().into_iter().enumerate().collect();
        if longer {
            words.reverse();
        }
        for (index, word) in words {
            self.lengths.set(index as u32, word, 0)?;
        }
        Ok(())
    }
}

/// The prefix of a ban's key.
pub(super) fn prefix_of(key: &BanKey) -> Option<IpNet> {
    let address = key.address;
    if address.is_v4() && key.length >= 96 {
        let length = (key.length - 96) as u8;
        return IpNet::new(
            std::net::Ipv4Addr::from_bits(address.as_v4()).into(),
            length,
        )
        .ok();
    }
    let bits = u128::from(address.high) << 64 | u128::from(address.low);
    IpNet::new(std::net::Ipv6Addr::from_bits(bits).into(), key.length as u8).ok()
}
