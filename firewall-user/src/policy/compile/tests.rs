//! What a compiled policy must say, whatever the policy looks like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use firewall_common::image::{self, constant};
use firewall_common::packet::flag;
use firewall_common::{Direction, Reason, Verdict};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::*;
use crate::engine::{HostEngine, address};
use crate::packet_build::PacketBuilder;

fn compiled(text: &str) -> Compiled {
    let text =
        format!("version = 1\n[defaults]\ninbound = \"drop\"\noutbound = \"accept\"\n{text}");
    let (policy, _) = Policy::parse(&text, "policy.toml", Path::new(".")).unwrap();
    policy.compile(&Environment::default()).unwrap()
}

#[test]
fn rules_that_look_at_no_field_let_no_rule_match_that_does_not_exist() {
    let mut text = String::new();
    for count in 1..=8 {
        text += &format!("[[rule]]\nname = \"all-{count}\"\naction = \"count\"\n");
        let mut engine = HostEngine::new(compiled(&text));
        let frame = PacketBuilder::new([198, 51, 100, 1].into(), [203, 0, 113, 1].into())
            .unwrap()
            .tcp(40_000, 443, flag::SYN)
            .build();
        let judgement = engine.judge(&frame, Direction::Inbound, 1).judgement;
        let expected = (Verdict::Drop, Reason::Default);
        assert_eq!((judgement.verdict, judgement.reason), expected, "{count}");
        for rule in 0..count {
            assert_eq!(engine.hits(FIRST_POLICY_COUNTER + rule).packets, 1);
        }
    }
}

fn prefixes() -> impl Strategy<Value = Vec<IpNet>> {
    // Few different upper bits, so that prefixes lie within and beside each other.
    let v4 = (0_u32..4, any::<u8>(), 0..=32_u8).prop_map(|(upper, lower, length)| {
        let bits = upper << 30 | u32::from(lower);
        IpNet::V4(Ipv4Net::new_assert(bits.into(), length))
    });
    let v6 = (0_u128..4, any::<u8>(), 0..=128_u8).prop_map(|(upper, lower, length)| {
        let bits = upper << 126 | u128::from(lower) << 60;
        IpNet::V6(Ipv6Net::new_assert(bits.into(), length))
    });
    prop::collection::vec(prop_oneof![v4, v6], 0..40)
}

/// The first and last address of a prefix, and their neighbours.
fn edges(prefix: &IpNet) -> Vec<IpAddr> {
    match prefix {
        IpNet::V4(prefix) => {
            let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|bits| Ipv4Addr::from_bits(bits).into())
                .to_vec()
        }
        IpNet::V6(prefix) => {
            let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|bits| Ipv6Addr::from_bits(bits).into())
                .to_vec()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_address_is_protected_exactly_when_a_prefix_covers_it(prefixes in prefixes()) {
        let mut words = vec![0];
        let (v4, v6) = addresses::membership(&prefixes, &mut words);
        let words = words.as_slice();
        for edge in prefixes.iter().flat_map(edges) {
            let row = match edge {
                IpAddr::V4(edge) => image::row_v4(&words, v4, edge.to_bits()),
                IpAddr::V6(_) => image::row_v6(&words, v6, address(edge)),
            };
            let covered = prefixes.iter().any(|prefix| prefix.contains(&edge));
            prop_assert_eq!(row, u32::from(covered), "{}", edge);
        }
    }

    #[test]
    fn a_stretch_holds_exactly_the_conditions_whose_ranges_reach_into_it(
        conditions in prop::collection::vec(
            prop::collection::vec((0_u32..200, 0_u32..60), 1..5), 0..12),
        values in prop::collection::vec(0_u32..300, 40),
    ) {
        let conditions: Vec<Vec<(u32, u32)>> = conditions
            .into_iter()
            .map(|ranges| ranges.into_iter().map(|(first, more)| (first, first + more)).collect())
            .collect();
        let swept = sweep::sweep(&conditions);
        for value in values {
            let stretch = swept.stretches.partition_point(|stretch| stretch.start <= value) - 1;
            let class = &swept.classes[swept.stretches[stretch].class];
            let expected: Vec<u32> = (0..conditions.len() as u32)
                .filter(|&condition| {
                    conditions[condition as usize]
                        .iter()
                        .any(|range| range.0 <= value && value <= range.1)
                })
                .collect();
            prop_assert_eq!(class, &expected, "{}", value);
        }
    }
}

#[test]
fn a_name_keeps_its_counter_when_rules_before_it_go() {
    let both = compiled(
        "[[rule]]\nname = \"a\"\naction = \"accept\"\n[[rule]]\nname = \"b\"\naction = \"accept\"\n",
    );
    let text = "version = 1\n[defaults]\ninbound = \"drop\"\noutbound = \"accept\"\n[[rule]]\nname = \"b\"\naction = \"drop\"\n";
    let (policy, _) = Policy::parse(text, "policy.toml", Path::new(".")).unwrap();
    let environment = Environment {
        counters: both.counters.clone(),
        ..Environment::default()
    };
    let alone = policy.compile(&environment).unwrap();
    assert_eq!(alone.counters.of("b"), both.counters.of("b"));
    assert_eq!(alone.inbound[constant::RULES], 1);
}
