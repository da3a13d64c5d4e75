//! The oracle: the documented order of judgement, written the plain way.
//!
//! It shares no code with the parser and the decision that it checks: headers are cut off byte
//! slices, rules are tried one after the other, bans and connections are looked up in plain
//! collections. Slow, and easy to believe.

mod connections;
mod fragments;
mod limits;
mod link;
mod parse;
mod requests;
mod rules;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use firewall_common::{Direction, Reason, Verdict};
use firewall_user::policy::{Action, DefaultAction, Mode, Policy};
use ipnet::IpNet;

use connections::Connections;
use fragments::{Fragments, Later};
use limits::{Held, Limits};
use parse::{Body, Frame, Packet, Payload};

/// The one interface on which all packets come and go.
pub const INTERFACE: &str = "edge0";

/// What is decided about a packet, in the words that people see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub verdict: Verdict,
    pub reason: Reason,
    pub rule: Option<String>,
}

/// Packets and bytes by the name of a rule.
#[derive(Debug, Default)]
pub struct Hits {
    by_name: HashMap<String, (u64, u64)>,
}

impl Hits {
    fn count(&mut self, name: &str, bytes: usize) {
        let entry = match self.by_name.get_mut(name) {
            Some(entry) => entry,
            None => self.by_name.entry(name.to_owned()).or_default(),
        };
        entry.0 += 1;
        entry.1 += bytes as u64;
    }

    /// Packets and bytes of a rule.
    pub fn of(&self, name: &str) -> (u64, u64) {
        self.by_name.get(name).copied().unwrap_or_default()
    }
}

/// A policy with its bans, connections and counts.
#[derive(Debug)]
pub struct Oracle {
    policy: Policy,
    bans: Vec<(IpNet, u64)>,
    connections: Connections,
    fragments: Fragments,
    pub hits: Hits,
    pub limits: Limits,
}

