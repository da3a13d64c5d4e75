//! What limits cover: directions, connections, observing, ICMP errors, reloads of the policy.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use firewall_common::packet::flag::{ACK, SYN};
use firewall_common::{Direction, Reason, Verdict};
use firewall_user::engine::HostEngine;
use firewall_user::packet_build::PacketBuilder;
use firewall_user::policy::{Environment, Policy};

use Direction::{Inbound as In, Outbound as Out};

const US: &str = "203.0.113.5";
const VISITOR: &str = "198.51.100.9";
const OTHER: &str = "198.51.100.10";
const SECOND: u64 = 1_000_000_000;
const PASSED: (Verdict, Reason) = (Verdict::Pass, Reason::Rule);
const LIMITED: (Verdict, Reason) = (Verdict::Drop, Reason::Limit);
const ESTABLISHED: (Verdict, Reason) = (Verdict::Pass, Reason::Established);

struct Host {
    engine: HostEngine,
    now: u64,
}

impl Host {
    fn new(policy: &str) -> Self {
        let text = format!("version = 1\n{policy}");
        let (policy, _) = Policy::parse(&text, "policy.toml", Path::new(".")).unwrap();
        let compiled = policy.compile(&Environment::default()).unwrap();
        Self {
            engine: HostEngine::new(compiled),
            now: 1_000 * SECOND,
        }
    }

    fn judge(&mut self, frame: &[u8], direction: Direction) -> (Verdict, Reason) {
        let judgement = self.engine.judge(frame, direction, self.now).judgement;
        (judgement.verdict, judgement.reason)
    }

    /// Packets and bytes over the limit of the first rule.
    fn limited(&self) -> (u64, u64) {
        let limited = self.engine.limited(32);
        (limited.packets, limited.bytes)
    }
}

fn segment(from: &str, to: &str, ports: (u16, u16), flags: u8) -> Vec<u8> {
    between(from, to).tcp(ports.0, ports.1, flags).build()
}

fn between(from: &str, to: &str) -> PacketBuilder {
    PacketBuilder::new(from.parse().unwrap(), to.parse().unwrap()).unwrap()
}

fn rule(limit: &str) -> String {
    format!("[[rule]]\nname = \"r\"\naction = \"accept\"\nlimit = {{ {limit} }}\n")
}

#[test]
fn over_the_burst_packets_are_dropped_and_come_through_again_at_the_rate() {
    let mut host = Host::new(&rule("rate = \"10/s\", burst = 3"));
    let syn = segment(VISITOR, US, (40_000, 443), SYN);
    let other = segment(OTHER, US, (40_000, 443), SYN);
    for _ in 0..3 {
        assert_eq!(host.judge(&syn, In), PASSED);
    }
    assert_eq!(host.judge(&syn, In), LIMITED);
    assert_eq!(host.judge(&other, In), PASSED, "another source has its own");
    host.now += SECOND / 10 - 1;
    assert_eq!(host.judge(&syn, In), LIMITED);
    host.now += 1;
    assert_eq!(host.judge(&syn, In), PASSED);
    assert_eq!(host.judge(&syn, In), LIMITED);
    assert_eq!(host.limited(), (3, 3 * syn.len() as u64));
    assert_eq!(host.engine.hits(32).packets, 8, "all count at the rule");
}

#[test]
fn an_established_connection_is_held_to_the_limit_of_the_rule_that_admitted_it() {
    // The host opens the connection under an outbound rule; a limit is for its own direction.
    let text = rule("rate = \"10/s\", burst = 5, per = \"rule\"")
        .replace("limit", "direction = \"outbound\"\nlimit");
    let mut host = Host::new(&text);
    let opening = segment(US, VISITOR, (50_000, 443), SYN);
    let ours = segment(US, VISITOR, (50_000, 443), ACK);
    let theirs = segment(VISITOR, US, (443, 50_000), ACK);
    assert_eq!(host.judge(&opening, Out), PASSED);
    for _ in 0..100 {
        assert_eq!(host.judge(&theirs, In), ESTABLISHED, "answers are free");
    }
    for _ in 0..4 {
        assert_eq!(host.judge(&ours, Out), ESTABLISHED);
    }
    assert_eq!(host.judge(&ours, Out), LIMITED);
    host.now += SECOND / 10;
    assert_eq!(host.judge(&ours, Out), ESTABLISHED);
}

#[test]
fn what_is_over_the_limit_opens_nothing() {
    let text = rule("rate = \"1/h\", burst = 1, unit = \"connections\"")
        .replace("limit", "direction = \"outbound\"\nlimit");
    let mut host = Host::new(&text);
    let opening = |port| segment(US, VISITOR, (port, 443), SYN);
    let answer = |port| segment(VISITOR, US, (443, port), SYN | ACK);
    assert_eq!(host.judge(&opening(50_000), Out), PASSED);
    assert_eq!(host.judge(&opening(50_001), Out), LIMITED);
    assert_eq!(host.judge(&answer(50_000), In), ESTABLISHED);
    let stranger = host.judge(&answer(50_001), In);
    assert_eq!(stranger, (Verdict::Drop, Reason::Default));
}

#[test]
fn connections_and_requests_are_counted_and_the_rest_is_free() {
    let syn = segment(VISITOR, US, (40_000, 443), SYN);
    let ack = segment(VISITOR, US, (40_000, 443), ACK);
    let ping = between(VISITOR, US).icmp(8, 0, [0, 7, 0, 1]).build();
    for (unit, limited, free) in [("connections", &syn, &ack), ("requests", &ping, &syn)] {
        let terms = format!("rate = \"1/m\", burst = 2, unit = \"{unit}\"");
        let mut host = Host::new(&rule(&terms));
        for _ in 0..2 {
            assert_eq!(host.judge(limited, In), PASSED, "{unit}");
        }
        assert_eq!(host.judge(limited, In), LIMITED, "{unit}");
        for _ in 0..50 {
            assert_eq!(host.judge(free, In), PASSED, "{unit}");
        }
    }
}

#[test]
fn observing_counts_what_would_be_dropped_and_lets_it_through() {
    let limit = "rate = \"1/m\", burst = 2";
    let syn = segment(VISITOR, US, (40_000, 443), SYN);
    let policy = format!("[defaults]\nmode = \"observe\"\n{}", rule(limit));
    let mut host = Host::new(&policy);
    for _ in 0..5 {
        assert_eq!(host.judge(&syn, In), PASSED);
    }
    assert_eq!(host.limited().0, 3);

    // A rule that observes goes on to the next.
    let watched = rule(limit).replace("limit", "mode = \"observe\"\nlimit");
    let last = "[[rule]]\nname = \"all\"\naction = \"accept\"\n";
    let mut host = Host::new(&format!("{watched}{last}"));
    for _ in 0..5 {
        assert_eq!(host.judge(&syn, In), PASSED);
    }
    assert_eq!(host.limited().0, 3);
}

#[test]
fn rules_keep_apart_what_they_limit() {
    let web =
        rule("rate = \"1/m\", burst = 2").replace("limit", "protocol = \"tcp\"\nport = 80\nlimit");
    let all = rule("rate = \"1/m\", burst = 2").replace("\"r\"", "\"all\"");
    let mut host = Host::new(&format!("{web}{all}"));
    let to = |port| segment(VISITOR, US, (40_000, port), SYN);
    for port in [80, 443] {
        let all: Vec<_> = (0..3).map(|_| host.judge(&to(port), In)).collect();
        assert_eq!(all, [PASSED, PASSED, LIMITED], "{port}");
    }
}
