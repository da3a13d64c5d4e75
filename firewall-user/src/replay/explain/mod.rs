//! Why a packet is let through or not: the host engine's judgement, step by step, in words.

mod conditions;
mod limits;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use firewall_common::decide::{
    Circumstances, ECHO_TIMEOUT, Known, Step, TCP_CLOSING_TIMEOUT, TCP_OPENING_TIMEOUT,
    TCP_TIMEOUT, UDP_ASSURED_TIMEOUT, UDP_TIMEOUT, flow_key, signature,
};
use firewall_common::fragments::Follows;
use firewall_common::image::Field;
use firewall_common::layout::{
    BanKey, CONNECTION_ASSURED, CONNECTION_CLOSING, Connection, NO_RULE,
};
use firewall_common::limit::{Limit, Per, Terms, Unit};
use firewall_common::packet::{self, Frame, Kind, NO_VLAN, Packet, protocol};
use firewall_common::signature::SignatureTable;
use firewall_common::{Direction, Reason, Verdict};
use ipnet::IpNet;
use serde::Serialize;

use self::conditions::first_unmet;
use crate::detect::signature::{Condition, conditions};
use crate::engine::ip_address;
use crate::engine::{HostEngine, nanoseconds};
use crate::policy::address::print_prefix;
use crate::policy::{Action, Addresses, Environment, Mode, Policy, Rule};

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

/// Puts steps into words.
struct Teller<'a> {
    policy: &'a Policy,
    engine: &'a HostEngine,
    question: &'a Question<'a>,
    packet: &'a Packet,
    source: IpAddr,
    destination: IpAddr,
}

