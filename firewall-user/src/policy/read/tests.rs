mod faults;

use std::fs;
use std::path::Path;

use firewall_common::Direction;
use proptest::prelude::*;

use super::*;
use crate::policy::finding::SHOWN;

fn parse(text: &str) -> Result<(Policy, Vec<Finding>), PolicyErrors> {
    let now: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap();
    Policy::parse_at(text, "p.toml", Path::new("/nonexistent"), now)
}

/// The first lines of the plain form of each error, without the file's name.
fn faults(text: &str) -> Vec<String> {
    let refused = parse(text).expect_err(text);
    let first_line = |error: &Finding| error.to_string().lines().next().unwrap().to_owned();
    refused
        .errors
        .iter()
        .map(|error| first_line(error).replace("p.toml:", ""))
        .collect()
}

/// A policy of one rule with further keys.
fn rule(keys: &str) -> String {
    format!(
        "version = 1\n[sets]\noffice = [\"198.51.100.0/24\"]\n[[rule]]\nname = \"r\"\naction = \"accept\"\n{keys}\n"
    )
}

#[test]
fn the_contract_s_keys_are_read_to_their_meaning() {
    let text = r#"
version = 1
[defaults]
inbound = "accept"
outbound = "drop"
mode = "observe"
[sets]
office = ["198.51.100.0/24", "2001:db8:1::/48"]
empty = []
[protect]
never_block = ["office", "203.0.113.9"]
[[rule]]
name = "all"
action = "drop"
direction = "outbound"
mode = "observe"
protocol = ["tcp", 6]
port = [443, 80, "8000-8099", "22"]
from_port = "1024-65535"
from = ["office", "203.0.113.0/25"]
to = "2001:db8::1"
tcp_flags = "syn, !ack"
length = "0-128"
ttl = [1, "60-64"]
tcp_window = [0, "1024-2048"]
payload = ["0:47455420", { offset = 4, hex = "2F ??" }, { text = "GET " }]
vlan = [0, 4094]
interface = "eth0"
fragment = false
log = true
owner = "operations"
reason = "because"
expires = 2027-06-30
[[rule]]
name = "echo"
action = "count"
protocol = "icmpv6"
icmp_type = ["echo-request", 129]
"#;
    let (policy, _) = parse(text).unwrap();
    assert_eq!(
        policy.defaults,
        Defaults {
            inbound: DefaultAction::Accept,
            outbound: DefaultAction::Drop,
            mode: Mode::Observe
        }
    );
    assert_eq!(policy.sets.len(), 2);
    let protected: Vec<String> = policy.never_block.iter().map(ToString::to_string).collect();
    assert_eq!(
        protected,
        ["203.0.113.9/32", "198.51.100.0/24", "2001:db8:1::/48"]
    );
    let prefix = |text: &str| text.parse().unwrap();
    let expected = Rule {
        name: "all".to_owned(),
        action: Action::Drop,
        direction: Direction::Outbound,
        mode: Mode::Observe,
        protocols: vec![6],
        from: Addresses {
            sets: vec![0],
            prefixes: vec![prefix("203.0.113.0/25")],
        },
        to: Addresses {
            sets: vec![],
            prefixes: vec![prefix("2001:db8::1/128")],
        },
        from_ports: vec![(1024, 65535)],
        ports: vec![(443, 443), (80, 80), (8000, 8099), (22, 22)],
        tcp_flags: Some(TcpFlags { set: 2, clear: 16 }),
        icmp_types: vec![],
        vlans: vec![0, 4094],
        interfaces: vec!["eth0".to_owned()],
        lengths: vec![(0, 128)],
        ttls: vec![(1, 1), (60, 64)],
        tcp_windows: vec![(0, 0), (1024, 2048)],
        payloads: vec!["0:47455420".parse().unwrap(), "4:2f??".parse().unwrap()],
        fragment: Some(false),
        limit: None,
        log: true,
        owner: Some("operations".to_owned()),
        reason: Some("because".to_owned()),
        expires: Some("2027-07-01T00:00:00Z".parse().unwrap()),
        line: 12,
    };
    assert_eq!(policy.rules[0], expected);
    assert_eq!(policy.rules[1].action, Action::Count);
    assert_eq!(policy.rules[1].icmp_types, [128, 129]);
    assert_eq!(policy.rules[1].line, 34);
}

#[test]
fn the_smallest_policy_drops_inbound_and_accepts_outbound() {
    let (policy, _) = parse(SMALLEST_POLICY).unwrap();
    let expected = Defaults {
        inbound: DefaultAction::Drop,
        outbound: DefaultAction::Accept,
        mode: Mode::Enforce,
    };
    assert_eq!(policy.defaults, expected);
}

#[test]
fn the_line_and_a_caret_follow_the_message() {
    let refused = parse(&rule("prot = \"tcp\"")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "p.toml:7:1: error: unknown key \"prot\" in rule \"r\"; did you mean \"protocol\"?\n\
         7 | prot = \"tcp\"\n\
         \u{20} | ^^^^"
    );
}

