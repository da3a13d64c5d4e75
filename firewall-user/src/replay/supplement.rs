//! Counts for the frames that the kernel's test run cannot take, kept as the kernel would have
//! kept them, and added to what it did count.

use std::collections::HashMap;

use firewall_common::decide;
use firewall_common::layout::{Connection, Counter, FlowKey, HostKinds, SourceCounters};
use firewall_common::sources::{self, Observation};
use firewall_common::{Direction, Reason, Verdict};

use super::outcome::Outcome;
use crate::detect::{HostCounts, Snapshot, SourceSample, Time};
use crate::engine::{HostEngine, kind_counts, source_address};

#[derive(Debug)]
pub(super) struct Supplement {
    packets: u64,
    /// The counters that are reported, and what the host engine added to each.
    counters: Vec<u32>,
    hits: Vec<Counter>,
    host: HostCounts,
    outbound: HostKinds,
    sources: HashMap<u64, Account>,
}

/// What one source added, and what stands beside it in the kernel's table.
#[derive(Debug, Default)]
struct Account {
    own: SourceCounters,
    /// As the latest snapshot that had the source said.
    kernel: SourceCounters,
    /// On the engine's clock.
    entered: Time,
    last_seen: Time,
    /// Whether anything was added since the latest snapshot.
    is_active: bool,
}

impl Supplement {
    pub fn new(counters: Vec<u32>) -> Self {
        Self {
            packets: 0,
            hits: vec![Counter::default(); counters.len()],
            counters,
            host: HostCounts::default(),
            outbound: HostKinds::default(),
            sources: HashMap::new(),
        }
    }

    /// Frames judged so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Lets the host engine judge a frame and remembers what it counted. With the outcome comes
    /// the connection that the packet belongs to, if it belongs to one now.
    pub fn judge(
        &mut self,
        host: &mut HostEngine,
        frame: &[u8],
        direction: Direction,
        now: Time,
    ) -> (Outcome, Option<(FlowKey, Connection)>) {
        // Such frames are rare, so that going through all rules for each is no matter.
        for (counter, hits) in self.counters.iter().zip(&mut self.hits) {
            let before = host.hits(*counter);
            hits.packets = hits.packets.wrapping_sub(before.packets);
            hits.bytes = hits.bytes.wrapping_sub(before.bytes);
        }
        let judged = host.judge(frame, direction, now);
        for (counter, hits) in self.counters.iter().zip(&mut self.hits) {
            let after = host.hits(*counter);
            hits.packets = hits.packets.wrapping_add(after.packets);
            hits.bytes = hits.bytes.wrapping_add(after.bytes);
        }
        self.packets += 1;
        let outcome = Outcome::from(judged.judgement);
        let mut kinds = HostKinds::default();
        kind_counts(&judged.packet, &mut kinds);
        let kept = match direction {
            Direction::Inbound => {
                self.host.packets += 1;
                self.host.bytes += u64::from(judged.packet.length);
                self.host.drops += u64::from(outcome.verdict == Verdict::Drop);
                &mut self.host.kinds
            }
            Direction::Outbound => &mut self.outbound.counts,
        };
        for (sum, count) in kept.iter_mut().zip(kinds.counts) {
            *sum += count;
        }
        if sources::is_accounted(direction) {
            let established = outcome.reason == Reason::Established;
            self.record(
                &sources::observe(&judged.packet, outcome.verdict, established),
                now,
            );
        }
        if let Some(refusal) = sources::observe_refusal(&judged.packet) {
            self.record(&refusal, now);
        }
        let key = decide::flow_key(&judged.packet, direction);
        (
            outcome,
            host.connection(&key).map(|connection| (key, connection)),
        )
    }

    fn record(&mut self, observation: &Observation, now: Time) {
        let account = self.sources.entry(observation.key);
        let account = account.or_insert_with(|| Account {
            entered: now,
            ..Account::default()
        });
        account.last_seen = now;
        account.is_active = true;
        let counters = &mut account.own;
        counters.packets += u64::from(observation.packets);
        counters.bytes += u64::from(observation.bytes);
        counters.drops += u64::from(observation.drops);
        counters.syns += observation.syns;
        counters.requests += observation.requests;
        counters.failed += observation.failed;
        if observation.contact {
            counters.ports |= 1 << (observation.port % 64);
            counters.hosts |= 1 << (observation.host % 64);
        }
    }

    /// Adds the hits to the kernel's, which are in the order of the counters.
    pub fn add_hits(&self, hits: &mut [Counter]) {
        for (sum, own) in hits.iter_mut().zip(&self.hits) {
            sum.packets += own.packets;
            sum.bytes += own.bytes;
        }
    }

    /// Adds the counts to a snapshot of the kernel's, taken at `now` on the engine's clock.
    pub fn add_to(&mut self, snapshot: &mut Snapshot, now: Time) {
        if self.packets == 0 {
            return;
        }
        snapshot.host.packets += self.host.packets;
        snapshot.host.bytes += self.host.bytes;
        snapshot.host.drops += self.host.drops;
        let inbound = snapshot.host.kinds.iter_mut().zip(self.host.kinds);
        let outbound = snapshot
            .host
            .kinds_outbound
            .iter_mut()
            .zip(self.outbound.counts);
        for (sum, own) in inbound.chain(outbound) {
            *sum += own;
        }
        let mut places: HashMap<_, _> = snapshot
            .sources
            .iter_mut()
            .map(|sample| (sample.source, sample))
            .collect();
        let mut others = Vec::new();
        for (key, account) in &mut self.sources {
            let seen = now.saturating_sub(account.last_seen);
            let last_seen = snapshot.time.saturating_sub(seen);
            let entered = account.entered / 1_000_000;
            let source = source_address(*key);
            let told = match places.get_mut(&source) {
                Some(sample) => {
                    account.kernel = sample.counters;
                    account.kernel.ports = 0;
                    account.kernel.hosts = 0;
                    sample.last_seen = sample.last_seen.max(last_seen);
                    sample.entered = sample.entered.min(entered);
                    add(&mut sample.counters, &account.own);
                    true
                }
                None if account.is_active => {
                    let mut counters = account.kernel;
                    add(&mut counters, &account.own);
                    others.push(SourceSample {
                        source,
                        counters,
                        entered,
                        last_seen,
                    });
                    true
                }
                None => false,
            };
            if told {
                account.is_active = false;
                account.own.ports = 0;
                account.own.hosts = 0;
            }
        }
        snapshot.sources.extend(others);
    }
}

fn add(sum: &mut SourceCounters, own: &SourceCounters) {
    sum.packets += own.packets;
    sum.bytes += own.bytes;
    sum.drops += own.drops;
    sum.syns = sum.syns.wrapping_add(own.syns);
    sum.requests = sum.requests.wrapping_add(own.requests);
    sum.failed = sum.failed.wrapping_add(own.failed);
    sum.ports |= own.ports;
    sum.hosts |= own.hosts;
}
