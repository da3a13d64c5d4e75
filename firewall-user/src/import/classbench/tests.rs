use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use firewall_common::Direction;
use firewall_common::packet::{Frame, NO_VLAN, Packet, parse};

use super::filter::Masked;
use super::*;
use crate::engine::HostEngine;
use crate::policy::{Action, Environment, Policy};

const SET: &str = "@198.51.100.0/24\t203.0.113.7/32\t0 : 65535\t1711 : 1711\t0x06/0xFF\t0x0000/0x0200\t\n\
    @0.0.0.0/0\t0.0.0.0/0\t53 : 53\t0 : 65535\t0x00/0x00\t0x0000/0x0000\t\n\
    @198.51.100.9/31 203.0.113.0/24 0:65535 0:65535 0x01/0xFF 0x0303/0xffff\n\
    \n\
    @198.51.100.8/31\t0.0.0.0/0\t53 : 53\t0 : 65535\t0x02/0xFF\t0x0000/0x0000\t\n\
    @0.0.0.0/0\t203.0.113.0/25\t0 : 65535\t1024 : 2047\t0x11/0xFF\t\n\
    @0.0.0.0/0\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x00/0x00\t0x0000/0x0000\t\n";

fn policy(text: &str) -> Policy {
    match Policy::parse(text, "policy.toml", Path::new("")) {
        Ok((policy, _)) => policy,
        Err(refused) => panic!("{refused}\n{text}"),
    }
}

#[test]
fn each_field_of_a_filter_becomes_the_condition_that_it_is() {
    let filters = read_filters(SET, "set").unwrap();
    let imported = import(&filters, "acl1", Actions::Alternate);
    let policy = policy(&imported.text);
    assert_eq!(imported.rules, 5);
    let names: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "acl1-00001",
            "acl1-00002",
            "acl1-00003",
            "acl1-00005",
            "acl1-00006"
        ]
    );
    let prefixes = |text: &str| vec![text.parse().unwrap()];
    let [first, dns, icmp, udp, all] = &policy.rules[..] else {
        panic!("five rules");
    };
    assert_eq!(first.protocols, [6]);
    assert_eq!(first.ports, [(1711, 1711)]);
    assert_eq!(first.from_ports, []);
    let flags = first.tcp_flags.unwrap();
    assert_eq!((flags.set, flags.clear), (0, 2));
    assert_eq!(first.from.prefixes, prefixes("198.51.100.0/24"));
    assert_eq!(first.to.prefixes, prefixes("203.0.113.7/32"));
    // Only protocols with ports can match a port.
    assert_eq!(dns.protocols, [6, 17, 33, 132, 136]);
    assert_eq!(dns.from.prefixes, prefixes("0.0.0.0/0"));
    assert!(dns.to.is_any());
    assert_eq!(icmp.icmp_types, [3]);
    assert_eq!(icmp.from.prefixes, prefixes("198.51.100.8/31"));
    assert_eq!(imported.widened[0].0, 3);
    assert_eq!(imported.left_out[0].0, 4);
    assert_eq!(udp.ports, [(1024, 2047)]);
    assert!(udp.from.is_any());
    assert!(all.protocols.is_empty());
    assert_eq!(all.from.prefixes, prefixes("0.0.0.0/0"));
    let actions: Vec<Action> = policy.rules.iter().map(|rule| rule.action).collect();
    use Action::{Accept, Drop};
    assert_eq!(actions, [Accept, Drop, Accept, Accept, Drop]);
}

#[test]
fn the_flags_of_tcp_are_the_high_byte_both_where_set_and_where_not() {
    for (written, set, clear) in [
        ("0x0200/0x1200", 2, 16),
        ("0x1000/0x1000", 16, 0),
        ("0x0000/0x0200", 0, 2),
        ("0x0400/0x0400", 4, 0),
        ("0x1300/0x0200", 2, 0),
    ] {
        let line =
            format!("@198.51.100.0/24 203.0.113.0/24 0 : 65535 0 : 65535 0x06/0xFF {written}");
        let imported = import(&read_filters(&line, "set").unwrap(), "x", Actions::Drop);
        let flags = policy(&imported.text).rules[0].tcp_flags.unwrap();
        assert_eq!((flags.set, flags.clear), (set, clear), "{written}");
    }
}

