//! The order of judgement and who may open a connection, as tables of cases.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::IpAddr;
use std::path::Path;

use firewall_common::packet::flag::{ACK, FIN, RST, SYN};
use firewall_common::{Direction, Reason, Verdict};
use firewall_user::engine::HostEngine;
use firewall_user::packet_build::PacketBuilder;
use firewall_user::policy::{Environment, Policy};

use Direction::{Inbound as In, Outbound as Out};

const SECOND: u64 = 1_000_000_000;
const US: &str = "203.0.113.5";
const VISITOR: &str = "198.51.100.9";
const OFFICE: &str = "198.51.100.200";
const SERVER: &str = "203.0.113.99";

const RULES: &str = r#"
[sets]
office = ["198.51.100.192/26"]
[protect]
never_block = ["office"]
[[rule]]
name = "seen"
action = "count"
protocol = "udp"
[[rule]]
name = "no-telnet"
action = "drop"
protocol = "tcp"
port = [22, 23]
[[rule]]
name = "office-ssh"
action = "accept"
protocol = "tcp"
port = 22
from = ["office"]
[[rule]]
name = "shop"
action = "accept"
protocol = "tcp"
port = 443
[[rule]]
name = "dns"
action = "accept"
protocol = "udp"
port = 53
[[rule]]
name = "over"
action = "accept"
protocol = "tcp"
port = 80
expires = 2001-01-01
"#;

fn engine(defaults: &str) -> HostEngine {
    let text = format!("version = 1\n[defaults]\n{defaults}\n{RULES}");
    let (policy, _) = Policy::parse(&text, "policy.toml", Path::new(".")).unwrap();
    // The packets' clock is the calendar less this: the engine's times lie in 2026.
    let environment = Environment {
        clock_offset: 1_767_225_600 * i128::from(SECOND),
        ..Environment::default()
    };
    HostEngine::new(policy.compile(&environment).unwrap())
}

fn strict() -> HostEngine {
    engine("inbound = \"drop\"\noutbound = \"accept\"")
}

fn between(source: &str, destination: &str) -> PacketBuilder {
    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    PacketBuilder::new(address(source), address(destination)).unwrap()
}

fn tcp(source: (&str, u16), destination: (&str, u16), flags: u8) -> Vec<u8> {
    between(source.0, destination.0)
        .tcp(source.1, destination.1, flags)
        .build()
}

fn udp(source: (&str, u16), destination: (&str, u16)) -> Vec<u8> {
    between(source.0, destination.0)
        .udp(source.1, destination.1)
        .build()
}

/// Verdict, reason and rule in words.
fn judge(engine: &mut HostEngine, frame: &[u8], direction: Direction, seconds: u64) -> String {
    let judgement = engine
        .judge(frame, direction, 1_000 * SECOND + seconds * SECOND)
        .judgement;
    let rule = engine.rule_name(judgement.rule).unwrap_or("-");
    format!(
        "{} {} {rule}",
        judgement.verdict.name(),
        judgement.reason.name()
    )
}

#[test]
fn the_first_step_that_applies_decides() {
    let mut engine = strict();
    engine
        .ban("198.51.100.0/24".parse().unwrap(), u64::MAX)
        .unwrap();
    let table = [
        (
            "the link before a ban",
            udp((VISITOR, 67), (US, 68)),
            "pass link link:dhcp",
        ),
        (
            "malformed before a ban",
            tcp((VISITOR, 1), (VISITOR, 443), SYN),
            "drop malformed -",
        ),
        (
            "a ban before the rules",
            tcp((VISITOR, 1), (US, 443), SYN),
            "drop ban -",
        ),
        (
            "never_block before a ban",
            tcp((OFFICE, 1), (US, 443), SYN),
            "pass rule shop",
        ),
        (
            "never_block before a drop rule",
            tcp((OFFICE, 1), (US, 22), SYN),
            "pass rule office-ssh",
        ),
        (
            "the default for never_block as well",
            tcp((OFFICE, 1), (US, 23), SYN),
            "drop default -",
        ),
        (
            "the first rule",
            tcp(("192.0.2.1", 1), (US, 22), SYN),
            "drop rule no-telnet",
        ),
        (
            "a later rule",
            tcp(("192.0.2.1", 1), (US, 443), SYN),
            "pass rule shop",
        ),
        (
            "no expired rule",
            tcp(("192.0.2.1", 1), (US, 80), SYN),
            "drop default -",
        ),
        (
            "the default last",
            tcp(("192.0.2.1", 1), (US, 8080), SYN),
            "drop default -",
        ),
        (
            "loopback is no source",
            tcp(("127.0.0.1", 1), (US, 443), SYN),
            "drop malformed -",
        ),
        (
            "0/8 is no source",
            tcp(("0.1.2.3", 1), (US, 443), SYN),
            "drop malformed -",
        ),
        (
            "multicast is no source",
            tcp(("224.0.0.9", 1), (US, 443), SYN),
            "drop malformed -",
        ),
        (
            "broadcast is no source",
            tcp(("255.255.255.255", 1), (US, 443), SYN),
            "drop malformed -",
        ),
        (
            "documentation ranges are",
            tcp(("192.0.2.7", 1), (US, 443), SYN),
            "pass rule shop",
        ),
        (
            "private ranges are",
            tcp(("10.0.0.7", 1), (US, 443), SYN),
            "pass rule shop",
        ),
    ];
    for (what, frame, expected) in table {
        assert_eq!(judge(&mut engine, &frame, In, 0), expected, "{what}");
    }
}

