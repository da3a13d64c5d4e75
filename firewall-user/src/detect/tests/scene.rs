//! A host whose traffic a test writes, and a detector that looks at it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use firewall_common::layout::{SourceCounters, TrafficKind};

use crate::detect::*;

pub const SECOND: Time = 1_000_000_000;
pub const START: Time = 1_700_000_000 * SECOND;

/// A host whose traffic a test writes packet by packet, and a detector that looks at it.
pub struct Scene {
    pub now: Time,
    pub tick: Time,
    /// A clock of entries of its own, that never goes back.
    pub entries: u64,
    pub host: HostCounts,
    pub sources: BTreeMap<IpAddr, SourceSample>,
    /// Who sent something since the last look.
    pub active: BTreeSet<IpAddr>,
    pub banned: HashSet<IpAddr>,
    pub detector: Detector,
    pub changes: Vec<AlertChange>,
}

impl Scene {
    pub fn new() -> Self {
        Self::ticking(SECOND / 4)
    }

    pub fn ticking(tick: Time) -> Self {
        Self {
            now: START,
            tick,
            entries: 0,
            host: HostCounts::default(),
            sources: BTreeMap::new(),
            active: BTreeSet::new(),
            banned: HashSet::new(),
            detector: Detector::from_zero(Config::default(), START),
            changes: Vec::new(),
        }
    }

    /// Ends a tick's time; bitmaps are cleared by reading.
    pub fn tick(&mut self) {
        self.now += self.tick;
        self.look();
    }

    pub fn look(&mut self) {
        self.changes.extend(self.detector.tick(&self.snapshot()));
        // Far enough for an entry to fall on one side of the look.
        self.entries += 1_000;
        for source in std::mem::take(&mut self.active) {
            if let Some(sample) = self.sources.get_mut(&source) {
                sample.counters.ports = 0;
                sample.counters.hosts = 0;
            }
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        let sources = self.active.iter();
        Snapshot {
            time: self.now,
            clock: self.entries,
            host: self.host,
            sources: sources
                .filter_map(|source| self.sources.get(source).copied())
                .collect(),
            banned: self.banned.clone(),
            ..Snapshot::default()
        }
    }

    /// Plays `each` once per tick for `seconds`.
    pub fn play(&mut self, seconds: f64, mut each: impl FnMut(&mut Self, f64)) {
        let ticks = (seconds * SECOND as f64 / self.tick as f64).round() as u64;
        for _ in 0..ticks {
            each(self, self.tick as f64 / SECOND as f64);
            self.tick();
        }
    }

    pub fn rest(&mut self, seconds: f64) {
        self.play(seconds, |_, _| {});
    }

    pub fn packets(
        &mut self,
        source: IpAddr,
        count: u64,
        kinds: &[TrafficKind],
    ) -> &mut SourceCounters {
        self.host.packets += count;
        self.host.bytes += count * 60;
        for kind in kinds {
            self.host.kinds[*kind as usize] += count;
        }
        self.active.insert(source);
        let sample = self.sources.entry(source).or_insert(SourceSample {
            source,
            counters: SourceCounters::default(),
            entered: self.entries,
            last_seen: self.now,
        });
        sample.last_seen = self.now;
        sample.counters.packets += count;
        sample.counters.bytes += count * 60;
        &mut sample.counters
    }

    pub fn syns(&mut self, source: IpAddr, count: u64, port: u16) -> &mut SourceCounters {
        let counters = self.packets(source, count, &[TrafficKind::Tcp, TrafficKind::Syn]);
        counters.syns = counters.syns.wrapping_add(count as u32);
        counters.ports |= bit(u64::from(port));
        counters.hosts |= bit(1);
        counters
    }

    /// Whole connections: SYN, ACK, data, FIN.
    pub fn connections(&mut self, source: IpAddr, count: u64, port: u16) {
        self.syns(source, count, port);
        self.packets(source, count * 3, &[TrafficKind::Tcp]);
    }

    pub fn fired(&self) -> Vec<(AlertKind, String)> {
        self.changes
            .iter()
            .filter(|change| matches!(change, AlertChange::Fired(_)))
            .map(|change| (change.alert().kind, change.alert().subject.to_string()))
            .collect()
    }

    pub fn resolved(&self) -> Vec<&Alert> {
        self.changes
            .iter()
            .filter_map(|change| match change {
                AlertChange::Resolved(alert) => Some(alert),
                _ => None,
            })
            .collect()
    }

    /// What must hold of any one incident: one alert of this kind and subject, which ends.
    pub fn expect_one(&self, kind: AlertKind, subject: &str) -> &Alert {
        assert_eq!(self.fired(), [(kind, subject.to_owned())]);
        let resolved = self.resolved();
        assert_eq!(resolved.len(), 1, "{resolved:?}");
        assert_eq!(self.detector.active().count(), 0);
        let alert = resolved[0];
        let ended = alert.ended.unwrap();
        assert!(alert.started <= alert.detected && alert.detected <= ended);
        assert!(alert.observed >= alert.expected);
        assert!(!alert.why.is_empty() && !alert.evidence.is_empty());
        alert
    }
}

/// One of 64 bits by splitmix64, as the kernel spreads ports and hosts.
pub fn bit(item: u64) -> u64 {
    let mut hash = item.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    1 << ((hash ^ hash >> 31) >> 58)
}

pub fn client(number: u32) -> IpAddr {
    match number {
        0..256 => Ipv4Addr::from(0xc633_6400 + number).into(),
        // A crowd comes from everywhere.
        _ => Ipv4Addr::from(0x4000_0000 | scattered(number)).into(),
    }
}

pub fn forged(number: u64) -> IpAddr {
    Ipv4Addr::from(0x0b00_0000 | scattered(number as u32)).into()
}

/// Another number below 2^24 for each below 2^24, in no order.
fn scattered(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b1) & 0x00ff_ffff
}