#[test]
fn what_is_wrong_in_a_set_is_named_with_its_line_and_column() {
    for (line, column, message) in [
        ("198.51.100.0/24", 1, "expected \"@\""),
        (
            "@198.51.100/24 ",
            2,
            "\"198.51.100/24\" is no source address",
        ),
        (
            "@198.51.100.0/33 203",
            15,
            "33 is more than a prefix length can be, 32",
        ),
        (
            "@198.51.100.0/24 203.0.113.0/24 9 : 8 ",
            33,
            "9 : 8 holds no source port",
        ),
        (
            "@198.51.100.0/24 203.0.113.0/24 9 - 8 ",
            35,
            "expected \":\"",
        ),
        (
            "@198.51.100.0/24 203.0.113.0/24 0 : 70000",
            37,
            "70000 is more than a source port can be, 65535",
        ),
        (
            "@198.51.100.0/24 203.0.113.0/24 0 : 7",
            38,
            "the line ends before the destination port",
        ),
        (
            "@198.51.100.0/24 203.0.113.0/24 0 : 7 0 : 7 6/0xff",
            45,
            "\"6/0xff\" is no protocol",
        ),
        (
            "@198.51.100.0/24 203.0.113.0/24 0 : 7 0 : 7 0x6/0xff 0/0",
            54,
            "\"0/0\" is no flags field",
        ),
        (
            "@198.51.100.0/24 203.0.113.0/24 0 : 7 0 : 7 0x6/0xff 0x0/0x0 täglich",
            62,
            "\"täglich\" is too much",
        ),
    ] {
        let text = format!("{SET}{line}\n");
        let refused = read_filters(&text, "set").unwrap_err();
        let place = refused.errors[0].place.as_ref().unwrap();
        let found = (place.line, place.column, refused.errors[0].message.as_str());
        assert_eq!(found, (8, column, message), "{line}");
        assert_eq!(refused.errors.len(), 1);
    }
}

#[test]
fn a_file_of_nonsense_has_its_first_errors_told_and_the_rest_counted() {
    let refused = read_filters(&"x\n".repeat(1_000), "set").unwrap_err();
    assert_eq!((refused.errors.len(), refused.total()), (200, 1_000));
}

#[test]
fn headers_become_the_packets_that_they_describe() {
    let trace = "3325256711\t3405803783\t1024\t443\t6\t33559040\t0\n\
        3325256711\t3405803783\t1\t2\t6\t4294967295\t1\n\
        3325256711\t3405803783\t53\t54\t17\t0\t2\n\
        3325256711\t3405803783\t0\t0\t1\t50593791\t3\n\
        3325256711\t3405803783\t7\t8\t132\t0\t4\n\
        3325256711\t3405803783\t65535\t0\t255\t0\t5\n";
    let headers = read_headers(trace, "trace").unwrap();
    assert_eq!(headers[0].source, Ipv4Addr::new(198, 51, 100, 7));
    let expected = Masked {
        value: 0x0200,
        mask: 0x1200,
    };
    assert_eq!(headers[0].flags, Some(expected));
    assert_eq!(headers[5].filter, 5);
    let parsed = |header: &Header| {
        let frame = header.frame();
        let mut packet = Packet::default();
        parse(&mut Frame::new(&frame), NO_VLAN, &mut packet);
        assert_eq!(packet.kind, firewall_common::packet::Kind::Ip);
        assert_eq!(packet.source.as_v4(), header.source.to_bits());
        assert_eq!(packet.destination.as_v4(), header.destination.to_bits());
        assert_eq!(packet.protocol, header.protocol);
        (
            packet.source_port,
            packet.destination_port,
            packet.tcp_flags,
            packet.icmp_type,
            packet.icmp_code,
        )
    };
    let packets: Vec<_> = headers.iter().map(parsed).collect();
    assert_eq!(packets[0], (1024, 443, 2, 0, 0));
    assert_eq!(packets[1], (1, 2, 2, 0, 0));
    assert_eq!(packets[2], (53, 54, 0, 0, 0));
    assert_eq!(packets[3], (0, 0, 0, 3, 3));
    assert_eq!(packets[4], (7, 8, 0, 0, 0));
    assert_eq!(packets[5], (0, 0, 0, 0, 0));
    let refused = read_headers("1 2 3 4 5 6\n", "trace").unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("trace:1:12: error: the line ends before the filter")
    );
}

