use std::path::Path;

use proptest::prelude::*;

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

/// The warnings alone.
fn warnings(text: &str) -> Vec<String> {
    let mut findings = findings(text);
    findings.retain(|finding| finding.starts_with("warning"));
    findings
}

fn rule(name: &str, keys: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\nowner = \"o\"\nreason = \"r\"\n{keys}\n")
}

fn both(earlier: &str, later: &str) -> Vec<String> {
    let sets =
        "[sets]\nwide = [\"198.51.100.0/24\", \"2001:db8::/32\"]\nnarrow = [\"198.51.100.7\"]\n";
    warnings(&format!("{sets}{}{}", rule("a", earlier), rule("b", later)))
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
    // Protected sources aside, nothing is left for a rule that drops as well, nor for one about others.
    for keys in [
        "action = \"drop\"\nfrom = \"203.0.113.0/24\"",
        "action = \"accept\"\nfrom = \"198.51.100.0/24\"",
    ] {
        let text = format!("{protect}{drop}{}", rule("b", keys));
        assert_eq!(warnings(&text).len(), 1, "{keys}");
    }
}

#[test]
fn a_rule_that_several_earlier_ones_leave_nothing_for_names_them_all() {
    for (earlier, later) in [
        (
            vec!["from = \"198.51.100.0/25\"", "from = \"198.51.100.128/25\""],
            "from = \"198.51.100.0/24\"",
        ),
        (
            vec!["from = \"0.0.0.0/0\"", "from = \"::/0\""],
            "protocol = \"tcp\"\nport = 80",
        ),
        (
            vec![
                "protocol = \"tcp\"\nport = \"0-99\"",
                "protocol = \"udp\"\nport = \"50-65535\"",
            ],
            "protocol = [\"tcp\", \"udp\"]\nport = \"50-99\"",
        ),
        (
            vec![
                "protocol = \"tcp\"\ntcp_flags = \"syn\"",
                "protocol = \"tcp\"\ntcp_flags = \"!syn\"",
            ],
            "protocol = \"tcp\"\nport = 80",
        ),
        (
            vec!["fragment = true", "ttl = \"0-100\"", "ttl = \"101-255\""],
            "length = \"100-200\"",
        ),
    ] {
        let names = ["a", "b", "c"];
        let mut text: String = names
            .iter()
            .zip(&earlier)
            .map(|(name, keys)| rule(name, &format!("action = \"accept\"\n{keys}")))
            .collect();
        text.push_str(&rule("z", &format!("action = \"drop\"\n{later}")));
        let found = warnings(&text);
        assert_eq!(found.len(), 1, "{text}\n{found:?}");
        assert!(
            found[0].contains("rule \"z\" can never match: rules"),
            "{found:?}"
        );
        assert!(found[0].contains("together decide"), "{found:?}");
    }
}

#[test]
fn a_rule_that_several_earlier_ones_leave_a_little_for_is_reached() {
    for (earlier, later) in [
        (
            ["from = \"198.51.100.0/25\"", "from = \"198.51.100.128/26\""],
            "from = \"198.51.100.0/24\"",
        ),
        // Later fragments have no ports.
        (
            [
                "protocol = \"tcp\"\nport = \"0-99\"",
                "protocol = \"tcp\"\nport = \"100-65535\"",
            ],
            "protocol = \"tcp\"",
        ),
        (
            ["interface = \"eth0\"", "interface = \"eth1\""],
            "protocol = \"tcp\"",
        ),
    ] {
        let text: String = [("a", earlier[0]), ("b", earlier[1]), ("z", later)]
            .iter()
            .map(|(name, keys)| rule(name, &format!("action = \"accept\"\n{keys}")))
            .collect();
        assert_eq!(warnings(&text), [] as [&str; 0], "{text}");
    }
}

#[test]
fn a_rule_that_repeats_an_earlier_one_is_named_as_such() {
    assert_eq!(
        both(
            "action = \"drop\"\nprotocol = \"tcp\"\nport = [80, 81]",
            "action = \"drop\"\nport = \"80-81\"\nprotocol = 6"
        ),
        ["warning: rule \"b\" repeats rule \"a\" on line 5"]
    );
}

proptest! {
    #[test]
    fn the_rules_that_are_never_reached_are_those_that_no_packet_reaches(
        rules in prop::collection::vec((0..8_u8, 0..4_u8, 0..5_u16, 0..4_u16, 0..4_u8, 0..3_u8, any::<bool>()), 1..9),
    ) {
        let text: String = rules
            .iter()
            .enumerate()
            .map(|(index, (host, bits, port, more, ttl, ttls, counts))| {
                let prefix = format!("198.51.100.{}/{}", host >> bits << bits, 32 - bits);
                let action = if *counts { "count" } else { "accept" };
                rule(&format!("r{index}"), &format!(
                    "action = \"{action}\"\nfrom = \"{prefix}\"\nprotocol = \"tcp\"\nport = \"{port}-{}\"\nttl = \"{ttl}-{}\"",
                    port + more, ttl + ttls
                ))
            })
            .collect();
        let mut reached = vec![false; rules.len()];
        for (host, port, ttl) in (0..8).flat_map(|h| (0..10).flat_map(move |p| (0..8).map(move |t| (h, p, t)))) {
            for (index, (from, bits, first, more, low, ttls, counts)) in rules.iter().enumerate() {
                let matches = from >> bits == host >> bits
                    && (*first..=first + more).contains(&port)
                    && (*low..=low + ttls).contains(&ttl);
                if matches {
                    reached[index] = true;
                    if !counts {
                        break;
                    }
                }
            }
        }
        let found = warnings(&text);
        for (index, reached) in reached.into_iter().enumerate() {
            let named = format!("warning: rule \"r{index}\" ");
            prop_assert_eq!(found.iter().any(|line| line.starts_with(&named)), !reached, "{}\n{:?}", text, found);
        }
    }
}

