//! Reads and writes the pinned maps: bans, counters, sources.

use std::os::fd::AsFd;

use anyhow::Context;
use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use firewall_common::Direction;
use firewall_common::bans::MAX_PREFIXES;
use firewall_common::cookies::CookieCounts;
use firewall_common::layout::{
    CONNECTIONS, Connection, Counter, FlowKey, Health, HostKinds, LIMIT_LINES, SourceBody,
    SourceFronts, SourceHeads, TRAFFIC_KINDS, Uses,
};
use firewall_common::limit::table::WAYS;

use super::bans::BanTable;
use super::cookies::CookieTable;
use super::limits::LimitUse;
use super::object::map_memory;
use super::rule_counts::RuleCounts;
use super::signatures::SignatureSlots;
use super::sources::SourceTable;
use super::{MapUse, sys};

/// Open handles on the pinned maps.
pub(super) struct Maps {
    bans: BanTable,
    verdicts: PerCpuArray<MapData, Counter>,
    rule_hits: RuleCounts,
    rule_uses: RuleCounts,
    limited: RuleCounts,
    limits: LimitUse,
    signatures: SignatureSlots,
    host_kinds: PerCpuArray<MapData, HostKinds>,
    health: PerCpuArray<MapData, Health>,
    cookies: CookieTable,
    connections: MapData,
    sources: SourceTable,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

impl Maps {
    /// Takes the maps from where `open` finds them by name: pins, or programs just loaded.
    pub(super) fn open(mut open: impl FnMut(&str) -> anyhow::Result<Map>) -> anyhow::Result<Self> {
        let Map::Array(fronts) = open("SOURCE_FRONTS")? else {
            anyhow::bail!("map SOURCE_FRONTS is no array");
        };
        let Map::Array(sources) = open("SOURCES")? else {
            anyhow::bail!("map SOURCES is no array");
        };
        let Map::Array(counters) = open("SOURCE_COUNTERS")? else {
            anyhow::bail!("map SOURCE_COUNTERS is no array");
        };
        let Map::LruHashMap(connections) = open("CONNECTION_TABLE")? else {
            anyhow::bail!("map CONNECTION_TABLE is no LRU hash map");
        };
        let buckets = sources.info()?.max_entries() as usize;
        let cpus =
            aya::util::nr_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))?;
        Ok(Self {
            bans: BanTable::open(&mut open)?,
            verdicts: open("VERDICTS")?.try_into()?,
            rule_hits: RuleCounts::open("RULE_HITS", &mut open)?,
            rule_uses: RuleCounts::open("RULE_USES", &mut open)?,
            limited: RuleCounts::open("LIMITED", &mut open)?,
            limits: LimitUse::of(open("LIMIT_TABLE")?)?,
            signatures: SignatureSlots::of(open("SIGNATURES")?)?,
            host_kinds: open("HOST_KINDS")?.try_into()?,
            health: open("HEALTH")?.try_into()?,
            cookies: CookieTable::open(&mut open)?,
            connections,
            sources: SourceTable::new(
                map_memory(&fronts, buckets * size_of::<SourceFronts>())?,
                map_memory(&sources, buckets * size_of::<SourceHeads>())?,
                map_memory(&counters, buckets * size_of::<SourceBody>())?,
                buckets / cpus,
            ),
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

    pub(super) fn signatures(&mut self) -> &mut SignatureSlots {
        &mut self.signatures
    }

    pub(super) fn verdict(&self, index: u32) -> anyhow::Result<Counter> {
        sum(&self.verdicts, index)
    }

    pub(super) fn rule_hits(&self, counter: u32) -> Counter {
        self.rule_hits.counter(counter)
    }

    /// Connections and requests that a rule let in.
    pub(super) fn rule_uses(&self, counter: u32) -> Uses {
        self.rule_uses.uses(counter)
    }

    /// Packets and bytes over the limit of a rule.
    pub(super) fn limited(&self, counter: u32) -> Counter {
        self.limited.counter(counter)
    }

    /// Packets by kind, inbound and outbound.
    pub(super) fn kinds(&self) -> anyhow::Result<[[u64; TRAFFIC_KINDS]; 2]> {
        Ok([
            self.kinds_of(Direction::Inbound)?,
            self.kinds_of(Direction::Outbound)?,
        ])
    }

    /// Packets by kind of one direction.
    pub(super) fn kinds_of(&self, direction: Direction) -> anyhow::Result<[u64; TRAFFIC_KINDS]> {
        let mut kinds = [0; TRAFFIC_KINDS];
        for cpu in self.host_kinds.get(&(direction as u32), 0)?.iter() {
            for (total, count) in kinds.iter_mut().zip(cpu.counts) {
                *total += count;
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

    pub(super) fn sources(&mut self) -> &mut SourceTable {
        &mut self.sources
    }

    pub(super) fn source_table(&self) -> &SourceTable {
        &self.sources
    }

    /// A handle on the connection table.
    pub(super) fn connections(&self) -> anyhow::Result<HashMap<MapData, FlowKey, Connection>> {
        let descriptor = self.connections.fd().as_fd().try_clone_to_owned()?;
        let map = Map::LruHashMap(MapData::from_fd(descriptor)?);
        Ok(HashMap::try_from(map)?)
    }

    /// How full the tables are; and how many sources there are, which may have a place for each CPU.
    pub(super) fn map_use(&self) -> anyhow::Result<(Vec<MapUse>, u64)> {
        let connections = sys::count_entries(
            self.connections.fd().as_fd(),
            size_of::<FlowKey>(),
            size_of::<Connection>(),
        )
        .context("counting connections")?;
        let bans = self.bans.len();
        let (places, sources) = self.sources.count();
        let maps = vec![
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
                entries: places,
                capacity: self.sources.capacity(),
            },
            MapUse {
                map: "limits",
                entries: self.limits.in_use(),
                capacity: u64::from(LIMIT_LINES) * WAYS as u64,
            },
        ];
        Ok((maps, sources))
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