#[test]
fn all_errors_are_counted_and_the_first_twenty_shown() {
    let many: String = (0..500).map(|number| format!("x{number} = 1\n")).collect();
    let refused = parse(&rule(&many)).unwrap_err();
    assert_eq!(refused.total(), 500);
    let text = refused.to_string();
    assert_eq!(
        text.lines().filter(|line| line.contains("error:")).count(),
        SHOWN
    );
    assert!(text.ends_with("\nand 480 more errors"), "{text}");
}

#[test]
fn bad_lines_of_a_set_s_file_are_errors_of_that_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.netset"), "198.51.100.7\nnonsense\n").unwrap();
    let path = folder.path().join("policy.toml");
    fs::write(&path, "version = 1\n[sets]\na = { file = \"a.netset\" }\n").unwrap();
    let refused = Policy::load(&path).unwrap_err();
    assert_eq!(refused.total(), 1);
    let error = &refused.errors[0];
    assert!(error.file.ends_with("/a.netset"), "{}", error.file);
    assert_eq!(
        error.place.as_ref().map(|place| (place.line, place.column)),
        Some((2, 1))
    );
}

#[test]
fn a_file_that_is_no_text_is_refused_with_the_place_of_the_first_bad_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    fs::write(&path, b"version = 1\n# \xff\n").unwrap();
    let refused = Policy::load(&path).unwrap_err();
    let place = refused.errors[0].place.clone().unwrap();
    assert_eq!((place.line, place.column), (2, 3));
}

#[test]
fn a_missing_policy_is_refused_by_name() {
    let refused = Policy::load(Path::new("/nonexistent/policy.toml")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "/nonexistent/policy.toml: error: no such file"
    );
}

#[test]
fn a_policy_of_a_million_bad_lines_is_refused_with_its_first() {
    let text = "bad\n".repeat(1_000_000);
    let refused = parse(&text).unwrap_err();
    assert_eq!(refused.total(), 1);
    let place = refused.errors[0].place.clone().unwrap();
    assert_eq!((place.line, place.column), (1, 4));
}

#[test]
fn one_rule_too_many_is_refused() {
    let mut text = "version = 1\n".to_owned();
    for number in 0..=MAX_RULES {
        text.push_str(&format!(
            "[[rule]]\nname = \"r{number}\"\naction = \"count\"\n"
        ));
    }
    let refused = parse(&text).unwrap_err();
    assert_eq!(refused.total(), 1);
    assert_eq!(
        refused.errors[0].message,
        format!("there are {} rules", MAX_RULES + 1)
    );
}

#[test]
fn the_example_policy_is_valid_without_a_warning() {
    let text = include_str!("../../../../examples/policy.toml");
    let (policy, warnings) = parse(text).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(policy.rules.len(), 7);
}

/// Fragments of the language, so that random texts reach far into the reader.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("version = 1\n".to_owned()),
        Just("[defaults]\n".to_owned()),
        Just("[sets]\n".to_owned()),
        Just("[[rule]]\n".to_owned()),
        "(name|action|protocol|port|from|to|ttl|vlan|expires|icmp_type|tcp_flags|office) = (\"[a-z0-9:./!,-]{0,12}\"|-?[0-9]{1,9}|\\[\"[a-z]{0,4}\", [0-9]{1,3}\\]|2[0-9]{3}-0[0-9]-[0-3][0-9]|\\{ file = \"[a-z/]{0,5}\" \\})\n",
        ".{0,12}",
        "[\\[\\]{}\"'=\\n#,.0-9a-z]{0,20}",
    ]
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(parts in prop::collection::vec(fragment(), 0..12)) {
        let text = parts.concat();
        if let Err(refused) = parse(&text) {
            prop_assert!(!refused.errors.is_empty());
            prop_assert!(!refused.to_string().is_empty());
        }
    }
}

#[test]
fn rules_are_the_same_without_the_lists_of_their_sets() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("long.netset"), "198.51.100.7\n").unwrap();
    let text = "version = 1\n[sets]\nlong = { file = \"long.netset\" }\nshort = [\"203.0.113.0/24\"]\n\
                [protect]\nnever_block = [\"short\"]\n\
                [[rule]]\nname = \"r\"\naction = \"drop\"\nfrom = [\"long\", \"short\"]\n";
    let (whole, _) = Policy::parse(text, "p.toml", folder.path()).unwrap();
    let bare = Policy::parse_without_lists(text, "p.toml", folder.path()).unwrap();
    assert_eq!(bare.rules, whole.rules);
    assert_eq!(bare.sets[1], whole.sets[1]);
    assert_eq!(whole.sets[0].prefixes.len(), 1);
    assert_eq!(bare.sets[0].prefixes, []);
    let wrong = format!("{text}color = 1\n");
    assert!(Policy::parse_without_lists(&wrong, "p.toml", folder.path()).is_err());
}
