//! Random policies: every field of a rule, overlapping sets, and prefixes that touch each other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::image::MATRIX_RULES;
use firewall_common::image::MAX_COUNTED;
use firewall_user::policy::limit::{Per, SOURCE, Terms, Unit};
use firewall_user::policy::{
    Action, Addresses, DefaultAction, Defaults, Direction, Limit, Mode, Payload, Policy, Rule, Set,
    TcpFlags,
};
use ipnet::IpNet;

use super::random::Random;

const SECOND: u64 = 1_000_000_000;

/// Ports that rules name, and packets have.
pub const PORTS: [u16; 14] = [
    22, 53, 67, 68, 80, 123, 443, 546, 547, 1023, 1024, 8000, 8099, 65_535,
];
/// Protocols that rules name, and packets have.
pub const PROTOCOLS: [u8; 12] = [6, 6, 6, 17, 17, 1, 58, 132, 33, 136, 47, 2];
pub const ICMP_TYPES: [u8; 12] = [0, 3, 8, 11, 13, 1, 2, 4, 128, 129, 133, 135];
pub const VLANS: [u16; 5] = [0, 1, 7, 100, 4095];

/// Windows that rules name, and packets have.
pub const WINDOWS: [u16; 6] = [0, 1, 1_024, 16_384, 64_240, 65_535];
/// Patterns that rules name, no more than a direction may have.
const PAYLOADS: [&str; 8] = [
    "0:47",
    "0:47 45 54 20",
    "0:5?",
    "3:20 ?? 48",
    "8:ff",
    "15:000102030405060708090a0b0c0d0e0f",
    "192:0000",
    "1400:aa",
];
/// Beginnings of payloads that show some of them.
pub const BEGINNINGS: [&[u8]; 11] = [
    b"GET /H",
    b"POST",
    b"G",
    b"GETTING \xff",
    b"PRI * HT",
    &[22, 3, 1, 0, 200, 1],
    &[22, 3, 1, 0, 200, 2],
    &[0xc3, 0, 0, 0, 1],
    &[0xc3, 0, 0, 0, 0],
    b"               \x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f",
    b"               \x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0e",
];

/// How many rules a policy has: none, few, around the bounds of a word, many.
const RULES: [usize; 12] = [0, 1, 3, 8, 20, 40, 64, 80, 90, 120, 200, 300];
/// One policy in this many has as many rules as fit, and one has sets of very many prefixes.
const LARGE_EVERY: usize = 60;
/// Most prefixes of a set: usually, in a policy of many rules, and in one of large sets.
const PREFIXES: [usize; 3] = [8, 60, 20_000];

/// How large a policy is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub rules: usize,
    /// Most prefixes of a set.
    prefixes: usize,
}

impl Size {
    /// `large` allows as many rules as fit.
    pub fn random(random: &mut Random, large: bool) -> Self {
        match random.below(LARGE_EVERY) {
            0 if large => Self {
                rules: MATRIX_RULES,
                prefixes: PREFIXES[1],
            },
            1 => Self {
                rules: random.pick(&RULES[..5]),
                prefixes: PREFIXES[2],
            },
            _ => Self {
                rules: random.pick(&RULES),
                prefixes: PREFIXES[0],
            },
        }
    }
}

/// A policy for a time that begins at `start` on the packets' clock.
pub fn policy(random: &mut Random, size: Size, start: u64) -> Policy {
    let rules = size.rules;
    let large = rules > 400;
    let mut known = Vec::new();
    let set_count = random.below(6);
    let sets = (0..set_count)
        .map(|index| Set {
            name: format!("set-{index}"),
            prefixes: random.some(size.prefixes, |random| prefix(random, &mut known)),
            file: None,
        })
        .collect::<Vec<_>>();
    let never_block = if random.chance(40) {
        random.some(4, |random| prefix(random, &mut known))
    } else {
        Vec::new()
    };
    let mut policy = Policy {
        defaults: Defaults {
            inbound: default(random, 75),
            outbound: default(random, 40),
            mode: mode(random, 10),
        },
        sets,
        never_block,
        rules: Vec::new(),
    };
    // The compiler refuses more rules that may count the same packet.
    let mut counting = [0; 2];
    for index in 0..rules {
        let mut rule = rule(random, index, &policy, &mut known);
        if random.chance(15) {
            let life = random.below(3_000) as u64 * SECOND + random.word() % SECOND;
            let end = (start + life).saturating_sub(600 * SECOND);
            rule.expires = jiff::Timestamp::from_nanosecond(i128::from(end)).ok();
        }
        if large {
            // Few of many rules may match the same packet.
            rule.from.prefixes.push(prefix(random, &mut known));
            rule.ports = random.some(2, |random| range(random, &PORTS));
        }
        let counts = rule.action == Action::Count || rule.mode == Mode::Observe;
        let counting = &mut counting[rule.direction as usize];
        if counts && *counting < MAX_COUNTED {
            *counting += 1;
        } else if counts {
            rule.mode = Mode::Enforce;
            rule.action = random.pick(&[Action::Accept, Action::Drop]);
        }
        if rule.action != Action::Accept {
            rule.limit = None;
        }
        policy.rules.push(rule);
    }
    policy
}

