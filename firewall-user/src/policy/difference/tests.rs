use std::path::Path;

use super::*;

const OLD: &str = r#"
version = 1
[defaults]
inbound = "drop"
[sets]
hostile = ["203.0.113.0/25"]
[[rule]]
name = "hostile"
action = "drop"
from = ["hostile"]
[[rule]]
name = "web"
action = "accept"
protocol = "tcp"
port = [80, 443]
"#;

fn policy(text: &str) -> Policy {
    Policy::parse(text, "policy.toml", Path::new("")).unwrap().0
}

/// Changes as `direction family: old -> new, key words`.
fn told(old: &str, new: &str) -> Vec<String> {
    let now = Timestamp::from_second(1_900_000_000).unwrap();
    let difference = compare(&policy(old), &policy(new), now);
    assert!(difference.complete);
    let told = |change: &Change| {
        assert!(change.example.is_some());
        let family = change.family.map_or("", Family::name);
        let keys = change.packets.iter();
        let keys: String = keys
            .map(|(key, words)| format!(", {key} {}", words.join(" ")))
            .collect();
        let direction = change.direction.name();
        format!(
            "{direction} {family}: {} -> {}{keys}",
            change.old, change.new
        )
    };
    difference.changes.iter().map(told).collect()
}

#[test]
fn policies_that_decide_alike_have_no_changes_however_they_are_written() {
    let cases = [
        OLD.to_owned(),
        // Under other names, from prefixes instead of a set.
        OLD.replace("[\"hostile\"]", "[\"203.0.113.0/26\", \"203.0.113.64/26\"]")
            .replace("name = \"web\"", "name = \"shop\""),
        // A rule that is never reached, and one that only counts.
        format!("{OLD}[[rule]]\nname = \"x\"\naction = \"drop\"\nfrom = \"203.0.113.7\"\n"),
        format!("{OLD}[[rule]]\nname = \"x\"\naction = \"count\"\n"),
        // What the default does anyway.
        format!("{OLD}[[rule]]\nname = \"x\"\naction = \"drop\"\n"),
        // One rule as two.
        OLD.replace("[80, 443]", "80")
            + "[[rule]]\nname = \"tls\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 443\n",
        // A source that is malformed before any rule is asked.
        format!("{OLD}[[rule]]\nname = \"x\"\naction = \"accept\"\nfrom = \"127.0.0.0/8\"\n"),
    ];
    for new in cases {
        assert_eq!(told(OLD, &new), Vec::<String>::new(), "{new}");
        assert_eq!(told(&new, OLD), Vec::<String>::new(), "{new}");
    }
}

#[test]
fn each_change_names_who_decided_who_will_and_about_what() {
    let cases = [
        (
            OLD.replace("443]", "443, 8443]"),
            vec!["inbound : drop by default -> pass by rule web, protocol tcp, port 8443"],
        ),
        (
            OLD.replace("203.0.113.0/25", "203.0.113.0/26"),
            vec![
                "inbound IPv4: drop by rule hostile -> pass by rule web, from 203.0.113.64/26, protocol tcp, port 80 443",
            ],
        ),
        (
            OLD.replace("inbound = \"drop\"", "inbound = \"accept\""),
            vec!["inbound : drop by default -> pass by default"],
        ),
        (
            format!("{OLD}[protect]\nnever_block = [\"203.0.113.9\"]\n"),
            vec![
                "inbound IPv4: drop by rule hostile -> pass by rule web, from 203.0.113.9, protocol tcp, port 80 443",
            ],
        ),
        (
            // A part of the second half is still dropped, by a rule that is told by its name.
            OLD.replace("203.0.113.0/25", "203.0.113.0/26").replace(
                "[[rule]]\nname = \"web\"",
                "[[rule]]\nname = \"x\"\naction = \"drop\"\nfrom = \"203.0.113.77\"\n[[rule]]\nname = \"web\"",
            ),
            vec![
                "inbound IPv4: drop by rule hostile -> pass by rule web, from 203.0.113.64/26, protocol tcp, port 80 443",
            ],
        ),
    ];
    for (new, expected) in cases {
        assert_eq!(told(OLD, &new), expected, "{new}");
    }
}

#[test]
fn a_rule_that_expires_later_is_told_with_its_end() {
    let rule = "[[rule]]\nname = \"guest\"\naction = \"accept\"\nprotocol = \"udp\"\nport = 7\nexpires = 2031-01-01T00:00:00Z\n";
    assert_eq!(
        told(OLD, &format!("{OLD}{rule}")),
        [
            "inbound : drop by default -> pass by rule guest, protocol udp, port 7, until 2031-01-01T00:00:00Z"
        ]
    );
    let gone = rule.replace("2031", "2021");
    assert_eq!(told(OLD, &format!("{OLD}{gone}")), Vec::<String>::new());
}

#[test]
fn what_was_done_to_rules_and_sets_is_told_by_name() {
    let new = OLD.replace("[80, 443]", "80").replace(
        "hostile = [\"203.0.113.0/25\"]",
        "hostile = [\"203.0.113.0/26\", \"198.51.100.7\"]",
    ) + "[[rule]]\nname = \"new\"\naction = \"accept\"\nfrom = \"198.51.100.1\"\n";
    let (old, new) = (policy(OLD), policy(&new));
    assert_eq!(
        rule_changes(&old, &new),
        [
            RuleChange::Changed("web".to_owned(), vec!["port".to_owned()]),
            RuleChange::Added("new".to_owned()),
        ]
    );
    assert_eq!(
        set_changes(&old, &new),
        [SetChange {
            name: "hostile".to_owned(),
            added: 2,
            removed: 1,
        }]
    );
}
