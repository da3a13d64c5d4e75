use std::path::Path;

use super::*;

/// The warnings and notes of a policy, in their plain form's first line.
fn findings(text: &str) -> Vec<String> {
    let now = "2026-11-22T00:00:00Z".parse().unwrap();
    let text = format!("version = 1\n{text}");
    let (_, findings) = Policy::parse_at(&text, "p", Path::new(""), now).unwrap();
    findings
        .iter()
        .map(|finding| format!("{}: {}", finding.severity.name(), finding.message))
        .collect()
}

fn rule(name: &str, keys: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\nowner = \"o\"\nreason = \"r\"\n{keys}\n")
}

fn both(earlier: &str, later: &str) -> Vec<String> {
    let sets =
        "[sets]\nwide = [\"198.51.100.0/24\", \"2001:db8::/32\"]\nnarrow = [\"198.51.100.7\"]\n";
    findings(&format!("{sets}{}{}", rule("a", earlier), rule("b", later)))
}

#[test]
fn a_rule_within_an_earlier_deciding_rule_is_shadowed() {
    for (earlier, later) in [
        (
            "action = \"accept\"",
            "action = \"drop\"\nfrom = \"198.51.100.7\"",
        ),
        (
            "action = \"accept\"\nprotocol = \"tcp\"\nport = \"1-1000\"",
            "action = \"drop\"\nprotocol = \"tcp\"\nport = [22, \"80-90\"]",
        ),
        (
            "action = \"drop\"\nfrom = \"wide\"",
            "action = \"accept\"\nfrom = \"narrow\"",
        ),
        (
            "action = \"drop\"\nfrom = \"wide\"",
            "action = \"accept\"\nfrom = [\"narrow\", \"2001:db8:1::/48\"]",
        ),
        (
            "action = \"drop\"\nprotocol = \"tcp\"\ntcp_flags = \"syn\"",
            "action = \"accept\"\nprotocol = \"tcp\"\ntcp_flags = \"syn,!ack\"",
        ),
        (
            "action = \"accept\"\nexpires = 2028-01-01",
            "action = \"accept\"\nexpires = 2027-01-01",
        ),
    ] {
        assert_eq!(
            both(earlier, later),
            [
                "warning: rule \"b\" can never match: rule \"a\" on line 5 decides every packet of it first"
            ],
            "{earlier}\n{later}"
        );
    }
}

#[test]
fn a_rule_that_an_earlier_one_leaves_packets_for_is_not_shadowed() {
    for (earlier, later) in [
        ("action = \"count\"", "action = \"drop\""),
        ("action = \"drop\"\nmode = \"observe\"", "action = \"drop\""),
        (
            "action = \"accept\"\nexpires = 2028-01-01",
            "action = \"accept\"",
        ),
        (
            "action = \"accept\"\ndirection = \"outbound\"",
            "action = \"accept\"",
        ),
        (
            "action = \"accept\"\nprotocol = \"tcp\"",
            "action = \"accept\"\nprotocol = [\"tcp\", \"udp\"]",
        ),
        (
            "action = \"accept\"\nprotocol = \"tcp\"\nport = 80",
            "action = \"accept\"\nprotocol = \"tcp\"\nport = \"80-81\"",
        ),
        (
            "action = \"accept\"\nfrom = \"narrow\"",
            "action = \"accept\"\nfrom = \"wide\"",
        ),
        (
            "action = \"accept\"\nfragment = false",
            "action = \"accept\"",
        ),
        (
            "action = \"drop\"\nprotocol = \"tcp\"\ntcp_flags = \"syn,!ack\"",
            "action = \"accept\"\nprotocol = \"tcp\"\ntcp_flags = \"syn\"",
        ),
    ] {
        assert_eq!(both(earlier, later), [] as [&str; 0], "{earlier}\n{later}");
    }
}