#[test]
fn sets_that_nothing_names_or_that_hold_too_much_are_noted_where_they_stand() {
    let text = format!(
        "[sets]\nunused = [\"203.0.113.9\"]\nfull = [\"198.51.100.0/24\", \"198.51.100.7\"]\nall = [\"0.0.0.0/1\", \"128.0.0.0/1\"]\nfriends = []\n[protect]\nnever_block = [\"friends\"]\n{}{}",
        rule("a", "action = \"drop\"\nfrom = \"full\""),
        rule("b", "action = \"drop\"\nfrom = \"all\"")
    );
    assert_eq!(
        findings(&text),
        [
            "warning: drop rule \"b\": set \"all\" in its \"from\" covers all of IPv4",
            "note: no rule names set \"unused\", nor does never_block",
            "note: set \"full\" has 1 entry that others cover, such as 198.51.100.7, which is in 198.51.100.0/24",
        ]
    );
    let (_, findings) = Policy::parse(&format!("version = 1\n{text}"), "p", Path::new("")).unwrap();
    let places: Vec<_> = findings
        .iter()
        .map(|finding| (finding.code.unwrap(), finding.place.as_ref().unwrap().line))
        .collect();
    assert_eq!(
        places,
        [
            ("set-covers-all", 15),
            ("set-unused", 3),
            ("set-entry-covered", 4)
        ]
    );
}

#[test]
fn protection_of_everybody_and_of_all_that_a_rule_drops_is_a_warning() {
    let text = "[protect]\nnever_block = [\"0.0.0.0/0\"]\n".to_owned()
        + &rule("a", "action = \"drop\"\nfrom = \"198.51.100.0/24\"");
    assert_eq!(
        findings(&text),
        [
            "warning: rule \"a\" can never match: it drops, and never_block spares all of its \"from\"",
            "warning: never_block covers all of IPv4: no ban and no drop rule works there",
        ]
    );
}

#[test]
fn an_administrative_port_that_is_open_to_everybody_is_noted() {
    let ssh = "action = \"accept\"\nprotocol = \"tcp\"\nport = [443, \"20-25\", 6379]";
    assert_eq!(
        findings(&rule("a", ssh)),
        ["note: rule \"a\" opens port 22 (SSH), 23 (Telnet), 6379 (Redis) to the whole Internet"]
    );
    let everybody = format!("{ssh}\nfrom = [\"198.51.100.7\", \"::/0\"]");
    assert_eq!(findings(&rule("a", &everybody)).len(), 1);
    for keys in [
        format!("{ssh}\nfrom = \"198.51.100.0/24\""),
        format!("{ssh}\ndirection = \"outbound\""),
        "action = \"accept\"\nprotocol = \"udp\"\nport = 22".to_owned(),
    ] {
        assert_eq!(findings(&rule("a", &keys)), [] as [&str; 0], "{keys}");
    }
}

#[test]
fn a_rule_that_expires_within_two_weeks_is_noted() {
    let expires = |date| {
        findings(&rule(
            "a",
            &format!("action = \"accept\"\nexpires = {date}"),
        ))
    };
    assert_eq!(
        expires("2026-12-05"),
        ["note: rule \"a\" expires soon, at 2026-12-06T00:00:00Z"]
    );
    assert_eq!(expires("2026-12-07"), [] as [&str; 0]);
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
            "action = \"drop\"\nprotocol = \"tcp\"\nport = 80\nlength = \"0-39\"",
            "rule \"a\" can never match: its packets have 40 bytes at least, and its \"length\" ends at 39",
        ),
        (
            "action = \"drop\"\nprotocol = \"udp\"\nfrom = \"2001:db8::/32\"\npayload = \"12:00\"\nlength = 60",
            "rule \"a\" can never match: its packets have 61 bytes at least, and its \"length\" ends at 60",
        ),
        (
            "action = \"drop\"\nfrom = [\"127.0.0.1\", \"ff02::/16\"]",
            "rule \"a\" can never match: no packet comes in from its \"from\": such sources are dropped as malformed first",
        ),
        (
            "action = \"drop\"\nprotocol = 43",
            "rule \"a\" matches no IPv6 packet by protocol 43, which is an extension header there",
        ),
    ] {
        let sets = "[sets]\nnone = []\nfour = [\"198.51.100.7\"]\n";
        let found = warnings(&format!("{sets}{}", rule("a", keys)));
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