fn rule(random: &mut Random, index: usize, policy: &Policy, known: &mut Vec<IpNet>) -> Rule {
    let mut rule = Rule {
        name: format!("rule-{index}"),
        action: random.pick(&[
            Action::Accept,
            Action::Accept,
            Action::Accept,
            Action::Drop,
            Action::Drop,
            Action::Count,
        ]),
        direction: if random.chance(75) {
            Direction::Inbound
        } else {
            Direction::Outbound
        },
        mode: mode(random, 8),
        protocols: Vec::new(),
        from: Addresses::default(),
        to: Addresses::default(),
        from_ports: Vec::new(),
        ports: Vec::new(),
        tcp_flags: None,
        icmp_types: Vec::new(),
        vlans: Vec::new(),
        interfaces: Vec::new(),
        lengths: Vec::new(),
        ttls: Vec::new(),
        tcp_windows: Vec::new(),
        payloads: Vec::new(),
        fragment: None,
        limit: None,
        log: random.chance(10),
        owner: None,
        reason: None,
        expires: None,
        line: index + 1,
    };
    if random.chance(55) {
        rule.protocols = random.some(2, |random| random.pick(&PROTOCOLS));
    }
    if random.chance(50) {
        rule.ports = random.some(3, |random| range(random, &PORTS));
    }
    if random.chance(8) {
        rule.from_ports = random.some(2, |random| range(random, &PORTS));
    }
    if random.chance(45) {
        rule.from = addresses(random, policy, known);
    }
    if random.chance(15) {
        rule.to = addresses(random, policy, known);
    }
    if random.chance(8) {
        let bits = [1, 2, 4, 8, 16, 32];
        let set = random.pick(&bits)
            | if random.chance(30) {
                random.pick(&bits)
            } else {
                0
            };
        let clear = if random.chance(50) {
            random.pick(&bits)
        } else {
            0
        };
        rule.tcp_flags = Some(TcpFlags { set, clear });
    }
    if random.chance(10) {
        rule.icmp_types = random.some(3, |random| random.pick(&ICMP_TYPES));
    }
    if random.chance(6) {
        rule.vlans = random.some(2, |random| random.pick(&VLANS));
    }
    if random.chance(5) {
        let interfaces = ["edge0", "edge1", "nowhere"];
        rule.interfaces = random.some(2, |random| random.pick(&interfaces).to_owned());
    }
    if random.chance(6) {
        rule.lengths = random.some(2, |random| {
            range(random, &[20, 40, 60, 61, 100, 1500, 65_535])
        });
    }
    if random.chance(6) {
        rule.ttls = random.some(2, |random| {
            let (first, last) = range(random, &[0, 1, 32, 64, 128, 255]);
            (first as u8, last.min(255) as u8)
        });
    }
    if random.chance(6) {
        rule.tcp_windows = random.some(2, |random| range(random, &WINDOWS));
    }
    if random.chance(7) {
        rule.payloads = random.some(2, payload);
    }
    if random.chance(6) {
        rule.fragment = Some(random.chance(50));
    }
    if rule.action == Action::Accept && random.chance(40) {
        rule.limit = Some(limit(random));
    }
    rule
}

fn payload(random: &mut Random) -> Payload {
    // The literals above are patterns.
    random.pick(&PAYLOADS).parse().expect("a pattern")
}

