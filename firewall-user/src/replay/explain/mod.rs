//! Why a packet is let through or not: the host engine's judgement, step by step, in words.

mod conditions;
mod limits;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use firewall_common::Direction;
use firewall_common::decide::{Circumstances, flow_key};
use firewall_common::layout::{CONNECTION_ASSURED, CONNECTION_CLOSING, Connection, NO_RULE};
use firewall_common::limit::{Limit, Per, Terms, Unit};
use firewall_common::packet::{self, Frame, NO_VLAN, Packet};
use firewall_common::signature::SignatureTable;
use ipnet::IpNet;
use serde::Serialize;

use self::words::Teller;
use crate::detect::signature::{Condition, conditions};
use crate::engine::ip_address;
use crate::engine::{HostEngine, nanoseconds};
use crate::policy::address::print_prefix;
use crate::policy::{Environment, Policy};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    pub frame: &'a [u8],
    pub direction: Direction,
    /// The interface that the packet crosses.
    pub interface: Option<String>,
    /// Nanoseconds since the Unix epoch.
    pub now: u64,
    /// Bans in force.
    pub bans: &'a [Banned],
    /// The entry of the connection table that the packet belongs to, if there is one.
    pub connection: Option<Entry>,
    /// Signatures of floods in force, at most as many as there are places.
    pub signatures: &'a [Signed],
}

/// The signature of a flood in force.
#[derive(Clone, Debug)]
pub struct Signed {
    pub name: String,
    pub conditions: Vec<Condition>,
}

/// A ban in force.
#[derive(Clone, Debug)]
pub struct Banned {
    pub prefix: IpNet,
    /// It is not banned but held to the automatic limit.
    pub limited: bool,
    /// What more is known of it, such as when it ends.
    pub note: Option<String>,
}

/// An entry of the connection table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Since its latest packet.
    pub idle: Duration,
    /// Packets were seen both ways.
    pub answered: bool,
    /// A FIN or RST was seen.
    pub closing: bool,
    /// The rule that admitted it.
    pub rule: Option<String>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    pub verdict: &'static str,
    pub reason: &'static str,
    /// The rule that decided, or that a connection belongs to.
    pub rule: Option<String>,
    /// What it was in that rule's `from` or `to` that matched: a set's name, or `None` where the
    /// rule has only addresses written in place, or no addresses at all.
    pub set: Option<String>,
    /// That set's, or the rule's own, prefix that covers the address.
    pub prefix: Option<String>,
    /// Sets that cover the source and the destination, in file order.
    pub source_sets: Vec<String>,
    pub destination_sets: Vec<String>,
    /// For each field that the rules of the direction look at, the class that the packet falls into in
    /// the compiled tables; empty where no rule was asked.
    pub classes: BTreeMap<&'static str, u32>,
    pub steps: Vec<Told>,
}

/// One step of the judgement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// `link`, `malformed`, `ban`, `never_block`, `established`, `signature`, `rule`, `limit` or `default`.
    pub step: &'static str,
    /// The rule, for a step of that kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    pub result: StepResult,
    pub detail: String,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepResult {
    /// It decided.
    Decided,
    /// It counted the packet and went on.
    Counted,
    /// It had nothing to say.
    Passed,
}

impl StepResult {
    /// The word people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decided => "decides",
            Self::Counted => "counts",
            Self::Passed => "-",
        }
    }
}

/// Judges a frame under a policy and tells how.
pub fn explain(policy: &Policy, question: &Question<'_>) -> anyhow::Result<Explanation> {
    let environment = Environment {
        interfaces: question.interface.iter().cloned().collect(),
        ..Environment::default()
    };
    let mut engine = HostEngine::new(policy.compile(&environment)?);
    for ban in question.bans {
        if ban.limited {
            // One packet is within any limit.
            let terms = Terms {
                rate: 1,
                seconds: 1,
                burst: 1,
            };
            let limit = Limit::new(terms, Unit::Packets, Per::Rule)?;
            engine.limit(ban.prefix, u64::MAX, &limit)?;
        } else {
            engine.ban(ban.prefix, u64::MAX)?;
        }
    }
    if let Some(entry) = &question.connection {
        enter(&mut engine, question, entry);
    }
    engine.set_signatures(signed(question.signatures));
    let at = Circumstances {
        now: question.now,
        interface: 0,
    };
    let (judged, steps) = engine.explain(question.frame, NO_VLAN, question.direction, at);
    let teller = Teller {
        policy,
        engine: &engine,
        question,
        packet: &judged.packet,
        source: ip_address(judged.packet.source),
        destination: ip_address(judged.packet.destination),
    };
    let judgement = judged.judgement;
    let rule = (judgement.rule != NO_RULE)
        .then(|| engine.rule_name(judgement.rule))
        .flatten();
    let caught = rule
        .and_then(|name| policy.rules.iter().find(|rule| rule.name == name))
        .and_then(|rule| teller.catch(rule));
    let names = |address| {
        let sets = policy.sets_covering(address);
        sets.into_iter().map(str::to_owned).collect()
    };
    Ok(Explanation {
        verdict: judgement.verdict.name(),
        reason: judgement.reason.name(),
        rule: rule.map(str::to_owned),
        set: caught.as_ref().and_then(|(set, _)| set.clone()),
        prefix: caught.map(|(_, prefix)| print_prefix(&prefix)),
        source_sets: names(teller.source),
        destination_sets: names(teller.destination),
        classes: teller.classes(&steps),
        steps: teller.tell(&steps, judgement.verdict, judgement.reason),
    })
}

/// The table of these signatures, without an end.
fn signed(signatures: &[Signed]) -> SignatureTable {
    let mut table = SignatureTable::EMPTY;
    for (slot, signed) in table.slots.iter_mut().zip(signatures) {
        slot.until = u64::MAX;
        slot.conditions = conditions(&signed.conditions);
    }
    table
}

/// Puts a connection into the engine's table as the kernel has it.
fn enter(engine: &mut HostEngine, question: &Question<'_>, entry: &Entry) {
    let mut packet = Packet::default();
    packet::parse(&mut Frame::new(question.frame), NO_VLAN, &mut packet);
    let counter = |rule: &String| engine.compiled().counters.of(rule);
    let connection = Connection {
        last_seen: question.now.saturating_sub(nanoseconds(entry.idle)),
        rule: entry.rule.as_ref().and_then(counter).unwrap_or(NO_RULE),
        flags: (u32::from(entry.answered) * CONNECTION_ASSURED)
            | (u32::from(entry.closing) * CONNECTION_CLOSING),
    };
    engine.enter(&flow_key(&packet, question.direction), connection);
}

impl Told {
    fn new(step: &'static str, result: StepResult, detail: impl Into<String>) -> Self {
        Self {
            step,
            rule: None,
            result,
            detail: detail.into(),
        }
    }

    fn of_rule(mut self, rule: &str) -> Self {
        self.rule = Some(rule.to_owned());
        self
    }
}
