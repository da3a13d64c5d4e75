//! Reads and writes the pinned maps: bans, counters, sources.

use std::os::fd::AsFd;

use anyhow::Context;
use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use firewall_common::bans::MAX_PREFIXES;
use firewall_common::cookies::CookieCounts;
use firewall_common::layout::{
    CONNECTIONS, Connection, Counter, FlowKey, Health, HostKinds, LIMIT_LINES, SOURCE_BUCKETS,
    SOURCE_WAYS, SourceBody, SourceHeads, TRAFFIC_KINDS, Uses,
};
use firewall_common::limit::table::WAYS;
use memmap2::MmapMut;

use super::bans::BanTable;
use super::cookies::CookieTable;
use super::limits::LimitUse;
use super::object::{map_memory, source_buckets};
use super::{MapUse, sys};
use crate::detect::{SourceSample, Time};
use crate::engine::source_sample;

/// Open handles on the pinned maps.
pub(super) struct Maps {
    bans: BanTable,
    verdicts: PerCpuArray<MapData, Counter>,
    rule_hits: PerCpuArray<MapData, Counter>,
    rule_uses: PerCpuArray<MapData, Uses>,
    limited: PerCpuArray<MapData, Counter>,
    limits: LimitUse,
    host_kinds: PerCpuArray<MapData, HostKinds>,
    health: PerCpuArray<MapData, Health>,
    cookies: CookieTable,
    connections: MapData,
    heads: MmapMut,
    bodies: MmapMut,
    stripes: usize,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps")
            .field("stripes", &self.stripes)
            .finish_non_exhaustive()
    }
}

impl Maps {
    /// Takes the maps from where `open` finds them by name: pins, or programs just loaded.
    pub(super) fn open(mut open: impl FnMut(&str) -> anyhow::Result<Map>) -> anyhow::Result<Self> {
        let Map::Array(sources) = open("SOURCES")? else {
            anyhow::bail!("map SOURCES is no array");
        };
        let Map::Array(counters) = open("SOURCE_COUNTERS")? else {
            anyhow::bail!("map SOURCE_COUNTERS is no array");
        };
        let Map::LruHashMap(connections) = open("CONNECTION_TABLE")? else {
            anyhow::bail!("map CONNECTION_TABLE is no LRU hash map");
        };
        let buckets = source_buckets()? as usize;
        Ok(Self {
            bans: BanTable::open(&mut open)?,
            verdicts: open("VERDICTS")?.try_into()?,
            rule_hits: open("RULE_HITS")?.try_into()?,
            rule_uses: open("RULE_USES")?.try_into()?,
            limited: open("LIMITED")?.try_into()?,
            limits: LimitUse::of(open("LIMIT_TABLE")?)?,
            host_kinds: open("HOST_KINDS")?.try_into()?,
            health: open("HEALTH")?.try_into()?,
            cookies: CookieTable::open(&mut open)?,
            connections,
            heads: map_memory(&sources, buckets * size_of::<SourceHeads>())?,
            bodies: map_memory(&counters, buckets * size_of::<SourceBody>())?,
            stripes: buckets / SOURCE_BUCKETS as usize,
        })
    }

    /// Takes `bans` for its handle; gives the one it had.
    pub(super) fn share_bans(&mut self, bans: BanTable) -> BanTable {
        std::mem::replace(&mut self.bans, bans)
    }

    pub(super) fn bans(&self) -> &BanTable {
        &self.bans
    }

    pub(super) fn cookies(&mut self) -> &mut CookieTable {
        &mut self.cookies
    }

    pub(super) fn cookie_counts(&self) -> anyhow::Result<CookieCounts> {
        self.cookies.counts()
    }

    pub(super) fn verdict(&self, index: u32) -> anyhow::Result<Counter> {
        sum(&self.verdicts, index)
    }

    pub(super) fn rule_hits(&self, counter: u32) -> anyhow::Result<Counter> {
        sum(&self.rule_hits, counter)
    }

    /// Connections and requests that a rule let in.
    pub(super) fn rule_uses(&self, counter: u32) -> anyhow::Result<Uses> {
        let mut total = Uses::default();
        for cpu in self.rule_uses.get(&counter, 0)?.iter() {
            total.connections += cpu.connections;
            total.requests += cpu.requests;
        }
        Ok(total)
    }

    /// Packets and bytes over the limit of a rule.
    pub(super) fn limited(&self, counter: u32) -> anyhow::Result<Counter> {
        sum(&self.limited, counter)
    }

    /// Packets by kind, inbound and outbound.
    pub(super) fn kinds(&self) -> anyhow::Result<[[u64; TRAFFIC_KINDS]; 2]> {
        let mut kinds = [[0; TRAFFIC_KINDS]; 2];
        for (direction, counts) in kinds.iter_mut().enumerate() {
            for cpu in self.host_kinds.get(&(direction as u32), 0)?.iter() {
                for (total, count) in counts.iter_mut().zip(cpu.counts) {
                    *total += count;
                }
            }
        }
        Ok(kinds)
    }

    pub(super) fn health(&self) -> anyhow::Result<Health> {
        let mut total = Health::default();
        for cpu in self.health.get(&0, 0)?.iter() {
            total.thinning.withheld += cpu.thinning.withheld;
            total.events_lost += cpu.events_lost;
            total.connections_refused += cpu.connections_refused;
            total.sources_contended += cpu.sources_contended;
        }
        Ok(total)
    }

