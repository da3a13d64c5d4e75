//! The kernel's table of bans. A handle of its own, since a ban must not wait for a policy that is
//! being loaded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use aya::maps::Map;
use firewall_common::limit::Limit;
use ipnet::IpNet;
use memmap2::MmapMut;

use super::object::map_memory;
use super::{ActiveBan, clock};
use crate::bans::{BanSet, Memory, Shape, prefix_of};
use crate::engine::nanoseconds;

/// A handle on the bans in force; clones share it.
#[derive(Clone)]
pub struct BanTable(Arc<Mutex<BanSet>>);

impl std::fmt::Debug for BanTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BanTable").finish_non_exhaustive()
    }
}

impl BanTable {
    pub(super) fn open(open: &mut impl FnMut(&str) -> anyhow::Result<Map>) -> anyhow::Result<Self> {
        let mut map = |name: &str, shape: Shape| -> anyhow::Result<MmapMut> {
            let Map::Array(array) = open(name)? else {
                anyhow::bail!("map {name} is no array");
            };
            map_memory(&array, shape.size())
        };
        let memory = Memory::shared(
            map("BAN_FILTER", Memory::FILTER)?,
            map("BANS_V4", Memory::V4)?,
            map("BANS_V6", Memory::V6)?,
        )?;
        Ok(Self::over(BanSet::open(memory, seed)))
    }

    /// A table that no program reads, for tests.
    #[cfg(test)]
    pub fn unread() -> Self {
        Self::over(BanSet::private().expect("memory"))
    }

    fn over(set: BanSet) -> Self {
        Self(Arc::new(Mutex::new(set)))
    }

    /// Lets every handle see the table of `other`, which was opened anew.
    pub(super) fn follow(&self, other: Self) -> anyhow::Result<()> {
        let other = Arc::into_inner(other.0).context("the table opened anew is shared already")?;
        *self.lock() = other.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(())
    }

    /// Bans a prefix for `duration`; `None` is without end. Replaces the ban of the same prefix.
    pub fn ban(&self, prefix: IpNet, duration: Option<Duration>) -> anyhow::Result<()> {
        self.lock()
            .insert(prefix, end(duration))
            .with_context(|| format!("banning {prefix}"))
    }

    /// As [`Self::ban`], but the prefix is held to the automatic limit.
    pub fn limit(&self, prefix: IpNet, duration: Option<Duration>) -> anyhow::Result<()> {
        self.lock()
            .limit(prefix, end(duration))
            .with_context(|| format!("limiting {prefix}"))
    }

    /// How much those who are held to the automatic limit may send.
    pub fn set_limit(&self, limit: &Limit) {
        self.lock().set_limit(limit);
    }

    /// Lifts a ban; whether there was one.
    pub fn unban(&self, prefix: IpNet) -> bool {
        self.lock().remove(prefix)
    }

    /// Bans in force; those that have ended are removed.
    pub fn bans(&self) -> Vec<ActiveBan> {
        let mut bans = self.lock();
        let now = clock::monotonic();
        let mut ended = Vec::new();
        let mut active = Vec::new();
        for (key, until) in bans.iter() {
            let Some(prefix) = prefix_of(&key) else {
                continue;
            };
            if until <= now {
                ended.push(prefix);
            } else {
                let remaining = (until != u64::MAX).then(|| Duration::from_nanos(until - now));
                active.push(ActiveBan {
                    prefix,
                    remaining,
                    limited: key.limited != 0,
                });
            }
        }
        for prefix in ended {
            bans.remove(prefix);
        }
        active
    }

    /// How many prefixes are in the table.
    pub(super) fn len(&self) -> u64 {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BanSet> {
        // A panic while a ban is written leaves the kernel's table as it is, which is consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of what lasts for `duration` from now.
fn end(duration: Option<Duration>) -> u64 {
    duration.map_or(u64::MAX, |time| {
        clock::monotonic().saturating_add(nanoseconds(time))
    })
}

/// A seed that a sender of packets cannot know.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(clock::realtime())
}
