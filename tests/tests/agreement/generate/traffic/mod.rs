//! Traffic for a policy: conversations in both directions, addresses and ports at the edges of what
//! the policy names, everything a header can hold, and frames that were cut or corrupted.

mod oddities;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::Direction;
use firewall_user::policy::Policy;
use ipnet::IpNet;

use super::packet::{Shape, icmp, tcp, udp, with_ports};
use super::policy::{BEGINNINGS, ICMP_TYPES, PORTS, PROTOCOLS, VLANS, WINDOWS, beside};
use super::random::Random;

const SECOND: u64 = 1_000_000_000;
const CONVERSATIONS: usize = 96;

/// What happens next.
#[derive(Clone, Debug)]
pub enum Event {
    Packet {
        frame: Vec<u8>,
        direction: Direction,
    },
    Ban {
        prefix: IpNet,
        until: u64,
    },
}

/// Makes one event after the other.
#[derive(Debug)]
pub struct Traffic {
    random: Random,
    /// The time of the latest event.
    pub now: u64,
    ends: Vec<u64>,
    addresses: Vec<IpAddr>,
    prefixes: Vec<IpNet>,
    ports: Vec<u16>,
    conversations: Vec<Conversation>,
}

#[derive(Clone, Debug)]
struct Conversation {
    local: IpAddr,
    remote: IpAddr,
    protocol: u8,
    local_port: u16,
    remote_port: u16,
    tags: Vec<(u16, u16)>,
}

impl Traffic {
    pub fn new(mut random: Random, policy: &Policy, start: u64) -> Self {
        let mut named: Vec<IpNet> = policy.never_block.clone();
        named.extend(policy.sets.iter().flat_map(|set| &set.prefixes));
        for rule in &policy.rules {
            named.extend(rule.from.prefixes.iter().chain(&rule.to.prefixes));
        }
        let mut prefixes = inside();
        for _ in 0..(policy.rules.len() / 4).clamp(24, 400).min(named.len()) {
            prefixes.push(random.pick(&named));
        }
        let mut ports: Vec<u16> = PORTS.to_vec();
        for rule in &policy.rules {
            for &(first, last) in rule.ports.iter().chain(&rule.from_ports) {
                ports.extend([first, last, first.wrapping_sub(1), last.wrapping_add(1)]);
            }
        }
        let mut traffic = Self {
            addresses: Vec::new(),
            random,
            now: start,
            ends: Vec::new(),
            prefixes,
            ports,
            conversations: Vec::new(),
        };
        for _ in 0..80.max(traffic.prefixes.len() * 2) {
            let address = traffic.edge();
            traffic.addresses.push(address);
        }
        traffic
    }

    /// The next event; [`Self::now`] is its time.
    pub fn next(&mut self) -> Event {
        self.pass_time();
        if self.random.below(2_000) == 0 {
            return self.ban();
        }
        let direction = if self.random.chance(60) {
            Direction::Inbound
        } else {
            Direction::Outbound
        };
        let mut frame = match self.random.below(100) {
            0..=3 => self.link(),
            4 => self.not_ip(),
            5..=11 => self.error(direction),
            _ => self.conversation_packet(direction),
        };
        if self.random.chance(10) {
            self.damage(&mut frame);
        }
        Event::Packet { frame, direction }
    }

    /// Mostly a little, sometimes past a timeout. Never within a moment of a ban's end: the kernel
    /// ends bans by its own clock, and the test tells it the time through another.
    fn pass_time(&mut self) {
        self.now += match self.random.below(1_000) {
            0..=1 => self.random.between(60, 8_000) * SECOND,
            2..=9 => self.random.between(1, 200) * SECOND,
            10..=300 => self.random.word() % (2 * SECOND),
            _ => self.random.word() % 1_000_000,
        };
        while let Some(end) = self
            .ends
            .iter()
            .find(|end| (**end..**end + 5 * SECOND).contains(&self.now))
        {
            self.now = end + 5 * SECOND;
        }
    }

