use std::net::IpAddr;
use std::path::Path;

use firewall_common::packet::NO_VLAN;

use super::*;
use crate::guard::Place;
use crate::host::{Listener, Transport};
use crate::policy::{Environment, Policy};

const PLACE: Place = Place {
    slot: 0,
    tag: NO_VLAN,
};

const POLICY: &str = r#"version = 1
[defaults]
inbound = "drop"
[sets]
office = ["198.51.100.0/24", "2001:db8:1::/48"]
hostile = ["5.0.0.0/8", "198.51.100.128/25"]
[[rule]]
name = "hostile"
action = "drop"
from = "hostile"
[[rule]]
name = "web"
action = "accept"
protocol = "tcp"
port = [80, "8000-8010"]
[[rule]]
name = "ssh"
action = "accept"
protocol = "tcp"
port = 22
from = ["office", "203.0.113.7"]
[[rule]]
name = "odd"
action = "accept"
protocol = "udp"
port = 5000
from_port = 53
ttl = 255
length = "100-200"
payload = "2:47455420"
[[rule]]
name = "hidden"
action = "accept"
protocol = "tcp"
port = 23
from = "198.51.100.128/25"
"#;

fn policy() -> Policy {
    Policy::parse(POLICY, "test", Path::new("")).unwrap().0
}

fn judge(policy: &Policy) -> Judge<'_> {
    let environment = Environment {
        interfaces: vec!["edge".to_owned()],
        ..Environment::default()
    };
    Judge::new(policy, policy.compile(&environment).unwrap(), 1_000_000_000)
}

fn own() -> [IpAddr; 2] {
    ["203.0.113.1", "2001:db8:51::1"].map(|address| address.parse().unwrap())
}

#[test]
fn who_gets_in_is_what_the_decision_says() {
    let policy = policy();
    let mut judge = judge(&policy);
    let [v4, v6] = own();
    let mut reach = |transport, to, port| judge.reach(transport, to, port, PLACE);
    for to in [v4, v6] {
        let web = reach(Transport::Tcp, to, 8010);
        assert_eq!(
            (web.exposure, web.rules),
            (Exposure::All, vec!["web".to_owned()])
        );
        assert_eq!(reach(Transport::Tcp, to, 8011).exposure, Exposure::None);
        assert_eq!(reach(Transport::Udp, to, 80).exposure, Exposure::None);
        let odd = reach(Transport::Udp, to, 5000);
        assert_eq!(
            (odd.exposure, odd.rules),
            (Exposure::All, vec!["odd".to_owned()])
        );
    }
    let ssh = reach(Transport::Tcp, v4, 22);
    assert_eq!(ssh.exposure, Exposure::Restricted);
    assert_eq!(ssh.from, ["office", "203.0.113.7/32"]);
    assert_eq!(reach(Transport::Tcp, v6, 22).exposure, Exposure::Restricted);
    // All whom the rule is for are dropped before it.
    assert_eq!(reach(Transport::Tcp, v4, 23).exposure, Exposure::None);
}

fn listener(address: &str) -> Listener {
    Listener {
        transport: Transport::Tcp,
        address: address.parse().unwrap(),
        both_families: false,
        interface: None,
        uid: 0,
        process: None,
        of_kernel: false,
        of_client: false,
    }
}

#[test]
fn what_is_open_where_nobody_listens_is_told_by_family_and_port() {
    let policy = policy();
    let mut judge = judge(&policy);
    let addresses = own().map(|address| (address, PLACE));
    let listeners = ["0.0.0.0:80", "[::]:80", "0.0.0.0:22", "0.0.0.0:8003"].map(listener);
    let found = openings(&mut judge, &policy, &addresses, &listeners);
    let found: Vec<String> = found
        .iter()
        .map(|one| {
            let protocol = one.protocol.name();
            format!("{} {protocol} {:?} {:?}", one.rule, one.families, one.ports)
        })
        .collect();
    assert_eq!(
        found,
        [
            "web tcp [\"ipv4\"] [(8000, 8002), (8004, 8010)]",
            "web tcp [\"ipv6\"] [(8000, 8010)]",
            "ssh tcp [\"ipv6\"] [(22, 22)]",
            "odd udp [\"ipv4\", \"ipv6\"] [(5000, 5000)]",
        ]
    );
}
