use std::path::Path;

use firewall_common::packet::flag;
use proptest::prelude::*;

use super::conditions::first_unmet;
use super::*;
use crate::packet_build::PacketBuilder;

const POLICY: &str = r#"
version = 1
[defaults]
inbound = "drop"
outbound = "accept"
[sets]
office = ["198.51.100.0/24", "2001:db8:1::/48"]
hostile = ["203.0.113.0/24", "203.0.113.64/26", "198.51.100.66", "2001:db8:bad::/48"]
[protect]
never_block = ["office"]
[[rule]]
name = "look"
action = "count"
vlan = 7
[[rule]]
name = "hostile"
action = "drop"
from = ["hostile"]
[[rule]]
name = "late"
action = "accept"
expires = 2020-01-01
[[rule]]
name = "ssh"
action = "accept"
protocol = "tcp"
port = 22
from = ["office", "192.0.2.0/25"]
[[rule]]
name = "shop"
action = "accept"
protocol = "tcp"
port = [443, "8000-8099"]
tcp_flags = "!urg"
[[rule]]
name = "watched"
action = "drop"
mode = "observe"
protocol = "udp"
length = "28-100"
[[rule]]
name = "lan"
action = "accept"
interface = "lan0"
[[rule]]
name = "ping"
action = "accept"
protocol = "icmpv6"
icmp_type = "echo-request"
ttl = "2-255"
fragment = false
"#;

fn policy() -> Policy {
    Policy::parse(POLICY, "policy.toml", Path::new("/"))
        .unwrap()
        .0
}

fn packet(from: &str, to: &str) -> PacketBuilder {
    PacketBuilder::new(from.parse().unwrap(), to.parse().unwrap()).unwrap()
}

fn ask(frame: &[u8], bans: &[&str], interface: Option<&str>) -> Explanation {
    let banned = |prefix: &&str| Banned {
        limited: false,
        prefix: prefix.parse().unwrap(),
        note: None,
    };
    let bans: Vec<Banned> = bans.iter().map(banned).collect();
    let question = Question {
        frame,
        direction: Direction::Inbound,
        interface: interface.map(str::to_owned),
        now: 1_900_000_000_000_000_000,
        bans: &bans,
        connection: None,
        signatures: &[],
    };
    explain(&policy(), &question).unwrap()
}

/// Step, rule and result, in words.
fn told(explanation: &Explanation) -> Vec<String> {
    let steps = explanation.steps.iter();
    steps
        .map(|told| {
            let rule = told.rule.as_deref().unwrap_or("");
            format!("{} {rule} {}", told.step, told.result.name())
        })
        .collect()
}

#[test]
fn the_set_that_caught_an_address_is_named_with_its_longest_prefix() {
    let frame = packet("203.0.113.70", "192.0.2.1").tcp(40_000, 443, flag::SYN);
    let explanation = ask(&frame.build(), &[], None);
    assert_eq!((explanation.verdict, explanation.reason), ("drop", "rule"));
    assert_eq!(explanation.rule.as_deref(), Some("hostile"));
    assert_eq!(explanation.set.as_deref(), Some("hostile"));
    assert_eq!(explanation.prefix.as_deref(), Some("203.0.113.64/26"));
    assert_eq!(explanation.source_sets, ["hostile"]);
    assert!(explanation.destination_sets.is_empty());
}

#[test]
fn steps_stand_in_the_order_of_judgement_up_to_the_one_that_decides() {
    let frame = packet("2001:db8:1::9", "2001:db8::1").tcp(40_000, 22, flag::SYN);
    assert_eq!(
        told(&ask(&frame.vlan(7).build(), &[], None)),
        [
            "link  -",
            "malformed  -",
            "ban  -",
            "never_block  -",
            "established  -",
            "rule look counts",
            "rule hostile -",
            "rule late -",
            "rule ssh decides",
        ]
    );
}

#[test]
fn a_ban_decides_unless_the_source_is_protected() {
    let stranger = packet("192.0.2.200", "192.0.2.1").tcp(40_000, 443, flag::SYN);
    let explanation = ask(&stranger.build(), &["192.0.2.192/26"], None);
    assert_eq!((explanation.verdict, explanation.reason), ("drop", "ban"));
    assert_eq!(told(&explanation).last().unwrap(), "ban  decides");
    assert!(explanation.steps[2].detail.contains("192.0.2.192/26"));
    let office = packet("198.51.100.9", "192.0.2.1").tcp(40_000, 443, flag::SYN);
    let explanation = ask(&office.build(), &["198.51.100.9/32"], None);
    assert_eq!(
        (explanation.verdict, explanation.rule.as_deref()),
        ("pass", Some("shop"))
    );
    assert!(explanation.steps[2].detail.contains("spares"));
}