impl Teller<'_> {
    fn tell(&self, steps: &[Step], verdict: Verdict, reason: Reason) -> Vec<Told> {
        let mut told = Vec::new();
        let mut tried = 0;
        for step in steps {
            match *step {
                Step::Rule { counter, decided } => {
                    tried = self.tell_rules(tried, Some(counter), decided, &mut told);
                }
                Step::Limit { counter, limited } => {
                    let name = self.engine.rule_name(counter);
                    let rule = self
                        .policy
                        .rules
                        .iter()
                        .find(|rule| Some(rule.name.as_str()) == name);
                    if let Some((rule, limit)) = rule.and_then(|rule| Some((rule, rule.limit?))) {
                        told.push(limits::told(self.policy, rule, &limit, limited));
                    }
                }
                Step::Signature { counter, spared } => {
                    told.push(self.signature(counter, spared, reason));
                }
                Step::Default => {
                    self.tell_rules(tried, None, false, &mut told);
                    told.push(self.default(verdict));
                }
                Step::Established(known) => {
                    if self.question.direction == Direction::Inbound {
                        told.push(self.protection());
                    }
                    told.push(self.established(known));
                }
                Step::Link(rule) => told.push(match rule {
                    Some(rule) => {
                        let detail = format!("the link needs it: {}", rule.describe());
                        Told::new("link", StepResult::Decided, detail).of_rule(rule.name())
                    }
                    None => Told::new("link", StepResult::Passed, "the link does not need it"),
                }),
                Step::Malformed(true) => {
                    let result = if verdict == Verdict::Drop && reason == Reason::Malformed {
                        StepResult::Decided
                    } else {
                        StepResult::Counted
                    };
                    let detail = "its headers contradict themselves, or its source is impossible";
                    told.push(Told::new("malformed", result, detail));
                }
                Step::Malformed(false) => {
                    told.push(Told::new(
                        "malformed",
                        StepResult::Passed,
                        "it is well formed",
                    ));
                }
                Step::Ban { key, spared } => told.push(self.ban(&key, spared, reason)),
                Step::Fragment(follows) => told.push(fragment(follows)),
                Step::NoBan => {
                    let detail = format!("no ban covers {}", ip_address(self.packet.sender));
                    told.push(Told::new("ban", StepResult::Passed, detail));
                }
            }
        }
        told
    }

    /// Tells of the rules from number `from` up to the one with this counter, or all. Gives the
    /// number of the next.
    fn tell_rules(
        &self,
        from: usize,
        counter: Option<u32>,
        decided: bool,
        told: &mut Vec<Told>,
    ) -> usize {
        let wanted = counter.and_then(|counter| self.engine.rule_name(counter));
        for (index, rule) in self.policy.rules.iter().enumerate().skip(from) {
            if rule.direction != self.question.direction {
                continue;
            }
            if wanted == Some(rule.name.as_str()) {
                told.push(self.matched(rule, decided));
                return index + 1;
            }
            let unmet = first_unmet(self.policy, rule, self.packet, self.question)
                .unwrap_or_else(|| "it does not match".to_owned());
            told.push(Told::new("rule", StepResult::Passed, unmet).of_rule(&rule.name));
        }
        self.policy.rules.len()
    }

    fn signature(&self, counter: u32, spared: bool, reason: Reason) -> Told {
        let slot = (counter - signature::FIRST_COUNTER) as usize;
        let name = match self.question.signatures.get(slot) {
            Some(signed) => signed.name.as_str(),
            None => "a signature",
        };
        let (result, detail) = if reason == Reason::Signature {
            (
                StepResult::Decided,
                format!("it fits {name} of a flood and is dropped"),
            )
        } else if spared {
            let detail = format!("it fits {name} of a flood, but never_block covers its source");
            (StepResult::Passed, detail)
        } else {
            let detail = format!("it fits {name} of a flood; the policy only observes");
            (StepResult::Counted, detail)
        };
        Told::new("signature", result, detail).of_rule(name)
    }

    fn matched(&self, rule: &Rule, decided: bool) -> Told {
        let mut detail = match (rule.action, decided) {
            (Action::Accept, true) => "it matches and accepts",
            (Action::Drop, true) => "it matches and drops",
            (Action::Count, _) => "it matches, counts and goes on",
            (_, false) if rule.mode == Mode::Observe => {
                "it matches; it is only observed, so the packet goes on"
            }
            (_, false) => "it matches; the policy is only observed, so the packet goes on",
        }
        .to_owned();
        if let Some((set, prefix)) = self.catch(rule) {
            let prefix = print_prefix(&prefix);
            match set {
                Some(set) => detail.push_str(&format!(" (set {set}: {prefix})")),
                None => detail.push_str(&format!(" ({prefix})")),
            }
        }
        let result = if decided {
            StepResult::Decided
        } else {
            StepResult::Counted
        };
        Told::new("rule", result, detail).of_rule(&rule.name)
    }

    /// The set and prefix by which a rule's addresses matched: those of `from`, else of `to`.
    fn catch(&self, rule: &Rule) -> Option<(Option<String>, IpNet)> {
        self.catch_among(&rule.from, self.source)
            .or_else(|| self.catch_among(&rule.to, self.destination))
    }

    fn catch_among(
        &self,
        addresses: &Addresses,
        address: IpAddr,
    ) -> Option<(Option<String>, IpNet)> {
        let longest = |prefixes: &[IpNet]| {
            let covering = prefixes.iter().filter(|prefix| prefix.contains(&address));
            covering.max_by_key(|prefix| prefix.prefix_len()).copied()
        };
        addresses
            .sets
            .iter()
            .find_map(|&set| {
                let set = &self.policy.sets[set];
                Some((Some(set.name.clone()), longest(&set.prefixes)?))
            })
            .or_else(|| Some((None, longest(&addresses.prefixes)?)))
    }

    fn ban(&self, key: &BanKey, spared: bool, reason: Reason) -> Told {
        let address = ip_address(key.address);
        let length = if address.is_ipv4() {
            key.length.saturating_sub(96)
        } else {
            key.length
        };
        // A ban's key was made of a prefix.
        let net = IpNet::new(address, length as u8).ok();
        let prefix = net.map_or_else(|| address.to_string(), |net| print_prefix(&net));
        let mut known = self.question.bans.iter();
        let note = known
            .find(|ban| Some(ban.prefix.trunc()) == net)
            .and_then(|ban| ban.note.as_ref());
        let note = note.map_or(String::new(), |note| format!(" {note}"));
        if key.limited != 0 {
            let detail = if spared {
                format!(
                    "{prefix} is held to the automatic limit{note}, but never_block spares this source"
                )
            } else {
                format!("{prefix} is held to the automatic limit{note}: what is over it is dropped")
            };
            return Told::new("limit", StepResult::Passed, detail);
        }
        if spared {
            let detail = format!("{prefix} is banned{note}, but never_block spares this source");
            Told::new("ban", StepResult::Passed, detail)
        } else if reason == Reason::Ban {
            Told::new(
                "ban",
                StepResult::Decided,
                format!("{prefix} is banned{note}"),
            )
        } else {
            let detail = format!("{prefix} is banned{note}; the policy is only observed");
            Told::new("ban", StepResult::Counted, detail)
        }
    }

    /// The classes by which the rules were found, if they were looked at.
    fn classes(&self, steps: &[Step]) -> BTreeMap<&'static str, u32> {
        let asked = |step: &Step| matches!(step, Step::Rule { .. } | Step::Default);
        if self.packet.kind != Kind::Ip || !steps.iter().any(asked) {
            return BTreeMap::new();
        }
        let class = |field: Field| {
            let class = self.engine.class(self.question.direction, field)?;
            Some((conditions::field_name(field), class))
        };
        Field::ALL.into_iter().filter_map(class).collect()
    }

    fn established(&self, known: Known) -> Told {
        let (result, detail) = match known {
            Known::No => (StepResult::Passed, match &self.question.connection {
                Some(entry) => format!("it belongs to no live connection: {}", entry.described(self.packet)),
                None => "it is taken for a packet of no connection; one of a live connection passes here".to_owned(),
            }),
            Known::Table | Known::Socket => (StepResult::Decided, match &self.question.connection {
                Some(entry) => format!("it belongs to a connection: {}", entry.described(self.packet)),
                None => "it belongs to a connection".to_owned(),
            }),
            Known::ReplyToAdmitted => (
                StepResult::Decided,
                "it answers packets that an inbound rule admits".to_owned(),
            ),
        };
        Told::new("established", result, detail)
    }

    fn protection(&self) -> Told {
        let source = ip_address(self.packet.sender);
        let detail = if self.policy.never_blocks(source) {
            format!("{source} is protected: no ban and no drop rule applies to it")
        } else {
            format!("{source} is not protected")
        };
        Told::new("never_block", StepResult::Passed, detail)
    }

    fn default(&self, verdict: Verdict) -> Told {
        use crate::policy::DefaultAction::Drop;
        let defaults = &self.policy.defaults;
        let (action, name) = match self.question.direction {
            Direction::Inbound => (defaults.inbound, "inbound"),
            Direction::Outbound => (defaults.outbound, "outbound"),
        };
        let detail = match (action, verdict) {
            (Drop, Verdict::Pass) => {
                format!("the {name} default is drop, but the policy is only observed")
            }
            (Drop, Verdict::Drop) => format!("no rule decided: the {name} default is drop"),
            _ => format!("no rule decided: the {name} default is accept"),
        };
        Told::new("default", StepResult::Decided, detail)
    }
}

