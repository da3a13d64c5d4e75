//! The lockout guard: what a policy would cut of what the host lives by, found before the policy is
//! in force.
//!
//! The host's lifelines are read from the host ([`Lifelines::of_this_host`]); the packets that each
//! needs are built and judged by the host engine, which runs the kernel program's own decision.

mod frames;
mod host;
pub mod lookout;
pub(crate) mod resolvers;
pub(crate) mod routes;
mod services;
mod sockets;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use firewall_common::decide::{Circumstances, Judgement};
use firewall_common::{Direction, Reason, Verdict};
use serde::{Deserialize, Serialize};

use crate::engine::HostEngine;
use crate::policy::{Compiled, Policy};

pub use host::{Place, Ways};
pub use sockets::{Session, SessionError};

/// What this host lives by, as far as it passes the fence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifelines {
    pub sessions: Vec<(Session, Place)>,
    pub gateways: Vec<(IpAddr, Place)>,
    pub resolvers: Vec<Resolver>,
    /// What could not be read, so that nobody takes silence for safety.
    pub unknown: Vec<String>,
}

/// A name server, and the address from which it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    pub server: IpAddr,
    pub from: IpAddr,
    pub place: Place,
}

/// Something that a policy would cut.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Threat {
    /// `ssh`, `gateway` or `dns`.
    pub lifeline: String,
    /// What would be dropped, in words.
    pub what: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    pub reason: String,
    /// The rule that would drop it; null when the default does.
    pub rule: Option<String>,
    /// Its line in the policy.
    pub line: Option<usize>,
}

impl fmt::Display for Threat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} would be dropped ", self.what)?;
        match (&self.rule, self.line) {
            (Some(rule), Some(line)) => write!(f, "by rule \"{rule}\" (line {line})"),
            (Some(rule), None) => write!(f, "by rule \"{rule}\""),
            _ if self.reason == Reason::Default.name() => {
                let direction = &self.direction;
                write!(f, "by the {direction} default: no rule accepts it")
            }
            _ => write!(f, "as {}", self.reason),
        }
    }
}

/// What is new in `threats` beside those that the policy before has as well: what is cut already
/// is not cut by this one.
pub fn newly(threats: Vec<Threat>, before: &[Threat]) -> (Vec<Threat>, Vec<Threat>) {
    let cut: HashSet<&str> = before.iter().map(|threat| threat.what.as_str()).collect();
    let known = |threat: &Threat| !cut.contains(threat.what.as_str());
    threats.into_iter().partition(known)
}

/// Judges what each lifeline needs by `policy`, compiled as `compiled` for a host whose packet clock
/// shows `now`. The compiled policy is given back.
pub fn examine(
    policy: &Policy,
    compiled: Compiled,
    lifelines: &Lifelines,
    now: u64,
) -> (Vec<Threat>, Compiled) {
    let mut judge = Judge {
        policy,
        engine: HostEngine::new(compiled),
        now,
        threats: Vec::new(),
    };
    for (session, place) in &lifelines.sessions {
        judge.session(session, *place);
    }
    for (gateway, place) in &lifelines.gateways {
        judge.gateway(*gateway, *place);
    }
    for resolver in &lifelines.resolvers {
        judge.resolver(resolver);
    }
    (judge.threats, judge.engine.into_compiled())
}

struct Judge<'a> {
    policy: &'a Policy,
    engine: HostEngine,
    now: u64,
    threats: Vec<Threat>,
}

impl Judge<'_> {
    /// The session's own packets pass: it is established. Whoever lost it must be able to come back.
    fn session(&mut self, session: &Session, place: Place) {
        let Session { local, peer, own } = session;
        let whose = if *own {
            "your own session"
        } else {
            "a session"
        };
        let port = local.port();
        let [opening, answer] = frames::opening(*peer, *local);
        let what = format!(
            "a new connection from {} to ssh port {port} ({whose} is from there)",
            peer.ip()
        );
        if !self.passes("ssh", what, opening, Direction::Inbound, place) {
            return;
        }
        let what = format!("the answer from ssh port {port} to {}", peer.ip());
        self.passes("ssh", what, answer, Direction::Outbound, place);
    }

    fn gateway(&mut self, gateway: IpAddr, place: Place) {
        let (kind, [question, answer]) = match gateway {
            IpAddr::V4(gateway) => ("ARP", frames::address_resolution(gateway)),
            IpAddr::V6(gateway) => ("neighbour discovery", frames::neighbour_discovery(gateway)),
        };
        let what = format!("the {kind} question for the gateway {gateway}");
        if !self.passes("gateway", what, question, Direction::Outbound, place) {
            return;
        }
        let what = format!("the {kind} answer of the gateway {gateway}");
        self.passes("gateway", what, answer, Direction::Inbound, place);
    }

    fn resolver(&mut self, resolver: &Resolver) {
        let Some([question, answer]) = frames::name_query(resolver.from, resolver.server) else {
            return;
        };
        let server = resolver.server;
        let what = format!("a DNS query to {server}");
        if !self.passes("dns", what, question, Direction::Outbound, resolver.place) {
            return;
        }
        let what = format!("the DNS answer of {server}");
        self.passes("dns", what, answer, Direction::Inbound, resolver.place);
    }

    /// Whether a packet passes; one that does not is a threat. What nobody asked for has no answer, so
    /// callers stop at the first.
    fn passes(
        &mut self,
        lifeline: &str,
        what: String,
        frame: Vec<u8>,
        direction: Direction,
        place: Place,
    ) -> bool {
        let at = Circumstances {
            now: self.now,
            interface: place.slot,
        };
        let judged = self.engine.judge_at(&frame, place.tag, direction, at);
        let Judgement {
            verdict,
            reason,
            rule,
            ..
        } = judged.judgement;
        // A limit lets some through: it slows down and does not cut.
        if verdict == Verdict::Pass || reason == Reason::Limit {
            return true;
        }
        let rule = match reason {
            Reason::Rule => self.engine.rule_name(rule).map(str::to_owned),
            _ => None,
        };
        let line = rule.as_ref().and_then(|name| {
            let mut rules = self.policy.rules.iter();
            rules
                .find(|known| known.name == *name)
                .map(|known| known.line)
        });
        let threat = Threat {
            lifeline: lifeline.to_owned(),
            what,
            direction: direction.name().to_owned(),
            reason: reason.name().to_owned(),
            rule,
            line,
        };
        if !self.threats.contains(&threat) {
            self.threats.push(threat);
        }
        false
    }
}
