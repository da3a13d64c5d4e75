//! What a campaign has seen, so that "they agree" can be told from "they were never asked".

use std::collections::BTreeMap;
use std::fmt;

use firewall_common::decide::Judgement;
use firewall_common::packet::{Fragment, Kind, NO_VLAN, Packet, mark, protocol};
use firewall_common::{Direction, Verdict};

/// Counts of judged pairs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Pairs of policy and packet that every judge judged.
    pub pairs: u64,
    pub policies: u64,
    /// Frames that the kernel's test run does not take; nobody judged them.
    pub not_taken: u64,
    /// The most rules and prefixes that a policy had.
    pub most_rules: usize,
    pub most_prefixes: usize,
    kinds: BTreeMap<&'static str, u64>,
    outcomes: BTreeMap<(&'static str, &'static str, &'static str), u64>,
    /// Packets of each source of packets: random traffic, or a set with its trace.
    sources: BTreeMap<String, u64>,
}

impl Tally {
    /// Nothing judged yet, under one policy.
    pub fn of_policy(rules: usize, prefixes: usize) -> Self {
        Self {
            policies: 1,
            most_rules: rules,
            most_prefixes: prefixes,
            ..Self::default()
        }
    }

    /// Counts a pair.
    pub fn count(&mut self, packet: &Packet, judgement: &Judgement, direction: Direction) {
        self.pairs += 1;
        let outcome = (
            direction.name(),
            judgement.verdict.name(),
            judgement.reason.name(),
        );
        *self.outcomes.entry(outcome).or_default() += 1;
        let mut kind = |kind| *self.kinds.entry(kind).or_default() += 1;
        match packet.kind {
            Kind::Other => kind("neither IPv4 nor IPv6"),
            Kind::Malformed => kind("malformed headers"),
            Kind::Ip => {
                kind(if packet.is(mark::V6) { "IPv6" } else { "IPv4" });
                kind(match packet.protocol {
                    _ if packet.is(mark::ICMP_ERROR) => "ICMP error with a quote",
                    protocol::TCP => "TCP",
                    protocol::UDP => "UDP",
                    protocol::ICMP | protocol::ICMPV6 => "ICMP",
                    _ if packet.is(mark::PORTS) => "SCTP, DCCP, UDP-Lite",
                    _ => "other protocols",
                });
                match packet.fragment {
                    Fragment::Whole => {}
                    Fragment::First => kind("first fragments"),
                    Fragment::Later => kind("later fragments"),
                }
            }
        }
        if packet.vlan != NO_VLAN {
            kind("tagged");
        }
    }

    /// Notes where packets came from.
    pub fn came_from(&mut self, source: &str, packets: u64) {
        match self.sources.get_mut(source) {
            Some(sum) => *sum += packets,
            None => {
                self.sources.insert(source.to_owned(), packets);
            }
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.pairs += other.pairs;
        self.policies += other.policies;
        self.not_taken += other.not_taken;
        self.most_rules = self.most_rules.max(other.most_rules);
        self.most_prefixes = self.most_prefixes.max(other.most_prefixes);
        for (kind, packets) in &other.kinds {
            *self.kinds.entry(kind).or_default() += packets;
        }
        for (outcome, packets) in &other.outcomes {
            *self.outcomes.entry(*outcome).or_default() += packets;
        }
        for (source, packets) in &other.sources {
            self.came_from(source, *packets);
        }
    }

    /// How many packets had this verdict, whatever the direction and the reason.
    pub fn with_verdict(&self, verdict: Verdict) -> u64 {
        let outcomes = self.outcomes.iter();
        outcomes
            .filter(|((_, told, _), _)| *told == verdict.name())
            .map(|(_, packets)| packets)
            .sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{} pairs under {} policies of up to {} rules and {} prefixes; {} frames that the kernel's test run does not take",
            self.pairs, self.policies, self.most_rules, self.most_prefixes, self.not_taken
        )?;
        for (source, packets) in &self.sources {
            writeln!(formatter, "  {packets:>10}  {source}")?;
        }
        writeln!(formatter, "kinds of packets")?;
        for (kind, packets) in &self.kinds {
            writeln!(formatter, "  {packets:>10}  {kind}")?;
        }
        writeln!(formatter, "outcomes")?;
        for ((direction, verdict, reason), packets) in &self.outcomes {
            writeln!(formatter, "  {packets:>10}  {direction} {verdict} {reason}")?;
        }
        Ok(())
    }
}
