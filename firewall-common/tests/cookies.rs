//! What is sent back in place of the stack's SYN-ACK.

use firewall_common::Address;
use firewall_common::cookies::{
    Clock, Lesson, OPTIONS_ROOM, Offered, Reply, ReplyHeaders, read_options, write_reply,
};
use firewall_common::packet::{self, Frame, Kind, NO_VLAN, Packet, flag, mark};
use proptest::prelude::*;

const LESSON: Lesson = Lesson {
    tag: 0,
    learned: 0,
    asked: 0,
    window: 64_240,
    segment_size: 1_460,
    scale_and_ttl: 10 << 16 | 64,
};

/// The options of a SYN as a client writes them: those of the set, in its own order and spacing.
fn options(which: u8, scale: u8, timestamp: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    if which & 1 != 0 {
        bytes.extend([2, 4, 0x05, 0xb4]);
    }
    if which & 2 != 0 {
        bytes.extend([3, 3, scale]);
    }
    if which & 4 != 0 {
        bytes.extend([4, 2]);
    }
    if which & 8 != 0 {
        bytes.extend([8, 10]);
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend([0; 4]);
    }
    while !bytes.len().is_multiple_of(4) {
        bytes.push(1);
    }
    bytes
}

fn offered(bytes: &[u8]) -> Offered {
    let mut header = [0; OPTIONS_ROOM];
    header[20..20 + bytes.len()].copy_from_slice(bytes);
    let mut offered = Offered::default();
    read_options(&header, 20 + bytes.len() as u32, &mut offered, |_| {});
    offered
}

/// The sum of RFC 1071 over 16-bit words; all ones for what holds a right checksum.
fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

proptest! {
    #[test]
    fn a_reply_is_a_sound_syn_ack_no_longer_than_the_syn(
        which in 0_u8..16,
        scale in 0_u8..16,
        stamp in any::<u32>(),
        v4 in any::<bool>(),
        cookie in any::<u32>(),
        sequence in any::<u32>(),
        now in any::<u32>(),
        (here, there) in any::<(u32, u32)>(),
        (port, from) in any::<(u16, u16)>(),
    ) {
        let syn = options(which, scale, stamp);
        let offered = offered(&syn);
        let address = |number: u32| if v4 {
            Address::v4(number)
        } else {
            Address::v6(0x2001_0db8_0000_0000 | u64::from(number), u64::from(number) << 7 | 1)
        };
        let clock = offered.is_full().then_some(Clock(now));
        let reply = Reply {
            source: address(here),
            destination: address(there),
            source_port: port,
            destination_port: from,
            sequence,
            cookie,
            offered: &offered,
            lesson: &LESSON,
            clock,
        };
        let mut headers = ReplyHeaders::default();
        let length = write_reply(&mut headers, &reply) as usize;
        prop_assert!(length <= 20 + syn.len(), "{length} for a SYN of {}", 20 + syn.len());

        let ip = bytes_of(&headers.ip[..if v4 { 5 } else { 10 }]);
        let tcp = bytes_of(&headers.tcp)[..length].to_vec();
        if v4 {
            prop_assert_eq!(sum(&[&ip]), 0xffff);
        }
        let addresses = if v4 { &ip[12..20] } else { &ip[8..40] };
        let rest = [0, 6, 0, length as u8];
        prop_assert_eq!(sum(&[addresses, &rest, &tcp]), 0xffff);

        let mut frame = vec![2; 12];
        frame.extend(if v4 { [8, 0] } else { [0x86, 0xdd] });
        frame.extend(&ip);
        frame.extend(&tcp);
        let mut packet = Packet::default();
        packet::parse(&mut Frame::new(&frame), NO_VLAN, &mut packet);
        prop_assert_eq!(packet.kind, Kind::Ip);
        prop_assert_eq!(packet.is(mark::V6), !v4);
        prop_assert_eq!((packet.source, packet.destination), (address(here), address(there)));
        prop_assert_eq!((packet.source_port, packet.destination_port), (port, from));
        prop_assert_eq!(packet.tcp_flags, flag::SYN | flag::ACK);
        prop_assert_eq!((packet.tcp_window, packet.ttl), (64_240, 64));
        prop_assert_eq!(&tcp[4..8], cookie.to_be_bytes());
        prop_assert_eq!(&tcp[8..12], sequence.wrapping_add(1).to_be_bytes());

        // The client reads back what the host offers, and the host what the client offered.
        let mut answered = [0; OPTIONS_ROOM];
        answered[..length].copy_from_slice(&tcp);
        let mut back = Offered::default();
        read_options(&answered, length as u32, &mut back, |_| {});
        let has = |option: u32| offered.has(option);
        prop_assert_eq!(back.has(Offered::SEGMENT_SIZE), has(Offered::SEGMENT_SIZE));
        prop_assert_eq!(back.has(Offered::TIMESTAMPS), clock.is_some());
        prop_assert_eq!(back.has(Offered::WINDOW_SCALE), clock.is_some());
        prop_assert_eq!(back.has(Offered::SELECTIVE), clock.is_some() && has(Offered::SELECTIVE));
        if clock.is_some() {
            prop_assert_eq!(back.window_scale, 10);
            // As Linux decodes it: net/ipv4/syncookies.c, cookie_timestamp_decode.
            let options = back.timestamp & 0x3f;
            prop_assert_eq!(options & 0xf, u32::from(scale.min(14)));
            prop_assert_eq!(options & 0x10 != 0, has(Offered::SELECTIVE));
            // Not later than now, and not by more than two steps of what the lower bits leave.
            prop_assert!(now.wrapping_sub(back.timestamp) < 128, "{now} {}", back.timestamp);
            let echoed = u32::from_be_bytes([tcp[length - 8], tcp[length - 7], tcp[length - 6], tcp[length - 5]]);
            prop_assert_eq!(echoed, stamp);
        }
    }
}
