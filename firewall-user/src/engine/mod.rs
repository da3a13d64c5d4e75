//! The host engine: the kernel program's own parser, decision and accounting over tables in
//! memory. It needs no privilege; `explain`, `replay` and the tests stand on it.

mod counts;
mod tables;
mod watch;

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

use firewall_common::decide::{self, Circumstances, Judgement, Step, Tables};
use firewall_common::image::{Field, constant};
use firewall_common::layout::{
    Connection, Counter, FlowKey, INTERFACES, SOURCE_BUCKETS, TOTALS, Uses, total_index,
};
use firewall_common::limit::Limit;
use firewall_common::packet::{self, Frame, NO_VLAN, Packet};
use firewall_common::signature::{SLOTS, SignatureTable};
use firewall_common::sources;
use firewall_common::{Direction, Reason, Verdict};
use ipnet::IpNet;

use crate::bans::Refused;
use crate::detect::{HostCounts, ServiceCounts, Sighting, SourceSample, Time};
use crate::policy::Compiled;

pub use counts::{SOURCE_SEED, kind_counts, source_address, source_sample};

/// A policy and its state, in memory.
#[derive(Debug)]
pub struct HostEngine {
    tables: tables::Memory,
    totals: Vec<Counter>,
    /// Their sums over all interfaces and reasons, as a replay asks for them many times a second.
    host: HostCounts,
    counts: counts::Counts,
    /// Present once somebody looks.
    watch: Option<watch::Watch>,
}

/// A judged frame.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    pub judgement: Judgement,
    pub packet: Packet,
}

impl HostEngine {
    /// An engine for a compiled policy.
    pub fn new(compiled: Compiled) -> Self {
        Self {
            tables: tables::Memory::new(compiled),
            totals: vec![Counter::default(); TOTALS as usize],
            host: HostCounts::default(),
            counts: counts::Counts::new(SOURCE_BUCKETS),
            watch: None,
        }
    }

    /// The compiled policy, given back.
    pub fn into_compiled(self) -> Compiled {
        self.tables.compiled
    }

    /// Judges and counts a frame. `now` is on the clock that the policy was compiled for.
    #[inline]
    pub fn judge(&mut self, frame: &[u8], direction: Direction, now: u64) -> Judged {
        self.judge_at(
            frame,
            NO_VLAN,
            direction,
            Circumstances { now, interface: 0 },
        )
    }

    /// As [`Self::judge`], on interface slot `at.interface` and with a VLAN tag that the hardware
    /// took off.
    #[inline]
    pub fn judge_at(
        &mut self,
        frame: &[u8],
        tag: u16,
        direction: Direction,
        at: Circumstances,
    ) -> Judged {
        let mut packet = Packet::default();
        packet::parse(&mut Frame::new(frame), tag, &mut packet);
        self.tables.take_frame(frame);
        let judgement = match direction {
            Direction::Inbound => decide::inbound(&packet, at, &mut self.tables),
            Direction::Outbound => {
                let mut reversed = Packet::default();
                decide::outbound(&packet, &mut reversed, at, &mut self.tables)
            }
        };
        self.count(&packet, judgement, direction, at);
        if let Some(watch) = &mut self.watch {
            watch.see(frame, &packet, judgement, direction, at);
        }
        Judged { judgement, packet }
    }

    /// Judges a frame and tells the steps. It is counted like any other.
    pub fn explain(
        &mut self,
        frame: &[u8],
        tag: u16,
        direction: Direction,
        at: Circumstances,
    ) -> (Judged, Vec<Step>) {
        self.tables.steps = Some(Vec::new());
        let judged = self.judge_at(frame, tag, direction, at);
        (judged, self.tables.steps.take().unwrap_or_default())
    }

    /// Judges a frame and tells the cache lines (64 bytes) of the compiled policy that were read for it, counted
    /// from its beginning: what a packet costs where none of them is near. It is counted like any other.
    pub fn judge_lines(
        &mut self,
        frame: &[u8],
        direction: Direction,
        now: u64,
    ) -> (Judged, Vec<u32>) {
        self.tables.lines = Some(RefCell::default());
        let judged = self.judge(frame, direction, now);
        let lines = self.tables.lines.take().unwrap_or_default().into_inner();
        (judged, lines.into_iter().collect())
    }

    #[inline]
    fn count(
        &mut self,
        packet: &Packet,
        judgement: Judgement,
        direction: Direction,
        at: Circumstances,
    ) {
        let index = total_index(
            at.interface % INTERFACES,
            direction as u32,
            judgement.verdict as u32,
            judgement.reason as u32,
        );
        let total = &mut self.totals[index as usize];
        let one = Counter {
            packets: 1,
            bytes: u64::from(packet.length),
        };
        total.packets += one.packets;
        total.bytes += one.bytes;
        self.host.add(direction, judgement.verdict, one);
        self.counts.kinds(packet, direction);
        if sources::is_accounted(direction) {
            let established = judgement.reason == Reason::Established;
            let observation = sources::observe(packet, judgement.verdict, established);
            self.counts.record(&observation, at.now);
        }
        if let Some(refusal) = sources::observe_refusal(packet) {
            self.counts.record(&refusal, at.now);
        }
    }

    /// Bans a prefix until `until` on the engine's clock.
    pub fn ban(&mut self, prefix: IpNet, until: u64) -> Result<(), Refused> {
        self.tables.ban(prefix, until)
    }

    /// Holds a prefix to a limit until `until` on the engine's clock.
    pub fn limit(&mut self, prefix: IpNet, until: u64, limit: &Limit) -> Result<(), Refused> {
        self.tables.limit(prefix, until, limit)
    }

