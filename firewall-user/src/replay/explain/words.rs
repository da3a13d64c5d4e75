//! The steps of a judgement in words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use firewall_common::decide::{
    ECHO_TIMEOUT, Known, Step, TCP_CLOSING_TIMEOUT, TCP_OPENING_TIMEOUT, TCP_TIMEOUT,
    UDP_ASSURED_TIMEOUT, UDP_TIMEOUT, signature,
};
use firewall_common::fragments::Follows;
use firewall_common::image::Field;
use firewall_common::layout::BanKey;
use firewall_common::packet::{Kind, Packet, protocol};
use firewall_common::{Direction, Reason, Verdict};
use ipnet::IpNet;

use super::conditions::{self, first_unmet};
use super::{Entry, Question, StepResult, Told, limits};
use crate::engine::{HostEngine, ip_address};
use crate::policy::address::print_prefix;
use crate::policy::{Action, Addresses, Mode, Policy, Rule};

/// Puts steps into words.
pub(super) struct Teller<'a> {
    pub(super) policy: &'a Policy,
    pub(super) engine: &'a HostEngine,
    pub(super) question: &'a Question<'a>,
    pub(super) packet: &'a Packet,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
}

impl Teller<'_> {
    pub(super) fn tell(&self, steps: &[Step], verdict: Verdict, reason: Reason) -> Vec<Told> {
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
    pub(super) fn catch(&self, rule: &Rule) -> Option<(Option<String>, IpNet)> {
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
    pub(super) fn classes(&self, steps: &[Step]) -> BTreeMap<&'static str, u32> {
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