/// A limit that the traffic may be over. Every rate is a whole number of clock ticks, so that the
/// exact arithmetic of the oracle has the last word on every packet.
fn limit(random: &mut Random) -> Limit {
    let unit = random.pick(&[
        Unit::Packets,
        Unit::Packets,
        Unit::Bytes,
        Unit::Connections,
        Unit::Requests,
    ]);
    let (rates, bursts): (&[u64], &[u64]) = match unit {
        Unit::Bytes => (&[200, 1_000, 64_000], &[60, 1_514, 20_000]),
        _ => (&[1, 2, 5, 10, 100, 1_000], &[1, 2, 5, 30]),
    };
    let per = match random.below(5) {
        0 => Per::Rule,
        1 => Per::Service,
        2 => SOURCE,
        _ => Per::Sender {
            v4: random.pick(&[8, 24, 31, 32]),
            v6: random.pick(&[32, 48, 64, 65, 127, 128]),
        },
    };
    let terms = Terms {
        rate: random.pick(rates),
        seconds: random.pick(&[1, 1, 60, 3_600]),
        burst: random.pick(bursts),
    };
    let limit = Limit { terms, unit, per };
    match limit.compiled() {
        Ok(_) => limit,
        // Slower than a byte a second, or longer than 30 days to gather.
        Err(_) => Limit {
            terms: Terms {
                seconds: 1,
                ..terms
            },
            ..limit
        },
    }
}

/// An inclusive range that begins or ends at one of `edges`.
fn range(random: &mut Random, edges: &[u16]) -> (u16, u16) {
    let edge = random.pick(edges);
    match random.below(4) {
        0 => (edge.saturating_sub(random.below(200) as u16), edge),
        1 => (edge, edge.saturating_add(random.below(200) as u16)),
        _ => (edge, edge),
    }
}

fn addresses(random: &mut Random, policy: &Policy, known: &mut Vec<IpNet>) -> Addresses {
    let mut addresses = Addresses::default();
    if !policy.sets.is_empty() && random.chance(60) {
        addresses.sets = random.some(2, |random| random.below(policy.sets.len()));
    }
    if addresses.sets.is_empty() || random.chance(20) {
        addresses.prefixes = random.some(3, |random| prefix(random, known));
    }
    addresses
}

/// A prefix: often inside, around or beside one that is there already.
fn prefix(random: &mut Random, known: &mut Vec<IpNet>) -> IpNet {
    let (address, length) = if !known.is_empty() && random.chance(40) {
        let near = random.pick(known);
        let longest = usize::from(near.max_prefix_len());
        let length = usize::from(near.prefix_len());
        let address = if random.chance(50) {
            near.addr()
        } else {
            beside(near)
        };
        let moved = (length + random.below(9)).saturating_sub(4);
        (address, moved.min(longest))
    } else if random.chance(50) {
        let network = random.pick(&[[198, 51, 100], [203, 0, 113], [100, 64, 3]]);
        let address = Ipv4Addr::new(network[0], network[1], network[2], random.byte());
        let length = random.pick(&[8, 16, 23, 24, 25, 28, 31, 32, 32]);
        (IpAddr::V4(address), length)
    } else {
        let low = u128::from(random.word());
        let subnet = u128::from(random.word() & 0x3) << 64;
        let address = Ipv6Addr::from(0x2001_0db8_u128 << 96 | subnet | low);
        let length = random.pick(&[32, 48, 62, 63, 64, 65, 96, 127, 128, 128]);
        (IpAddr::V6(address), length)
    };
    // The lengths above never pass the family's.
    let prefix = IpNet::new(address, length as u8).expect("a length that fits the family");
    // The reader leaves host bits in place in some lists and not in others.
    let prefix = if random.chance(80) {
        prefix.trunc()
    } else {
        prefix
    };
    known.push(prefix);
    prefix
}

/// The address right behind a prefix.
pub fn beside(prefix: IpNet) -> IpAddr {
    match prefix.broadcast() {
        IpAddr::V4(last) => Ipv4Addr::from_bits(last.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(last) => Ipv6Addr::from_bits(last.to_bits().wrapping_add(1)).into(),
    }
}

fn default(random: &mut Random, drops: usize) -> DefaultAction {
    if random.chance(drops) {
        DefaultAction::Drop
    } else {
        DefaultAction::Accept
    }
}

fn mode(random: &mut Random, observes: usize) -> Mode {
    if random.chance(observes) {
        Mode::Observe
    } else {
        Mode::Enforce
    }
}