#[test]
fn each_rule_that_is_passed_over_says_which_condition_was_not_met() {
    let v4 = |port| packet("192.0.2.9", "192.0.2.1").tcp(40_000, port, flag::SYN);
    let protected = packet("198.51.100.66", "192.0.2.1").tcp(40_000, 1, flag::SYN);
    let urgent = packet("192.0.2.9", "192.0.2.1").tcp(40_000, 443, flag::SYN | flag::URG);
    let datagram = packet("192.0.2.9", "192.0.2.1")
        .udp(1, 2)
        .payload(&[0; 200]);
    let ping = |ttl| {
        packet("2001:db8::9", "2001:db8::1")
            .icmp(128, 0, [0; 4])
            .ttl(ttl)
    };
    let reply = packet("2001:db8::9", "2001:db8::1").icmp(129, 0, [0; 4]);
    for (frame, rule, expected) in [
        (
            v4(1).build(),
            "look",
            "it has a vlan, and the packet is untagged",
        ),
        (v4(1).vlan(8).build(), "look", "VLAN 8 is not among its own"),
        (
            v4(1).build(),
            "hostile",
            "192.0.2.9 is not in its from (hostile)",
        ),
        (
            protected.build(),
            "hostile",
            "it drops, and never_block protects 198.51.100.66",
        ),
        (v4(1).build(), "late", "it expired 2020-01-02T00:00:00Z"),
        (v4(1).build(), "ssh", "port 1 is not 22"),
        (v4(1).build(), "shop", "port 1 is not 443, 8000-8099"),
        (urgent.build(), "shop", "TCP flag urg is set"),
        (datagram.build(), "shop", "it is about tcp, this is udp"),
        (datagram.build(), "watched", "length 228 is not 28-100"),
        (
            v4(1).build(),
            "lan",
            "it is about interface lan0; say --interface to ask for one",
        ),
        (ping(1).build(), "ping", "ttl 1 is not 2-255"),
        (
            reply.build(),
            "ping",
            "icmp_type echo-reply is not among its own",
        ),
        (
            ping(9).fragment(0, true).build(),
            "ping",
            "it is about whole packets, this is a fragment",
        ),
    ] {
        let explanation = ask(&frame, &[], None);
        let step = explanation
            .steps
            .iter()
            .find(|told| told.rule.as_deref() == Some(rule));
        assert_eq!(step.unwrap().detail, expected, "{rule}");
    }
}

#[test]
fn an_interface_can_be_asked_for() {
    let frame = packet("192.0.2.9", "192.0.2.1")
        .udp(1, 2)
        .payload(&[0; 200])
        .build();
    assert_eq!(ask(&frame, &[], Some("lan0")).rule.as_deref(), Some("lan"));
    assert_eq!(ask(&frame, &[], Some("wan0")).rule, None);
}

#[test]
fn a_ban_is_told_with_what_is_known_of_it() {
    let frame = packet("203.0.113.7", "198.51.100.5")
        .tcp(40_000, 443, flag::SYN)
        .build();
    let note = "until 2027-01-01T00:00:00Z (1h left), manual: credential stuffing";
    let banned = |prefix: &str, note: &str| Banned {
        limited: false,
        prefix: prefix.parse().unwrap(),
        note: Some(note.to_owned()),
    };
    let question = Question {
        frame: &frame,
        direction: Direction::Inbound,
        interface: None,
        now: 1_900_000_000_000_000_000,
        bans: &[
            banned("203.0.0.0/16", "without end"),
            banned("203.0.113.0/28", note),
        ],
        connection: None,
        signatures: &[],
    };
    let explanation = explain(&policy(), &question).unwrap();
    let last = explanation.steps.last().unwrap();
    assert_eq!((last.step, last.result), ("ban", StepResult::Decided));
    assert_eq!(last.detail, format!("203.0.113.0/28 is banned {note}"));
    assert!(explanation.classes.is_empty(), "no rule was asked");
}