#[test]
fn a_drop_rule_shadows_no_accept_rule_where_sources_are_protected() {
    let protect = "[protect]\nnever_block = [\"203.0.113.9\"]\n";
    let drop = rule("a", "action = \"drop\"");
    let accept = rule("b", "action = \"accept\"");
    assert_eq!(
        findings(&format!("{protect}{drop}{accept}")),
        [] as [&str; 0]
    );
    assert_eq!(findings(&format!("{drop}{accept}")).len(), 1);
}

#[test]
fn rules_that_no_packet_can_match_are_named_with_the_reason() {
    for (keys, why) in [
        (
            "action = \"drop\"\nexpires = 2026-11-21",
            "rule \"a\" expired at 2026-11-22T00:00:00Z",
        ),
        (
            "action = \"drop\"\nfrom = \"none\"",
            "rule \"a\" can never match: the sets of \"from\" are empty",
        ),
        (
            "action = \"drop\"\nfrom = \"198.51.100.7\"\nto = \"2001:db8::1\"",
            "rule \"a\" can never match: its addresses and protocol are of different IP versions",
        ),
        (
            "action = \"drop\"\nprotocol = \"icmpv6\"\nfrom = \"four\"",
            "rule \"a\" can never match: its addresses and protocol are of different IP versions",
        ),
        (
            "action = \"drop\"\nprotocol = 43",
            "rule \"a\" matches no IPv6 packet by protocol 43, which is an extension header there",
        ),
    ] {
        let sets = "[sets]\nnone = []\nfour = [\"198.51.100.7\"]\n";
        let found = findings(&format!("{sets}{}", rule("a", keys)));
        assert_eq!(found, [format!("warning: {why}")]);
    }
}

#[test]
fn a_drop_rule_that_meets_protected_sources_is_noted() {
    let text = format!(
        "[sets]\nbad = [\"203.0.113.0/24\"]\n[protect]\nnever_block = [\"203.0.113.9\"]\n{}",
        rule("a", "action = \"drop\"\nfrom = \"bad\"")
    );
    assert_eq!(
        findings(&text),
        ["note: drop rule \"a\" passes over protected sources: 203.0.113.0/24 meets never_block"]
    );
}

#[test]
fn rules_that_nobody_answers_for_are_noted_once() {
    let rules: String = (0..7)
        .map(|number| format!("[[rule]]\nname = \"r{number}\"\naction = \"count\"\n"))
        .collect();
    assert_eq!(
        findings(&rules),
        ["note: without owner or reason: \"r0\", \"r1\", \"r2\", \"r3\", \"r4\" and 2 more"]
    );
}

#[test]
fn a_policy_that_only_observes_says_so() {
    assert_eq!(
        findings("[defaults]\nmode = \"observe\"\n"),
        ["note: the policy observes: it counts what it would drop and drops nothing"]
    );
}

#[test]
fn limits_that_do_not_do_what_they_seem_to_are_named() {
    for (keys, expected) in [
        (
            "limit = { rate = \"1MB/s\", burst = \"1kB\" }",
            "warning: the limit of rule \"a\" has a burst of 1kB, less than a full frame: such a frame passes only after a pause",
        ),
        (
            "protocol = \"gre\"\nlimit = { rate = \"9/s\", unit = \"requests\" }",
            "warning: the limit of rule \"a\" counts requests, and no protocol of the rule has any that are known",
        ),
        (
            "protocol = \"tcp\"\nport = 80\nto = \"198.51.100.1\"\nlimit = { rate = \"9/s\", per = \"service\" }",
            "warning: the limit of rule \"a\" is per service, and the rule has one service only",
        ),
    ] {
        let text = rule("a", &format!("action = \"accept\"\n{keys}"));
        assert_eq!(findings(&text), [expected], "{keys}");
    }
    for keys in [
        "limit = { rate = \"1MB/s\" }",
        "protocol = [\"gre\", \"udp\"]\nlimit = { rate = \"9/s\", unit = \"requests\" }",
        "protocol = \"tcp\"\nport = 80\nlimit = { rate = \"9/s\", per = \"service\" }",
    ] {
        let text = rule("a", &format!("action = \"accept\"\n{keys}"));
        assert_eq!(findings(&text), [""; 0], "{keys}");
    }
}
