//! Accidents of clocks and counters, with packets shown and services counted.

use std::net::IpAddr;

use firewall_common::layout::{Counter, Uses};
use firewall_common::packet::{Frame, NO_VLAN, Packet, flag, parse};
use firewall_common::sampling::Class;
use firewall_common::{Direction, Verdict};
use proptest::prelude::*;

use super::scene::{SECOND, START};
use crate::detect::*;
use crate::packet_build::PacketBuilder;

/// A packet as it is shown, of any content.
#[derive(Clone, Debug)]
struct Shown {
    time: Time,
    outbound: bool,
    dropped: bool,
    class: usize,
    rule: u32,
    packets: u64,
    bytes: u64,
    frame: Vec<u8>,
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let ends = (0..6_u8, 0..6_u8, any::<bool>());
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    let built = (
        ends,
        0..5_u8,
        any::<u16>(),
        0..600_u16,
        any::<u8>(),
        payload,
    )
        .prop_map(
            |((one, other, is_v6), protocol, source, port, flags, payload)| {
                let address = |last: u8| -> IpAddr {
                    if is_v6 {
                        [0x2001, 0xdb8, 0, u16::from(last), 0, 0, 0, 1].into()
                    } else {
                        [203, 0, 113, last].into()
                    }
                };
                let builder = PacketBuilder::new(address(one), address(other)).unwrap();
                let builder = match protocol {
                    0 => builder.tcp(source, port, flags),
                    1 => builder.udp(source, port),
                    2 => builder.udp(source, 53),
                    3 => builder.icmp(flags, 0, source.to_be_bytes().repeat(2).try_into().unwrap()),
                    _ => builder.protocol(flags),
                };
                builder.payload(&payload).build()
            },
        );
    prop_oneof![
        4 => built,
        1 => proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

fn shown() -> impl Strategy<Value = Shown> {
    let told = (any::<bool>(), any::<bool>(), 0..Class::ALL.len(), 0..4_u32);
    (any::<Time>(), told, any::<[u64; 2]>(), frames()).prop_map(
        |(time, (outbound, dropped, class, rule), [packets, bytes], frame)| Shown {
            time,
            outbound,
            dropped,
            class,
            rule,
            packets,
            bytes,
            frame,
        },
    )
}

fn sighting(shown: &Shown) -> Sighting {
    let mut packet = Packet::default();
    parse(&mut Frame::new(&shown.frame), NO_VLAN, &mut packet);
    Sighting {
        direction: if shown.outbound {
            Direction::Outbound
        } else {
            Direction::Inbound
        },
        verdict: if shown.dropped {
            Verdict::Drop
        } else {
            Verdict::Pass
        },
        rule: shown.rule,
        packets: shown.packets,
        bytes: shown.bytes,
        ..Sighting::new(shown.time, packet, Class::ALL[shown.class], &shown.frame)
    }
}

fn service(rule: u32, [packets, bytes, connections, requests]: [u64; 4]) -> ServiceCounts {
    let uses = Uses {
        connections,
        requests,
    };
    ServiceCounts::new("shop", rule, Counter { packets, bytes }, uses)
}

/// What a visitor of a shop does to clocks and counters of the host, beside visiting.
#[derive(Clone, Debug)]
enum Step {
    Visit { visitor: u8 },
    Pass { nanoseconds: Time },
    Back { nanoseconds: Time },
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..20_u8).prop_map(|visitor| Step::Visit { visitor }),
        6 => (0..SECOND).prop_map(|nanoseconds| Step::Pass { nanoseconds }),
        1 => (0..200_000 * SECOND).prop_map(|nanoseconds| Step::Pass { nanoseconds }),
        1 => (0..200_000 * SECOND).prop_map(|nanoseconds| Step::Back { nanoseconds }),
        1 => Just(Step::Reset),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn nothing_that_is_shown_or_counted_makes_it_panic(
        snapshots in proptest::collection::vec(
            (any::<Time>(), any::<[u64; 4]>(), proptest::collection::vec(shown(), 0..10)),
            0..20,
        ),
        near in any::<bool>(),
    ) {
        let mut detector = Detector::new(Config::default());
        for (time, counts, shown) in snapshots {
            // Any time at all, or times that a detector goes on with.
            let within = |time: Time| if near { START + time % (60 * SECOND) } else { time };
            let sightings = shown.iter().map(|shown| {
                let mut sighting = sighting(shown);
                sighting.time = within(sighting.time);
                sighting
            });
            let changes = detector.tick(&Snapshot {
                time: within(time),
                services: vec![service(1, counts)],
                sightings: sightings.collect(),
                ..Snapshot::default()
            });
            for change in changes {
                prop_assert!(change.alert().observed.is_finite());
            }
        }
    }

    #[test]
    fn visits_to_a_service_raise_no_alert_whatever_happens_to_clocks_and_counters(steps in steps()) {
        let mut detector = Detector::from_zero(Config::default(), START);
        let (mut now, mut counts, mut waiting) = (START, [0_u64; 4], Vec::new());
        let mut fired = Vec::new();
        for step in steps {
            match step {
                Step::Visit { visitor } => {
                    let source: IpAddr = [203, 0, 113, visitor].into();
                    let host: IpAddr = [198, 51, 100, 1].into();
                    let client = 40_000 + u16::from(visitor);
                    let syn = PacketBuilder::new(source, host).unwrap().tcp(client, 443, flag::SYN);
                    let answer = PacketBuilder::new(host, source)
                        .unwrap()
                        .tcp(443, client, flag::SYN | flag::ACK);
                    for (outbound, class, packet) in [
                        (false, Class::Contact, syn),
                        (true, Class::Control, answer),
                    ] {
                        waiting.push(sighting(&Shown {
                            time: now,
                            outbound,
                            dropped: false,
                            class: class as usize,
                            rule: 1,
                            packets: 1,
                            bytes: 60,
                            frame: packet.build(),
                        }));
                    }
                    for (count, more) in counts.iter_mut().zip([10, 6_000, 1, 1]) {
                        *count += more;
                    }
                    continue;
                }
                Step::Pass { nanoseconds } => now += nanoseconds,
                Step::Back { nanoseconds } => now = now.saturating_sub(nanoseconds).max(START / 2),
                Step::Reset => counts = [0; 4],
            }
            let changes = detector.tick(&Snapshot {
                time: now,
                services: vec![service(1, counts)],
                sightings: std::mem::take(&mut waiting),
                ..Snapshot::default()
            });
            fired.extend(changes.iter().map(|change| (change.alert().kind, change.alert().why.clone())));
        }
        prop_assert_eq!(fired, []);
    }
}