    /// Every source, the stripes of all CPUs added up. `now` on the packet clock is `time`.
    pub(super) fn sources(&mut self, clear: bool, now: u64, time: Time) -> Vec<SourceSample> {
        let mut samples: Vec<SourceSample> = Vec::new();
        let buckets = SOURCE_BUCKETS as usize;
        for index in 0..buckets {
            // A source has the same bucket in every stripe.
            let from = samples.len();
            for stripe in 0..self.stripes {
                let at = stripe * buckets + index;
                // Most of the table is empty most of the time: one line says so.
                let heads = self.heads(at);
                if heads.keys == [0; SOURCE_WAYS] {
                    continue;
                }
                let body = self.body(at);
                for way in 0..SOURCE_WAYS {
                    let Some(sample) = source_sample(&heads, &body, way, now, time) else {
                        continue;
                    };
                    match samples[from..]
                        .iter_mut()
                        .find(|known| known.source == sample.source)
                    {
                        Some(known) => merge(known, &sample),
                        None => samples.push(sample),
                    }
                    if clear && body.counters[way].ports | body.counters[way].hosts != 0 {
                        self.clear_bitmaps(at, way);
                    }
                }
            }
        }
        samples
    }

    /// How many sources the table holds, over all stripes.
    pub(super) fn source_entries(&self) -> u64 {
        let buckets = SOURCE_BUCKETS as usize * self.stripes;
        (0..buckets)
            .map(|at| self.heads(at).keys.iter().filter(|key| **key != 0).count() as u64)
            .sum()
    }

    #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
    fn heads(&self, index: usize) -> SourceHeads {
        let offset = index * size_of::<SourceHeads>();
        let bytes = &self.heads[offset..offset + size_of::<SourceHeads>()];
        // SAFETY: the slice has the size of the heads, and any bytes are such. The kernel may write
        // meanwhile: counts are then those of a moment before or after.
        unsafe { bytes.as_ptr().cast::<SourceHeads>().read_volatile() }
    }

    #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
    fn body(&self, index: usize) -> SourceBody {
        let offset = index * size_of::<SourceBody>();
        let bytes = &self.bodies[offset..offset + size_of::<SourceBody>()];
        // SAFETY: as in `heads`.
        unsafe { bytes.as_ptr().cast::<SourceBody>().read_volatile() }
    }

    #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
    fn clear_bitmaps(&mut self, index: usize, way: usize) {
        let offset = index * size_of::<SourceBody>();
        let bytes = &mut self.bodies[offset..offset + size_of::<SourceBody>()];
        // SAFETY: as in `heads`; both fields are aligned words. A bit that the kernel sets at this
        // very moment may be lost, as sampling allows.
        unsafe {
            let body = bytes.as_mut_ptr().cast::<SourceBody>();
            (&raw mut (*body).counters[way].ports).write_volatile(0);
            (&raw mut (*body).counters[way].hosts).write_volatile(0);
        }
    }

    /// A handle on the connection table.
    pub(super) fn connections(&self) -> anyhow::Result<HashMap<MapData, FlowKey, Connection>> {
        let descriptor = self.connections.fd().as_fd().try_clone_to_owned()?;
        let map = Map::LruHashMap(MapData::from_fd(descriptor)?);
        Ok(HashMap::try_from(map)?)
    }

    pub(super) fn map_use(&self) -> anyhow::Result<Vec<MapUse>> {
        let connections = sys::count_entries(
            self.connections.fd().as_fd(),
            size_of::<FlowKey>(),
            size_of::<Connection>(),
        )
        .context("counting connections")?;
        let bans = self.bans.len();
        Ok(vec![
            MapUse {
                map: "bans",
                entries: bans,
                capacity: u64::from(MAX_PREFIXES),
            },
            MapUse {
                map: "connections",
                entries: connections,
                capacity: u64::from(CONNECTIONS),
            },
            MapUse {
                map: "sources",
                entries: self.source_entries(),
                capacity: (SOURCE_BUCKETS as usize * self.stripes * SOURCE_WAYS) as u64,
            },
            MapUse {
                map: "limits",
                entries: self.limits.in_use(),
                capacity: u64::from(LIMIT_LINES) * WAYS as u64,
            },
        ])
    }
}

fn sum(map: &PerCpuArray<MapData, Counter>, index: u32) -> anyhow::Result<Counter> {
    let mut total = Counter::default();
    for cpu in map.get(&index, 0)?.iter() {
        total.packets += cpu.packets;
        total.bytes += cpu.bytes;
    }
    Ok(total)
}

fn merge(known: &mut SourceSample, more: &SourceSample) {
    let (to, from) = (&mut known.counters, &more.counters);
    to.packets += from.packets;
    to.bytes += from.bytes;
    to.drops += from.drops;
    to.syns = to.syns.wrapping_add(from.syns);
    to.requests = to.requests.wrapping_add(from.requests);
    to.failed = to.failed.wrapping_add(from.failed);
    to.ports |= from.ports;
    to.hosts |= from.hosts;
    // The earliest entry counts: a source that is new to one CPU only is not new.
    if (to.first_seen.wrapping_sub(from.first_seen) as i32) > 0 {
        to.first_seen = from.first_seen;
    }
    known.last_seen = known.last_seen.max(more.last_seen);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use firewall_common::layout::SourceCounters;

    use super::*;

    #[test]
    fn a_source_entered_when_the_first_cpu_saw_it() {
        let seen = |first_seen: u32, packets: u64| SourceSample {
            source: Ipv4Addr::new(198, 51, 100, 1).into(),
            counters: SourceCounters {
                packets,
                first_seen,
                ..SourceCounters::default()
            },
            last_seen: 0,
        };
        // Also across the wrap of the milliseconds.
        for (first, second, earliest) in [(900, 5, 5), (5, 900, 5), (3, u32::MAX, u32::MAX)] {
            let mut known = seen(first, 10);
            merge(&mut known, &seen(second, 1));
            assert_eq!(known.counters.first_seen, earliest);
            assert_eq!(known.counters.packets, 11);
        }
    }
}
