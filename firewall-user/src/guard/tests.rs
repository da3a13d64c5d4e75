use std::path::Path;

use firewall_common::packet::NO_VLAN;

use super::*;
use crate::policy::Environment;

const PLACE: Place = Place {
    slot: 0,
    tag: NO_VLAN,
};

/// One of each, on both families.
fn lifelines() -> Lifelines {
    let session = |peer: &str, local: &str, own| {
        let (peer, local) = (peer.parse().unwrap(), local.parse().unwrap());
        (Session { local, peer, own }, PLACE)
    };
    let resolver = |server: &str, from: &str| Resolver {
        server: server.parse().unwrap(),
        from: from.parse().unwrap(),
        place: PLACE,
    };
    Lifelines {
        sessions: vec![
            session("198.51.100.7:40000", "198.51.100.1:22", true),
            session("[2001:db8::7]:40000", "[2001:db8::1]:22", false),
        ],
        gateways: vec![
            ("198.51.100.2".parse().unwrap(), PLACE),
            ("2001:db8::2".parse().unwrap(), PLACE),
        ],
        resolvers: vec![
            resolver("203.0.113.53", "198.51.100.1"),
            resolver("2001:db8:53::53", "2001:db8::1"),
        ],
        unknown: Vec::new(),
    }
}

fn threats(policy: &str) -> Vec<String> {
    let (policy, _) = Policy::parse(policy, "test", Path::new("")).unwrap();
    let environment = Environment {
        interfaces: vec!["edge".to_owned(), "other".to_owned()],
        ..Environment::default()
    };
    let compiled = policy.compile(&environment).unwrap();
    let (threats, _) = examine(&policy, compiled, &lifelines(), 1_000_000_000);
    threats.iter().map(ToString::to_string).collect()
}

#[test]
fn an_open_host_and_one_that_only_observes_cut_nothing() {
    let open = "version = 1\n[defaults]\ninbound = \"accept\"\n";
    assert_eq!(threats(open), [] as [&str; 0]);
    let observed = "version = 1\n[defaults]\ninbound = \"drop\"\noutbound = \"drop\"\nmode = \"observe\"\n\
         [[rule]]\nname = \"all\"\naction = \"drop\"\nfrom = \"198.51.100.0/24\"\n";
    assert_eq!(threats(observed), [] as [&str; 0]);
    let rule = "version = 1\n[defaults]\ninbound = \"accept\"\n\
         [[rule]]\nname = \"all\"\naction = \"drop\"\nmode = \"observe\"\nfrom = \"198.51.100.0/24\"\n";
    assert_eq!(threats(rule), [] as [&str; 0]);
}

#[test]
fn a_rule_that_drops_the_peer_of_a_session_is_named_with_its_line() {
    let policy = "version = 1\n[defaults]\ninbound = \"accept\"\n\
         [[rule]]\nname = \"office\"\naction = \"drop\"\nfrom = [\"198.51.100.0/24\", \"2001:db8::7\"]\nprotocol = \"tcp\"\n";
    assert_eq!(
        threats(policy),
        [
            "a new connection from 198.51.100.7 to ssh port 22 (your own session is from there) \
             would be dropped by rule \"office\" (line 4)",
            "a new connection from 2001:db8::7 to ssh port 22 (a session is from there) \
             would be dropped by rule \"office\" (line 4)",
        ]
    );
    // Sources that are never blocked are safe from it.
    let spared = policy.replace(
        "[[rule]]",
        "[protect]\nnever_block = [\"198.51.100.7\", \"2001:db8::7\"]\n[[rule]]",
    );
    assert_eq!(threats(&spared), [] as [&str; 0]);
    // And so is another interface.
    let elsewhere = format!("{policy}interface = \"other\"\n");
    assert_eq!(threats(&elsewhere), [] as [&str; 0]);
}

#[test]
fn a_default_that_nothing_makes_up_for_is_named_as_such() {
    let policy = "version = 1\n[defaults]\ninbound = \"drop\"\n";
    assert_eq!(
        threats(policy),
        [
            "a new connection from 198.51.100.7 to ssh port 22 (your own session is from there) \
             would be dropped by the inbound default: no rule accepts it",
            "a new connection from 2001:db8::7 to ssh port 22 (a session is from there) \
             would be dropped by the inbound default: no rule accepts it",
        ],
        "DNS answers come back to whoever asked"
    );
}

#[test]
fn answers_and_name_servers_need_the_way_out() {
    let policy = "version = 1\n[defaults]\noutbound = \"drop\"\n\
         [[rule]]\nname = \"dns\"\ndirection = \"outbound\"\naction = \"accept\"\nprotocol = \"udp\"\nport = 53\nto = \"203.0.113.53\"\n\
         [[rule]]\nname = \"ssh\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 22\n";
    assert_eq!(
        threats(policy),
        [
            "a DNS query to 2001:db8:53::53 would be dropped by the outbound default: no rule accepts it"
        ],
        "answers to whom a rule lets in go out by themselves"
    );
    let policy = "version = 1\n[defaults]\ninbound = \"accept\"\n\
         [[rule]]\nname = \"mute\"\ndirection = \"outbound\"\naction = \"drop\"\nprotocol = \"tcp\"\nfrom_port = 22\nto = \"198.51.100.7\"\n\
         [[rule]]\nname = \"deaf\"\naction = \"drop\"\nprotocol = \"udp\"\nfrom_port = 53\n";
    let found = threats(policy);
    assert_eq!(
        found,
        ["the answer from ssh port 22 to 198.51.100.7 would be dropped by rule \"mute\" (line 4)"],
        "an answer belongs to its query, whatever a rule says"
    );
}

#[test]
fn the_link_to_the_gateway_needs_no_rule() {
    // Nothing passes but what is built in.
    let closed = "version = 1\n[defaults]\ninbound = \"drop\"\noutbound = \"drop\"\n\
         [[rule]]\nname = \"icmp\"\naction = \"drop\"\nprotocol = [\"icmp\", \"icmpv6\"]\n\
         [[rule]]\nname = \"icmp-out\"\ndirection = \"outbound\"\naction = \"drop\"\nprotocol = [\"icmp\", \"icmpv6\"]\n";
    let found = threats(closed);
    assert!(!found.is_empty());
    assert!(
        !found.iter().any(|threat| threat.contains("gateway")),
        "{found:#?}"
    );
}

#[test]
fn what_the_policy_before_cut_as_well_is_not_new() {
    let threat = |what: &str, rule: &str| Threat {
        lifeline: "ssh".to_owned(),
        what: what.to_owned(),
        direction: "inbound".to_owned(),
        reason: "rule".to_owned(),
        rule: Some(rule.to_owned()),
        line: None,
    };
    let (new, old) = newly(
        vec![threat("a", "first"), threat("b", "second")],
        &[threat("b", "other"), threat("c", "other")],
    );
    assert_eq!(new, [threat("a", "first")]);
    assert_eq!(old, [threat("b", "second")]);
}