#[test]
fn only_neighbours_speak_of_multicast_listeners() {
    let mut engine = strict();
    let report = |source: &str, hops: u8| {
        let listener = between(source, "ff02::16").icmp(143, 0, [0; 4]);
        listener.ttl(hops).payload(&[0; 8]).build()
    };
    let table = [
        ("fe80::7", 1, "pass link link:multicast-listener"),
        ("::", 1, "pass link link:multicast-listener"),
        ("fe80::7", 2, "drop default -"),
        // Whoever knows how many routers lie between can have it arrive with any hop limit.
        ("2001:db8:bad::7", 1, "drop default -"),
    ];
    for (source, hops, expected) in table {
        let frame = report(source, hops);
        assert_eq!(judge(&mut engine, &frame, In, 0), expected, "{source}");
    }
}

#[test]
fn only_openings_from_inside_let_answers_in() {
    let table = [
        (
            "SYN",
            tcp((US, 40_000), (SERVER, 8080), SYN),
            tcp((SERVER, 8080), (US, 40_000), SYN | ACK),
            true,
        ),
        (
            "SYN-ACK",
            tcp((US, 40_000), (SERVER, 8080), SYN | ACK),
            tcp((SERVER, 8080), (US, 40_000), ACK),
            false,
        ),
        (
            "RST",
            tcp((US, 40_000), (SERVER, 8080), RST),
            tcp((SERVER, 8080), (US, 40_000), ACK),
            false,
        ),
        (
            "a question",
            udp((US, 40_000), (SERVER, 123)),
            udp((SERVER, 123), (US, 40_000)),
            true,
        ),
        (
            "an answer of our service",
            udp((US, 53), (VISITOR, 5_000)),
            udp((VISITOR, 5_000), (US, 53)),
            false,
        ),
        (
            "echo request",
            between(US, SERVER).icmp(8, 0, [0, 7, 0, 1]).build(),
            between(SERVER, US).icmp(0, 0, [0, 7, 0, 1]).build(),
            true,
        ),
        (
            "echo reply",
            between(US, SERVER).icmp(0, 0, [0, 7, 0, 1]).build(),
            between(SERVER, US).icmp(0, 0, [0, 7, 0, 1]).build(),
            false,
        ),
    ];
    for (what, first, answer, opens) in table {
        let mut engine = strict();
        judge(&mut engine, &first, Out, 0);
        let judged = judge(&mut engine, &answer, In, 1);
        assert_eq!(
            judged.starts_with("pass established"),
            opens,
            "{what}: {judged}"
        );
        // Nobody else's answer comes in.
        let mut other = strict();
        let unasked = judge(&mut other, &answer, In, 1);
        assert!(
            !unasked.starts_with("pass established"),
            "{what}: {unasked}"
        );
    }
}

#[test]
fn a_spoofed_flood_opens_nothing() {
    let mut engine = strict();
    for port in 1_000..3_000 {
        judge(&mut engine, &tcp((VISITOR, port), (US, 443), SYN), In, 0);
        judge(
            &mut engine,
            &tcp((US, 443), (VISITOR, port), SYN | ACK),
            Out,
            0,
        );
        judge(&mut engine, &tcp((VISITOR, port), (US, 9), SYN), In, 0);
        judge(
            &mut engine,
            &tcp((US, 9), (VISITOR, port), RST | ACK),
            Out,
            0,
        );
        let later = judge(&mut engine, &tcp((VISITOR, port), (US, 9), ACK), In, 0);
        assert_eq!(later, "drop default -");
    }
}

