//! What is not part of a conversation: errors, what the link needs, other protocols, damage.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::Direction;

use super::super::packet::{Shape, icmp, udp};
use super::Traffic;

impl Traffic {
    /// An ICMP error about a packet of a conversation.
    pub(super) fn error(&mut self, direction: Direction) -> Vec<u8> {
        let conversation = self.conversation();
        let quoted_direction = match (direction, self.random.chance(5)) {
            (Direction::Inbound, false) | (Direction::Outbound, true) => Direction::Outbound,
            _ => Direction::Inbound,
        };
        let quoted = self.shape(&conversation, quoted_direction);
        let quoted = if self.random.chance(25) {
            self.decorated(quoted)
        } else {
            quoted
        };
        let (receiver, v4) = (quoted.source, quoted.source.is_ipv4());
        let sender = if self.random.chance(30) {
            quoted.destination
        } else {
            self.fellow(receiver)
        };
        let mut quote = quoted.packet();
        if self.random.chance(60) {
            quote.truncate(
                self.random
                    .pick(&[0, 8, 19, 20, 27, 28, 39, 40, 47, 48, 56, 64, 88]),
            );
        }
        let kind = self.random.pick(if v4 {
            &[3, 3, 4, 11, 12]
        } else {
            &[1, 1, 2, 3, 4]
        });
        let code = self.random.below(6) as u8;
        let body = icmp(kind, code, 0, &quote);
        let mut shape = Shape::plain(sender, receiver, if v4 { 1 } else { 58 }, body);
        shape.tags.clone_from(&conversation.tags);
        if self.random.chance(20) {
            shape = self.decorated(shape);
        }
        shape.frame()
    }

    /// What the built-in rules are about, and what only looks like it.
    pub(super) fn link(&mut self) -> Vec<u8> {
        let v6 = self.random.chance(60);
        let v4_remote = self.random.pick(&[
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::new(203, 0, 113, 1),
            Ipv4Addr::new(198, 51, 100, 9),
        ]);
        let v6_remote = self.random.pick(&[
            Ipv6Addr::UNSPECIFIED,
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        ]);
        let (source, destination): (IpAddr, IpAddr) = if v6 {
            (
                v6_remote.into(),
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
            )
        } else {
            let to = self
                .random
                .pick(&[Ipv4Addr::new(224, 0, 0, 22), Ipv4Addr::BROADCAST]);
            (v4_remote.into(), to.into())
        };
        let (protocol, body) = match self.random.below(3) {
            0 if v6 => {
                let kind = self.random.between(129, 144) as u8;
                (58, icmp(kind, self.random.pick(&[0, 0, 1]), 0, &[0; 16]))
            }
            0 | 1 => {
                let ports = [67, 68, 546, 547];
                let (from, to) = (self.random.pick(&ports), self.random.pick(&ports));
                (17, udp(from, to, &[1; 12]))
            }
            _ => (2, vec![0x16, 0, 0, 0, 224, 0, 0, 22]),
        };
        let mut shape = Shape::plain(source, destination, protocol, body);
        shape.tags = self.tags();
        if self.random.chance(10) {
            shape = self.decorated(shape);
        }
        shape.ttl = self.random.pick(&[255, 255, 1, 1, 64, 254]);
        shape.frame()
    }

    pub(super) fn not_ip(&mut self) -> Vec<u8> {
        let mut frame = self.random.bytes(12);
        for (ether_type, identifier) in self.tags() {
            frame.extend(ether_type.to_be_bytes());
            frame.extend(identifier.to_be_bytes());
        }
        let known = [
            0x0806, 0x8809, 0x88cc, 0x888e, 0x8847, 0x0026, 0x88a8, 0x86dd,
        ];
        let ether_type: u16 = self.random.pick(&known);
        frame.extend(ether_type.to_be_bytes());
        let length = self.random.below(60);
        frame.extend(self.random.bytes(length));
        frame
    }

    /// Cuts a frame, or changes some of its bytes where the headers are.
    pub(super) fn damage(&mut self, frame: &mut Vec<u8>) {
        if self.random.chance(40) {
            let length = self.random.below(frame.len() + 1);
            frame.truncate(length);
            return;
        }
        for _ in 0..=self.random.below(3) {
            let reach = frame.len().min(100);
            if reach > 12 {
                let at = 12 + self.random.below(reach - 12);
                frame[at] = match self.random.below(3) {
                    0 => self.random.byte(),
                    1 => frame[at] ^ 1 << self.random.below(8),
                    _ => self
                        .random
                        .pick(&[0, 1, 5, 6, 44, 58, 60, 0x45, 0x60, 0xff]),
                };
            }
        }
    }
}