impl Oracle {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            bans: Vec::new(),
            connections: Connections::default(),
            fragments: Fragments::default(),
            hits: Hits::default(),
            limits: Limits::default(),
        }
    }

    /// Bans a prefix until `until`; a second ban of the same prefix replaces the first.
    pub fn ban(&mut self, prefix: IpNet, until: u64) {
        let prefix = prefix.trunc();
        self.bans.retain(|ban| ban.0 != prefix);
        self.bans.push((prefix, until));
    }

    /// Judges a frame.
    pub fn judge(&mut self, frame: &[u8], direction: Direction, now: u64) -> Answer {
        let bytes = frame.len();
        let parsed = parse::parse(frame);
        if let Some(name) = link::built_in(&parsed, direction) {
            self.hits.count(name, bytes);
            return answer(Verdict::Pass, Reason::Link, Some(name));
        }
        let answer = match direction {
            Direction::Inbound => self.inbound(&parsed, bytes, now),
            Direction::Outbound => self.outbound(&parsed, bytes, now),
        };
        if let Frame::Ip(packet) = &parsed
            && answer.verdict == Verdict::Pass
        {
            let rule = answer.rule.as_deref();
            self.fragments.passed(packet, direction, rule, now);
        }
        answer
    }

    fn inbound(&mut self, frame: &Frame, bytes: usize, now: u64) -> Answer {
        let packet = match frame {
            Frame::Ip(packet) if !is_impossible(packet) => packet,
            Frame::Other(_) => return self.default(Direction::Inbound, bytes),
            Frame::Ip(_) | Frame::Broken => return self.malformed(bytes),
        };
        let banned = self
            .bans
            .iter()
            .any(|ban| rules::covers(ban.0, packet.sender) && now < ban.1);
        if banned && !rules::covered(&self.policy.never_block, packet.sender) {
            if !self.observes() {
                return answer(Verdict::Drop, Reason::Ban, None);
            }
            self.hits.count("observe:ban", bytes);
        }
        let judged = match self.fragments.of(packet, Direction::Inbound, now) {
            Later::Overlaps => return self.malformed(bytes),
            Later::Follows(rule) => self.established(rule, bytes),
            Later::Stray => match self.connections.belongs(packet, Direction::Inbound, now) {
                Some(rule) => self.established(rule, bytes),
                None => self
                    .by_rules(packet, Direction::Inbound, bytes, now)
                    .unwrap_or_else(|| self.default(Direction::Inbound, bytes)),
            },
        };
        self.held(judged, packet, Direction::Inbound, bytes, now)
    }

    fn outbound(&mut self, frame: &Frame, bytes: usize, now: u64) -> Answer {
        // What is malformed or impossible is judged on the way in; our own host's follows its default.
        let Frame::Ip(packet) = frame else {
            return self.default(Direction::Outbound, bytes);
        };
        let known = match self.fragments.of(packet, Direction::Outbound, now) {
            Later::Follows(rule) => Some(rule),
            Later::Stray | Later::Overlaps => {
                self.connections.belongs(packet, Direction::Outbound, now)
            }
        };
        if let Some(rule) = known {
            let judged = self.established(rule, bytes);
            return self.held(judged, packet, Direction::Outbound, bytes, now);
        }
        let decided = self.by_rules(packet, Direction::Outbound, bytes, now);
        if decided.is_none()
            && self.policy.defaults.outbound == DefaultAction::Drop
            && connections::answers(packet)
            && let Some(rule) = self.admitting(packet, now)
        {
            return self.established(Some(rule), bytes);
        }
        let judged = decided.unwrap_or_else(|| self.default(Direction::Outbound, bytes));
        let judged = self.held(judged, packet, Direction::Outbound, bytes, now);
        if judged.verdict == Verdict::Pass
            && connections::opens(packet)
            && !(matches!(packet.body, Body::Ports { .. }) && self.admits_answer(packet, now))
        {
            self.connections.open(packet, judged.rule.as_deref(), now);
        }
        judged
    }

    fn malformed(&mut self, bytes: usize) -> Answer {
        if !self.observes() {
            return answer(Verdict::Drop, Reason::Malformed, None);
        }
        self.hits.count("observe:malformed", bytes);
        answer(Verdict::Pass, Reason::Malformed, None)
    }

    fn by_rules(
        &mut self,
        packet: &Packet,
        direction: Direction,
        bytes: usize,
        now: u64,
    ) -> Option<Answer> {
        let hits = Some((&mut self.hits, &mut self.limits, bytes));
        let rule = rules::first_match(&self.policy, packet, direction, now, hits)?;
        // A policy that only observes takes the same steps, and drops nothing.
        let observes = self.policy.defaults.mode == Mode::Observe;
        let verdict = if rule.action == Action::Drop && !observes {
            Verdict::Drop
        } else {
            Verdict::Pass
        };
        Some(answer(verdict, Reason::Rule, Some(&rule.name)))
    }

    /// Holds what was let through to the limit of the rule that let it through.
    fn held(
        &mut self,
        judged: Answer,
        packet: &Packet,
        direction: Direction,
        bytes: usize,
        now: u64,
    ) -> Answer {
        if judged.verdict == Verdict::Drop {
            return judged;
        }
        let rule =
            self.policy.rules.iter().find(|rule| {
                rule.direction == direction && Some(&rule.name) == judged.rule.as_ref()
            });
        let held = Held {
            packet,
            bytes,
            known: judged.reason == Reason::Established,
        };
        match rule {
            Some(rule) if self.limits.is_over(rule, &held, now) && !self.observes() => Answer {
                verdict: Verdict::Drop,
                reason: Reason::Limit,
                ..judged
            },
            _ => judged,
        }
    }

    fn established(&mut self, rule: Option<String>, bytes: usize) -> Answer {
        if let Some(rule) = &rule {
            self.hits.count(rule, bytes);
        }
        Answer {
            verdict: Verdict::Pass,
            reason: Reason::Established,
            rule,
        }
    }

    fn default(&mut self, direction: Direction, bytes: usize) -> Answer {
        let (action, counter) = match direction {
            Direction::Inbound => (self.policy.defaults.inbound, "observe:default-inbound"),
            Direction::Outbound => (self.policy.defaults.outbound, "observe:default-outbound"),
        };
        let mut verdict = Verdict::Pass;
        if action == DefaultAction::Drop {
            if self.observes() {
                self.hits.count(counter, bytes);
            } else {
                verdict = Verdict::Drop;
            }
        }
        answer(verdict, Reason::Default, None)
    }

    /// The inbound rule that accepts what an outbound packet answers.
    fn admitting(&self, packet: &Packet, now: u64) -> Option<String> {
        let mut reverse = connections::turned_round(packet);
        reverse.payload = Payload::Unseen;
        rules::first_match(&self.policy, &reverse, Direction::Inbound, now, None)
            .filter(|rule| rule.action == Action::Accept)
            .map(|rule| rule.name.clone())
    }

    /// Whether the answer to an outbound packet comes in without an entry for it.
    fn admits_answer(&self, packet: &Packet, now: u64) -> bool {
        let mut reverse = connections::turned_round(packet);
        reverse.payload = Payload::None;
        match rules::first_match(&self.policy, &reverse, Direction::Inbound, now, None) {
            Some(rule) => rule.action == Action::Accept,
            None => self.policy.defaults.inbound == DefaultAction::Accept,
        }
    }

    fn observes(&self) -> bool {
        self.policy.defaults.mode == Mode::Observe
    }
}

fn answer(verdict: Verdict, reason: Reason, rule: Option<&str>) -> Answer {
    Answer {
        verdict,
        reason,
        rule: rule.map(str::to_owned),
    }
}

/// Whether the addresses of a packet cannot stand in it.
fn is_impossible(packet: &Packet) -> bool {
    if packet.sender == packet.destination {
        return true;
    }
    match packet.sender {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
            let asks_for_address = packet.protocol == parse::UDP
                && matches!(packet.body, Body::Ports { to: 67, .. })
                && !packet.is_error;
            let reports_group = packet.protocol == 2 && !packet.is_error;
            !asks_for_address && !reports_group
        }
        IpAddr::V4(source) => {
            source.is_loopback()
                || source.is_multicast()
                || source.is_broadcast()
                || source.octets()[0] == 0
        }
        IpAddr::V6(source) => {
            source.is_loopback() || source.is_multicast() || source.is_unspecified()
        }
    }
}