fn fragment(follows: Follows) -> Told {
    let (result, detail) = match follows {
        Follows::None => (
            StepResult::Passed,
            "no first fragment of its datagram was let through lately",
        ),
        Follows::Rule(_) => (
            StepResult::Decided,
            "the first fragment of its datagram was let through",
        ),
        Follows::Overlaps => (
            StepResult::Decided,
            "it would overwrite the first fragment of its datagram",
        ),
    };
    Told::new("fragment", result, detail)
}

impl Entry {
    /// `its latest packet came 3.2 s ago, it was answered, it ends after 7440 s without a packet, rule shop
    /// admitted it`
    fn described(&self, packet: &Packet) -> String {
        let life = match packet.protocol {
            protocol::TCP if self.closing => TCP_CLOSING_TIMEOUT,
            protocol::TCP if self.answered => TCP_TIMEOUT,
            protocol::TCP => TCP_OPENING_TIMEOUT,
            protocol::UDP | protocol::UDPLITE if self.answered => UDP_ASSURED_TIMEOUT,
            protocol::UDP | protocol::UDPLITE => UDP_TIMEOUT,
            _ => ECHO_TIMEOUT,
        };
        let state = match (self.closing, self.answered) {
            (true, _) => "it is being closed",
            (false, true) => "it was answered",
            (false, false) => "it was not answered yet",
        };
        let rule = match &self.rule {
            Some(rule) => format!("rule {rule} admitted it"),
            None => "no rule admitted it".to_owned(),
        };
        format!(
            "its latest packet came {:.1} s ago, {state}, it ends after {} s without a packet, {rule}",
            self.idle.as_secs_f64(),
            life / 1_000_000_000
        )
    }
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