    fn ban(&mut self) -> Event {
        let mut address = self.random.pick(&self.addresses);
        if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            // Such a packet is malformed; its ban would be one of the IPv4 address.
            address = Ipv4Addr::new(203, 0, 113, 80).into();
        }
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = match self.random.below(3) {
            0 => longest,
            1 => longest / 2 + self.random.below(usize::from(longest / 2)) as u8,
            _ => longest - self.random.below(9) as u8,
        };
        let until = self.now + self.random.between(30, 3_000) * SECOND;
        self.ends.push(until);
        Event::Ban {
            // The lengths above are at most the family's.
            prefix: IpNet::new(address, length)
                .expect("a length that fits")
                .trunc(),
            until,
        }
    }

    /// An address at the edge of a prefix that the policy names, or one that is special.
    fn edge(&mut self) -> IpAddr {
        let prefix = self.random.pick(&self.prefixes);
        match self.random.below(24) {
            0 => special(&mut self.random),
            1..=4 => beside(prefix),
            5..=8 => prefix.broadcast(),
            9..=14 => prefix.network(),
            _ => match (prefix.network(), prefix.broadcast()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    let host = self.random.word() as u32 & (last.to_bits() - first.to_bits());
                    Ipv4Addr::from_bits(first.to_bits() | host).into()
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    let host =
                        u128::from(self.random.word()) << 64 | u128::from(self.random.word());
                    let host = host & (last.to_bits() - first.to_bits());
                    Ipv6Addr::from_bits(first.to_bits() | host).into()
                }
                _ => prefix.addr(),
            },
        }
    }

    /// One of the known addresses, of the same family as `like`.
    fn fellow(&mut self, like: IpAddr) -> IpAddr {
        for _ in 0..40 {
            let address = self.random.pick(&self.addresses);
            if address.is_ipv4() == like.is_ipv4() {
                return address;
            }
        }
        like
    }

    fn port(&mut self) -> u16 {
        if self.random.chance(85) {
            self.random.pick(&self.ports)
        } else {
            self.random.port()
        }
    }

    fn conversation(&mut self) -> Conversation {
        if !self.conversations.is_empty() && self.random.chance(70) {
            let index = self.random.below(self.conversations.len());
            return self.conversations[index].clone();
        }
        let local = self.random.pick(&self.addresses);
        let remote = self.fellow(local);
        let protocol = match self.random.pick(&PROTOCOLS) {
            1 | 58 if self.random.chance(90) => {
                if local.is_ipv4() {
                    1
                } else {
                    58
                }
            }
            other => other,
        };
        let conversation = Conversation {
            local,
            remote,
            protocol,
            local_port: self.port(),
            remote_port: self.port(),
            tags: self.tags(),
        };
        if self.conversations.len() < CONVERSATIONS {
            self.conversations.push(conversation.clone());
        } else {
            let index = self.random.below(CONVERSATIONS);
            self.conversations[index] = conversation.clone();
        }
        conversation
    }

    fn tags(&mut self) -> Vec<(u16, u16)> {
        let count = match self.random.below(100) {
            0..=79 => 0,
            80..=92 => 1,
            93..=98 => 2,
            _ => 3,
        };
        (0..count)
            .map(|_| {
                let priority = (self.random.below(8) as u16) << 13;
                let identifier = self.random.pick(&VLANS) | priority;
                (self.random.pick(&[0x8100, 0x88a8]), identifier)
            })
            .collect()
    }

    fn conversation_packet(&mut self, direction: Direction) -> Vec<u8> {
        let conversation = self.conversation();
        let shape = self.shape(&conversation, direction);
        self.decorated(shape).frame()
    }

    /// An undecorated packet of a conversation.
    fn shape(&mut self, conversation: &Conversation, direction: Direction) -> Shape {
        let (source, destination, from, to) = match direction {
            Direction::Inbound => (
                conversation.remote,
                conversation.local,
                conversation.remote_port,
                conversation.local_port,
            ),
            Direction::Outbound => (
                conversation.local,
                conversation.remote,
                conversation.local_port,
                conversation.remote_port,
            ),
        };
        let length = self.random.pick(&[0, 0, 0, 1, 8, 12, 20, 40, 200, 1_460]);
        let mut payload = self.random.bytes(length);
        if self.random.chance(20) {
            let beginning = self.random.pick(&BEGINNINGS);
            payload.splice(..beginning.len().min(length), beginning.iter().copied());
        } else if self.random.chance(10) {
            // What patterns far inside look for.
            payload.fill(self.random.pick(&[0, 0xaa]));
        }
        let body = match conversation.protocol {
            6 => {
                let flags = match self.random.below(10) {
                    0..=2 => 2,
                    3 => 18,
                    4..=6 => 16,
                    7 => self.random.pick(&[17, 20, 4, 24]),
                    _ => self.random.byte(),
                };
                let options = self.random.pick(&[0, 0, 3, 10]);
                let window = self.random.pick(&WINDOWS);
                tcp(from, to, flags, window, options, &payload)
            }
            17 | 136 => udp(from, to, &payload),
            1 | 58 => {
                let request = if conversation.protocol == 1 { 8 } else { 128 };
                let reply = if conversation.protocol == 1 { 0 } else { 129 };
                let kind = match self.random.below(10) {
                    0..=4 => request,
                    5..=7 => reply,
                    8 => self.random.pick(&ICMP_TYPES),
                    _ => self.random.byte(),
                };
                icmp(
                    kind,
                    self.random.pick(&[0, 0, 0, 3]),
                    conversation.local_port,
                    &payload,
                )
            }
            132 | 33 => with_ports(from, to, &payload),
            _ => payload,
        };
        let mut shape = Shape::plain(source, destination, conversation.protocol, body);
        shape.tags.clone_from(&conversation.tags);
        shape
    }

    /// With the options, extensions, fragments and paddings that packets have now and then.
    fn decorated(&mut self, mut shape: Shape) -> Shape {
        shape.ttl = self.random.pick(&[64, 64, 128, 255, 1, 0, 31, 33]);
        if self.random.chance(8) {
            shape.options = vec![1; 4 * (1 + self.random.below(10))];
        }
        if self.random.chance(15) {
            let count = if self.random.chance(5) { 10 } else { 3 };
            shape.extensions = self.random.some(count, extension);
        }
        if self.random.chance(8) {
            let position = match self.random.below(8) {
                0..=3 => 0,
                4 => 1,
                5 => self.random.pick(&[2, 3, 5, 185, 8_000, 8_190]),
                6 => (shape.body.len() / 8) as u16,
                _ => self.random.word() as u16 & 0x1fff,
            };
            shape.fragment = Some((position, self.random.chance(60)));
            shape.identification = self.random.pick(&[0x4a11, 7, 0xffff]);
            if self.random.chance(90) {
                // As senders cut.
                let rest = shape.body.len() % 8;
                shape.body.resize(shape.body.len() + (8 - rest) % 8, 0);
            }
        }
        if self.random.chance(10) {
            shape.padding = self.random.below(50);
        }
        if self.random.below(400) == 0 {
            let longer = self.random.bytes(3_000);
            shape.body.extend(longer);
        }
        shape
    }
}

/// The addresses behind the fence.
fn inside() -> Vec<IpNet> {
    ["203.0.113.80/31", "2001:db8::80/127"]
        .iter()
        .filter_map(|prefix| prefix.parse().ok())
        .collect()
}

/// An address with a meaning of its own.
fn special(random: &mut Random) -> IpAddr {
    let addresses = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.254",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::ffff:198.51.100.1",
        "::fffe:c633:6401",
        "ff02::1",
        "fe80::1",
    ];
    // The literals above are addresses.
    random.pick(&addresses).parse().expect("an address")
}

/// An extension header; its first byte is filled in later.
fn extension(random: &mut Random) -> (u8, Vec<u8>) {
    let number = random.pick(&[0, 43, 44, 51, 60, 60, 135, 139, 140]);
    let mut bytes = vec![0; 8 * (1 + random.below(4))];
    match number {
        44 => {
            bytes.truncate(8);
            bytes[3] = random.pick(&[0, 0, 1]);
        }
        // The length counts words of 4 bytes, less 2.
        51 => bytes[1] = (bytes.len() / 4 - 2) as u8,
        _ => bytes[1] = (bytes.len() / 8 - 1) as u8,
    }
    (number, bytes)
}
