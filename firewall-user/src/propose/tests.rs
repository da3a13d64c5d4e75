use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::guard::Lifelines;
use crate::host::{Process, Session, Transport};
use crate::policy::{Policy, Severity};

fn edge() -> Interface {
    Interface {
        name: "edge".to_owned(),
        index: 2,
        up: true,
        loopback: false,
        ethernet: true,
        driver: Some("veth".to_owned()),
        addresses: ["198.51.100.1", "2001:db8:51::1"]
            .map(|address| address.parse().unwrap())
            .to_vec(),
    }
}

fn host(listeners: Vec<Listener>, sessions: Vec<Session>) -> Host {
    Host {
        listeners,
        sessions,
        interfaces: vec![edge()],
        gateways: vec![("198.51.100.2".parse().unwrap(), "edge".to_owned())],
        resolvers: vec!["203.0.113.53".parse().unwrap()],
        time_keeper: Some(Process {
            pid: 7,
            name: "chronyd".to_owned(),
        }),
        forwards: false,
        namespace: None,
        unknown: Vec::new(),
    }
}

fn listener(transport: Transport, address: &str, name: &str) -> Listener {
    let address: SocketAddr = address.parse().unwrap();
    Listener {
        transport,
        address,
        both_families: address.is_ipv6() && address.ip().is_unspecified(),
        interface: None,
        uid: 0,
        process: Some(Process {
            pid: 1_000,
            name: name.to_owned(),
        }),
        of_kernel: false,
        of_client: false,
    }
}

fn session(local: &str, peer: &str, name: &str, inbound: bool) -> Session {
    Session {
        transport: Transport::Tcp,
        local: local.parse().unwrap(),
        peer: peer.parse().unwrap(),
        uid: 0,
        process: Some(Process {
            pid: 1_001,
            name: name.to_owned(),
        }),
        inbound,
    }
}

const WISHES: Wishes = Wishes {
    mode: Mode::Enforce,
    outbound: DefaultAction::Drop,
};

/// The text, and the policy without a warning that it is.
fn proposed(host: &Host) -> (String, Policy) {
    let edge = edge();
    let proposal = Proposal::of(host, &[&edge], WISHES);
    let text = proposal.policy(host, &[&edge], jiff::Timestamp::UNIX_EPOCH);
    let (policy, findings) = Policy::parse(&text, "proposal", Path::new("")).expect(&text);
    let warned = findings
        .iter()
        .any(|finding| finding.severity == Severity::Warning);
    assert!(!warned, "{findings:#?}\n{text}");
    (text, policy)
}

#[test]
fn a_rule_says_who_listens_and_who_is_there() {
    let host = host(
        vec![
            listener(Transport::Tcp, "0.0.0.0:22", "sshd"),
            listener(Transport::Tcp, "[::]:22", "sshd"),
            listener(Transport::Tcp, "0.0.0.0:80", "nginx"),
            listener(Transport::Tcp, "0.0.0.0:443", "nginx"),
            listener(Transport::Udp, "198.51.100.1:53", "named"),
            listener(Transport::Tcp, "127.0.0.1:5432", "postgres"),
            listener(Transport::Udp, "0.0.0.0:68", "dhclient"),
        ],
        vec![
            session("198.51.100.1:22", "203.0.113.9:40000", "sshd", true),
            session(
                "198.51.100.1:40001",
                "203.0.113.10:3306",
                "php-fpm8.2",
                false,
            ),
        ],
    );
    let (text, policy) = proposed(&host);
    let names: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "named-udp",
            "nginx",
            "sshd",
            "ping",
            "ping6",
            "out-dns",
            "out-ntp",
            "out-php-fpm8.2"
        ]
    );
    for line in [
        "# from   = [\"203.0.113.9\"]",
        "port     = [80, 443]",
        "to       = \"0.0.0.0/0\"",
        "to       = \"198.51.100.1\"",
        "# named runs here and asks any name server",
        "#   tcp 127.0.0.1:5432: postgres (process 1000): only the host itself reaches it",
        "#   udp 0.0.0.0:68: dhclient (process 1000): a built-in rule lets the answers of DHCP in",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert_eq!(
        policy.rules[2].to.prefixes.len(),
        0,
        "sshd listens on both families"
    );
}

#[test]
fn many_peers_are_proposed_as_their_networks_and_none_is_left_out() {
    let sessions = (1..=40).map(|last| {
        session(
            "198.51.100.1:22",
            &format!("203.0.113.{last}:4000"),
            "sshd",
            true,
        )
    });
    let listeners = vec![listener(Transport::Tcp, "[::]:22", "sshd")];
    let (text, _) = proposed(&host(listeners, sessions.collect()));
    assert!(text.contains("# from   = [\"203.0.113.0/24\"]\n"), "{text}");
    assert!(text.contains("and 32 more"), "{text}");
}

#[test]
fn the_settings_are_what_the_daemon_reads() {
    let text = settings(&[&edge()], "/etc/pol\"icy.toml");
    let settings = crate::settings::Settings::parse(Path::new("/etc/palisade.toml"), &text);
    let settings = settings.expect(&text);
    assert_eq!(settings.interfaces[0].name, "edge");
    assert_eq!(settings.policy, Path::new("/etc/pol\"icy.toml"));
}

fn any_listener() -> impl Strategy<Value = Listener> {
    let address = prop_oneof![
        Just("0.0.0.0"),
        Just("::"),
        Just("198.51.100.1"),
        Just("2001:db8:51::1"),
        Just("127.0.0.1"),
    ];
    let udp = any::<bool>();
    (
        address,
        1..80_u16,
        "\\PC{0,15}|ngin[xy]",
        udp,
        any::<bool>(),
    )
        .prop_map(|(address, port, name, udp, both)| {
            let transport = if udp { Transport::Udp } else { Transport::Tcp };
            let address: IpAddr = address.parse().unwrap();
            let text = SocketAddr::new(address, port).to_string();
            let mut listener = listener(transport, &text, &name);
            listener.both_families &= both;
            listener
        })
}

fn any_session() -> impl Strategy<Value = Session> {
    ("\\PC{0,15}", 1..2_000_u16, any::<bool>(), 1..250_u8).prop_map(|(name, port, udp, last)| {
        let mut session = session(
            "198.51.100.1:40000",
            &format!("203.0.113.{last}:{port}"),
            &name,
            false,
        );
        if udp {
            session.transport = Transport::Udp;
        }
        session
    })
}

proptest! {
    #[test]
    fn whatever_runs_on_a_host_its_proposal_is_a_policy_that_keeps_it(
        listeners in prop::collection::vec(any_listener(), 0..12),
        sessions in prop::collection::vec(any_session(), 0..12),
    ) {
        let host = host(listeners, sessions);
        let (text, policy) = proposed(&host);
        let kept = keeps(&policy, &host, &[&edge()], &Lifelines::default()).unwrap();
        prop_assert_eq!(kept.cuts, Vec::<String>::new(), "{}", text);
    }
}