#[test]
fn the_entry_of_a_connection_decides_as_long_as_it_lives() {
    let frame = packet("203.0.113.200", "198.51.100.5")
        .udp(53, 40_000)
        .build();
    for (idle, answered, verdict) in [(20, false, "pass"), (40, false, "drop"), (40, true, "pass")]
    {
        let question = Question {
            frame: &frame,
            direction: Direction::Inbound,
            interface: None,
            now: 1_900_000_000_000_000_000,
            bans: &[],
            connection: Some(Entry {
                idle: Duration::from_secs(idle),
                answered,
                closing: false,
                rule: Some("shop".to_owned()),
            }),
            signatures: &[],
        };
        let explanation = explain(&policy(), &question).unwrap();
        assert_eq!(explanation.verdict, verdict, "{idle} {answered}");
        let step = explanation
            .steps
            .iter()
            .find(|told| told.step == "established")
            .unwrap();
        assert_eq!(step.result == StepResult::Decided, verdict == "pass");
        let (state, life) = if answered {
            ("it was answered", 180)
        } else {
            ("it was not answered yet", 30)
        };
        let entry = format!(
            "its latest packet came {idle}.0 s ago, {state}, it ends after {life} s without a packet, rule shop admitted it"
        );
        assert!(step.detail.ends_with(&entry), "{}", step.detail);
        if verdict == "pass" {
            assert_eq!(explanation.rule.as_deref(), Some("shop"));
        }
    }
}

#[test]
fn packets_of_one_class_are_told_the_same_class_and_others_another() {
    let class = |from: &str| {
        let frame = packet(from, "198.51.100.5")
            .tcp(40_000, 22, flag::SYN)
            .build();
        let classes = ask(&frame, &[], None).classes;
        assert!(!classes.contains_key("to"), "no rule looks at destinations");
        (classes["from"], classes["port"])
    };
    assert_eq!(class("203.0.113.1"), class("203.0.113.2"));
    assert_ne!(class("203.0.113.1").0, class("192.0.2.1").0);
    assert_eq!(class("203.0.113.1").1, class("192.0.2.1").1);
}

proptest! {
    /// What is said about rules that were passed over is true: each has a condition that is not
    /// met, and those that matched have none.
    #[test]
    fn words_and_engine_agree_on_which_rules_match(
        v6 in any::<bool>(),
        source in 0..6_usize,
        transport in 0..4_u8,
        port in prop::sample::select(vec![22_u16, 443, 8_050, 9]),
        flags in any::<u8>(),
        kind in prop::sample::select(vec![8_u8, 128, 129]),
        vlan in prop::option::of(6..9_u16),
        ttl in 1..4_u8,
        payload in 0..200_usize,
        fragment in prop::option::of((0..2_u16, any::<bool>())),
        interface in prop::sample::select(vec![None, Some("lan0"), Some("wan0")]),
    ) {
        let sources = if v6 {
            ["2001:db8:1::1", "2001:db8:bad::1", "2001:db8::1", "2a00::1", "2001:db8:2::1", "2b00::1"]
        } else {
            ["198.51.100.9", "203.0.113.9", "198.51.100.66", "192.0.2.5", "192.0.2.200", "10.0.0.1"]
        };
        let mut builder = packet(sources[source], if v6 { "2001:db8::99" } else { "192.0.2.99" });
        builder = match transport {
            0 => builder.tcp(40_000, port, flags),
            1 => builder.udp(40_000, port),
            2 => builder.icmp(kind, 0, [0; 4]),
            _ => builder.protocol(47),
        };
        builder = builder.ttl(ttl).payload(&vec![0; payload]);
        if let Some(vlan) = vlan {
            builder = builder.vlan(vlan);
        }
        if let Some((offset, more)) = fragment {
            builder = builder.fragment(offset, more);
        }
        let frame = builder.build();
        let explanation = ask(&frame, &[], interface);
        let policy = policy();
        let question = Question {
            frame: &frame,
            direction: Direction::Inbound,
            interface: interface.map(str::to_owned),
            now: 1_900_000_000_000_000_000,
            bans: &[],
 connection: None,
 signatures: &[],
        };
        let mut parsed = Packet::default();
        packet::parse(&mut Frame::new(&frame), NO_VLAN, &mut parsed);
        for told in explanation.steps.iter().filter(|told| told.step == "rule") {
            let rule = policy.rules.iter().find(|rule| Some(&rule.name) == told.rule.as_ref());
            let unmet = first_unmet(&policy, rule.unwrap(), &parsed, &question);
            prop_assert_eq!(unmet.is_some(), told.result == StepResult::Passed, "{:?}", told);
        }
    }
}
