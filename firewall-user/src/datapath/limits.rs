//! How much of the table of limits is in use, read through the map's memory.

use anyhow::bail;
use aya::maps::Map;
use firewall_common::layout::{LIMIT_LINES, LimitLine};
use firewall_common::limit::ticks;
use memmap2::MmapMut;

use super::{clock, object};

/// The table's memory.
pub(super) struct LimitUse(MmapMut);

impl LimitUse {
    pub(super) fn of(map: Map) -> anyhow::Result<Self> {
        let Map::Array(table) = map else {
            bail!("map LIMIT_TABLE is no array");
        };
        let length = LIMIT_LINES as usize * size_of::<LimitLine>();
        Ok(Self(object::map_memory(&table, length)?))
    }

    /// Buckets that are not full; the others' places are free.
    pub(super) fn in_use(&self) -> u64 {
        let now = ticks(clock::monotonic());
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
        let buckets = self.0.chunks_exact(16).map(|bucket| {
            let (key, full) = bucket.split_at(8);
            (word(key), word(full))
        });
        buckets
            .filter(|(key, full)| *key != 0 && full.wrapping_sub(now) as i64 > 0)
            .count() as u64
    }
}