#[test]
fn a_connection_lasts_as_long_as_its_protocol_and_state_say() {
    let syn = tcp((US, 40_000), (SERVER, 8080), SYN);
    let answer = tcp((SERVER, 8080), (US, 40_000), SYN | ACK);
    let end = tcp((SERVER, 8080), (US, 40_000), FIN | ACK);
    let question = udp((US, 40_000), (SERVER, 123));
    let reply = udp((SERVER, 123), (US, 40_000));
    // What is sent before, when the last packet comes in, and whether it still belongs.
    let table = [
        (vec![&syn], &answer, 120, true),
        (vec![&syn], &answer, 121, false),
        (vec![&syn, &answer], &answer, 7_440, true),
        (vec![&syn, &answer], &answer, 7_441, false),
        (vec![&syn, &end], &answer, 60, true),
        (vec![&syn, &end], &answer, 61, false),
        (vec![&question], &reply, 30, true),
        (vec![&question], &reply, 31, false),
        (vec![&question, &reply], &reply, 180, true),
        (vec![&question, &reply], &reply, 181, false),
    ];
    for (number, (before, last, seconds, belongs)) in table.into_iter().enumerate() {
        let mut engine = strict();
        for (index, frame) in before.into_iter().enumerate() {
            judge(&mut engine, frame, if index == 0 { Out } else { In }, 0);
        }
        let judged = judge(&mut engine, last, In, seconds);
        assert_eq!(
            judged.starts_with("pass established"),
            belongs,
            "case {number}: {judged}"
        );
    }
}

#[test]
fn an_icmp_error_is_judged_as_the_packet_that_it_quotes_turned_round() {
    let syn = tcp((US, 40_000), (SERVER, 8080), SYN);
    let stranger = tcp((US, 40_001), (SERVER, 8080), SYN);
    let about = |frame: &[u8]| {
        between(VISITOR, US)
            .icmp(3, 1, [0; 4])
            .payload(&frame[14..])
            .build()
    };
    let mut engine = strict();
    judge(&mut engine, &syn, Out, 0);
    assert_eq!(
        judge(&mut engine, &about(&syn), In, 1),
        "pass established -"
    );
    assert_eq!(
        judge(&mut engine, &about(&stranger), In, 1),
        "drop default -"
    );
    let not_ours = tcp((SERVER, 8080), (VISITOR, 40_000), SYN);
    assert_eq!(
        judge(&mut engine, &about(&not_ours), In, 1),
        "drop malformed -"
    );
}

#[test]
fn replies_to_admitted_services_leave_under_an_outbound_default_of_drop() {
    let mut engine = engine("inbound = \"drop\"\noutbound = \"drop\"");
    let table = [
        (
            tcp((US, 443), (VISITOR, 5_000), SYN | ACK),
            "pass established shop",
        ),
        (
            tcp((US, 443), (VISITOR, 5_000), ACK),
            "pass established shop",
        ),
        (udp((US, 53), (VISITOR, 5_000)), "pass established dns"),
        (tcp((US, 443), (VISITOR, 5_000), SYN), "drop default -"),
        (tcp((US, 25), (VISITOR, 5_000), ACK), "drop default -"),
        (udp((US, 68), (SERVER, 67)), "pass link link:dhcp"),
    ];
    for (frame, expected) in table {
        assert_eq!(judge(&mut engine, &frame, Out, 0), expected);
    }
    let shop = engine.compiled().counters.of("shop").unwrap();
    assert_eq!(engine.hits(shop).packets, 2);
}

#[test]
fn a_policy_that_observes_drops_nothing_and_counts_what_it_would_have_dropped() {
    let mut engine = engine("inbound = \"drop\"\noutbound = \"drop\"\nmode = \"observe\"");
    engine
        .ban("198.51.100.9/32".parse().unwrap(), u64::MAX)
        .unwrap();
    let frames = [
        tcp((VISITOR, 1), (US, 9_999), SYN),
        tcp((SERVER, 1), (US, 23), SYN),
        tcp((US, 1), (US, 23), SYN),
        udp((SERVER, 9), (US, 9)),
    ];
    for frame in &frames {
        let judgement = engine.judge(frame, In, SECOND).judgement;
        assert_eq!(judgement.verdict, Verdict::Pass);
        assert_ne!(judgement.reason, Reason::Link);
    }
    let counted = |name: &str| {
        (0..64)
            .find(|counter| engine.rule_name(*counter) == Some(name))
            .map(|counter| engine.hits(counter).packets)
    };
    assert_eq!(counted("observe:ban"), Some(1));
    assert_eq!(counted("observe:malformed"), Some(1));
    assert_eq!(counted("observe:default-inbound"), Some(2));
    assert_eq!(counted("no-telnet"), Some(1));
    assert_eq!(counted("seen"), Some(1));
}