/// Whether a filter matches a header, by its own definition; a packet without ports has no port.
fn matches(filter: &Filter, header: &Header) -> bool {
    let has_ports = [6, 17, 33, 132, 136].contains(&header.protocol);
    let within = |(low, high): (u16, u16), port: u16| {
        (low, high) == (0, 65_535) || (has_ports && (low..=high).contains(&port))
    };
    let flags = match header.protocol {
        6 => header.flags.map_or(0x0200, |flags| flags.value & 0xff00),
        _ => header.flags.map_or(0x0800, |flags| flags.value),
    };
    filter.source.contains(&header.source)
        && filter.destination.contains(&header.destination)
        && within(filter.source_ports, header.source_port)
        && within(filter.destination_ports, header.destination_port)
        && header.protocol & filter.protocol.mask == filter.protocol.value
        && flags & filter.flags.mask == filter.flags.value
}

#[test]
fn the_first_matching_filter_of_real_sets_is_the_rule_that_decides() {
    let folder = std::env::var_os("PALISADE_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let folder = folder.join("rules/classbench");
    for set in [
        "acl1_1k", "acl2_1k", "acl3_1k", "fw2_1k", "fw3_1k", "ipc1_1k",
    ] {
        let read = |name: &str| std::fs::read_to_string(folder.join(name));
        let (Ok(text), Ok(trace)) = (read(set), read(&format!("{set}_trace"))) else {
            // Past the test runner, which keeps what a test that passed prints.
            let folder = folder.display();
            let _ = writeln!(
                std::io::stdout(),
                "\nskipped: no ClassBench set {set} in {folder}"
            );
            return;
        };
        let filters = read_filters(&text, set).unwrap();
        let headers = read_headers(&trace, set).unwrap();
        let imported = import(&filters, "x", Actions::Alternate);
        let policy = policy(&imported.text);
        assert_eq!(imported.rules, policy.rules.len());
        let compiled = policy.compile(&Environment::default()).unwrap();
        let mut engine = HostEngine::new(compiled);
        let widened: Vec<usize> = imported
            .widened
            .iter()
            .map(|(number, _)| number - 1)
            .collect();
        let mut decided = 0;
        for header in headers.iter().step_by(3) {
            let first = filters.iter().position(|filter| matches(filter, header));
            let judgement = engine
                .judge(&header.frame(), Direction::Inbound, 0)
                .judgement;
            match judgement.reason {
                firewall_common::Reason::Rule => {}
                firewall_common::Reason::Default => {
                    assert_eq!(first, None, "{set}: {header:?}");
                    continue;
                }
                // Sources that cannot be are dropped before any rule.
                _ => continue,
            }
            let rule = engine.rule_name(judgement.rule).unwrap();
            let number: usize = rule.rsplit('-').next().unwrap().parse().unwrap();
            if !widened.contains(&(number - 1)) {
                assert_eq!(Some(number - 1), first, "{set}: {header:?}");
                decided += 1;
            }
        }
        assert!(decided > 300, "{set}: only {decided} decided");
    }
}