    /// Lifts a ban; whether there was one.
    pub fn unban(&mut self, prefix: IpNet) -> bool {
        self.tables.unban(prefix)
    }

    /// Puts signatures in force.
    pub fn set_signatures(&mut self, mut table: SignatureTable) {
        table.state = table.needed_state();
        self.tables.signatures = table;
    }

    /// Enters a connection as if it had been opened.
    pub fn enter(&mut self, key: &FlowKey, connection: Connection) {
        Tables::insert_connection(&mut self.tables, key, connection);
    }

    /// The class that a field of the last packet fell into, if rules were asked about it; `None` for a
    /// field that no rule of the direction looks at.
    pub fn class(&self, direction: Direction, field: Field) -> Option<u32> {
        let table = Tables::constant(&self.tables, direction, constant::TABLES + field as usize);
        (table != 0).then(|| Tables::class(&self.tables, field as usize))
    }

    /// What the connection table holds under a key.
    pub fn connection(&self, key: &FlowKey) -> Option<Connection> {
        self.tables.connection(key)
    }

    /// Packets and bytes by verdict and reason, over all interfaces.
    pub fn totals(&self) -> Vec<(Direction, Verdict, Reason, Counter)> {
        let mut sums = Vec::new();
        for direction in [Direction::Inbound, Direction::Outbound] {
            for verdict in [Verdict::Pass, Verdict::Drop] {
                for reason in Reason::ALL {
                    let mut sum = Counter::default();
                    for interface in 0..INTERFACES {
                        let index =
                            total_index(interface, direction as u32, verdict as u32, reason as u32);
                        sum.packets += self.totals[index as usize].packets;
                        sum.bytes += self.totals[index as usize].bytes;
                    }
                    sums.push((direction, verdict, reason, sum));
                }
            }
        }
        sums
    }

    /// Packets and bytes of a rule, by its counter.
    pub fn hits(&self, counter: u32) -> Counter {
        self.tables
            .hits
            .get(counter as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Packets and bytes over the limit of a rule, by its counter.
    pub fn limited(&self, counter: u32) -> Counter {
        let limited = self.tables.limited.get(counter as usize);
        limited.copied().unwrap_or_default()
    }

    /// The name of a counter's rule: the policy's own, built-in link rules, or what the policy as a
    /// whole would have dropped while it only observes.
    pub fn rule_name(&self, counter: u32) -> Option<&str> {
        builtin_name(counter).or_else(|| self.tables.compiled.counters.name(counter))
    }

    /// The compiled policy.
    pub fn compiled(&self) -> &Compiled {
        &self.tables.compiled
    }

    /// Counts of the whole host.
    pub fn host_counts(&self) -> HostCounts {
        HostCounts {
            kinds: self.counts.kinds[0].counts,
            kinds_outbound: self.counts.kinds[1].counts,
            ..self.host
        }
    }

    /// The sources that sent something since the last call, as of `now`, which is `time` on the
    /// calendar; their bitmaps start anew.
    pub fn sources(&mut self, now: u64, time: Time) -> Vec<SourceSample> {
        self.counts.samples(now, time)
    }

    /// Samples packets from now on, as the kernel programs do, for [`Self::sightings`].
    pub fn watch(&mut self) {
        self.watch.get_or_insert_default();
    }

    /// The packets that were sampled since the last call, as of `now`, which is `time` on the calendar.
    pub fn sightings(&mut self, now: u64, time: Time) -> Vec<Sighting> {
        let watch = self.watch.as_mut();
        watch.map_or_else(Vec::new, |watch| watch.take(now, time))
    }

    /// Takes back what [`Self::sources`] and [`Self::sightings`] gave, for its room: a replay asks many times a second.
    pub fn give_back(&mut self, samples: Vec<SourceSample>, sightings: Vec<Sighting>) {
        self.counts.spare = samples;
        if let Some(watch) = &mut self.watch {
            watch.give_back(sightings);
        }
    }

    /// What use is made of the service of a rule, by the rule's name and counter.
    pub fn service(&self, name: &str, rule: u32) -> ServiceCounts {
        let uses = self
            .watch
            .as_ref()
            .map_or_else(Uses::default, |watch| watch.uses(rule));
        ServiceCounts::new(name, rule, self.hits(rule), uses)
    }
}

/// The name of a counter that belongs to no rule of a policy.
pub fn builtin_name(counter: u32) -> Option<&'static str> {
    use firewall_common::decide::{observed, signature};
    match counter {
        observed::MALFORMED => Some("observe:malformed"),
        observed::BAN => Some("observe:ban"),
        observed::DEFAULT_INBOUND => Some("observe:default-inbound"),
        observed::DEFAULT_OUTBOUND => Some("observe:default-outbound"),
        _ if counter.wrapping_sub(signature::FIRST_COUNTER) < SLOTS as u32 => Some(
            ["signature:1", "signature:2", "signature:3", "signature:4"]
                [(counter - signature::FIRST_COUNTER) as usize],
        ),
        _ => decide::LinkRule::ALL
            .into_iter()
            .find(|rule| *rule as u32 == counter)
            .map(decide::LinkRule::name),
    }
}

/// A duration as nanoseconds, no more than fit.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// An address as the standard library has it.
pub fn ip_address(address: firewall_common::Address) -> IpAddr {
    if address.is_v4() {
        IpAddr::V4(address.as_v4().into())
    } else {
        IpAddr::V6((u128::from(address.high) << 64 | u128::from(address.low)).into())
    }
}

/// An address in the form of the shared code.
pub fn address(address: IpAddr) -> firewall_common::Address {
    match address {
        IpAddr::V4(v4) => firewall_common::Address::v4(v4.to_bits()),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            firewall_common::Address::v6((bits >> 64) as u64, bits as u64)
        }
    }
}
