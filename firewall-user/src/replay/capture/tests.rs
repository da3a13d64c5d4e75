use proptest::prelude::*;

use super::*;

const BODY: &[u8] = b"an Ethernet frame of 33 bytes ...";
const TIME: u64 = 1_700_000_000_123_456_000;

type Packet = (Record, Vec<u8>);

/// Everything that can be read, and the error that ended it.
fn read_all(bytes: &[u8]) -> (Vec<Packet>, Option<CaptureError>) {
    let mut reader = match CaptureReader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let (mut packets, mut frame) = (Vec::new(), Vec::new());
    loop {
        match reader.next(&mut frame) {
            Ok(Some(record)) => packets.push((record, frame.clone())),
            Ok(None) => return (packets, None),
            Err(error) => return (packets, Some(error)),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Big,
    Little,
}

impl Order {
    fn u16(self, value: u16) -> Vec<u8> {
        match self {
            Order::Big => value.to_be_bytes().to_vec(),
            Order::Little => value.to_le_bytes().to_vec(),
        }
    }

    fn u32(self, value: u32) -> Vec<u8> {
        match self {
            Order::Big => value.to_be_bytes().to_vec(),
            Order::Little => value.to_le_bytes().to_vec(),
        }
    }

    fn words(self, values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|&value| self.u32(value)).collect()
    }
}

fn pcap(order: Order, magic: u32, fraction: u32, extra: &[u8], minor: u16) -> Vec<u8> {
    let mut file = order.u32(magic);
    file.extend(order.u16(2));
    file.extend(order.u16(minor));
    file.extend(order.words(&[0, 0, 65_535, 1]));
    let lengths = if minor < 3 { [60, 33] } else { [33, 60] };
    file.extend(order.words(&[1_700_000_000, fraction]));
    file.extend(order.words(&lengths));
    file.extend(extra);
    file.extend(BODY);
    file
}

fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let length = padded as u32 + 12;
    let mut block = order.words(&[kind, length]);
    block.extend(body);
    block.resize(8 + padded, 0);
    block.extend(order.u32(length));
    block
}

fn section(order: Order) -> Vec<u8> {
    let mut body = order.u32(0x1a2b_3c4d);
    body.extend(order.u16(1));
    body.extend(order.u16(0));
    body.extend([0xff; 8]);
    block(order, 0x0a0d_0d0a, &body)
}

fn interface(order: Order, link: u16, snap: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = order.u16(link);
    body.extend(order.u16(0));
    body.extend(order.u32(snap));
    for (code, value) in options {
        body.extend(order.u16(*code));
        body.extend(order.u16(value.len() as u16));
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    block(order, 1, &body)
}

fn enhanced(order: Order, interface: u32, units: u64) -> Vec<u8> {
    let mut body = order.words(&[interface, (units >> 32) as u32, units as u32, 33, 60]);
    body.extend(BODY);
    block(order, 6, &body)
}

fn obsolete(order: Order, interface: u16, units: u64) -> Vec<u8> {
    let mut body = order.u16(interface);
    body.extend(order.u16(7));
    body.extend(order.words(&[(units >> 32) as u32, units as u32, 33, 60]));
    body.extend(BODY);
    block(order, 2, &body)
}

fn simple(order: Order, original: u32) -> Vec<u8> {
    let mut body = order.u32(original);
    body.extend(BODY);
    block(order, 3, &body)
}

#[test]
fn every_variant_of_pcap_gives_the_same_packet() {
    for order in [Order::Big, Order::Little] {
        for (name, file) in [
            ("micro", pcap(order, 0xa1b2_c3d4, 123_456, &[], 4)),
            ("nano", pcap(order, 0xa1b2_3c4d, 123_456_000, &[], 4)),
            ("modified", pcap(order, 0xa1b2_cd34, 123_456, &[9; 8], 4)),
            (
                "old, lengths swapped",
                pcap(order, 0xa1b2_c3d4, 123_456, &[], 2),
            ),
        ] {
            let (packets, error) = read_all(&file);
            assert!(error.is_none(), "{name}: {error:?}");
            let record = Record {
                time: TIME,
                link: LinkType::ETHERNET,
                original: 60,
            };
            assert_eq!(packets, [(record, BODY.to_vec())], "{name}");
        }
    }
}

#[test]
fn pcapng_sections_keep_their_own_byte_order_interfaces_and_clocks() {
    let mut file = Vec::new();
    for order in [Order::Little, Order::Big] {
        let seconds = 1_700_000_000_u64;
        let offset = match order {
            Order::Big => 1_000_000_000_i64.to_be_bytes(),
            Order::Little => 1_000_000_000_i64.to_le_bytes(),
        };
        file.extend(section(order));
        file.extend(interface(order, 1, 0, &[]));
        file.extend(interface(order, 101, 0, &[(2, b"eth1"), (9, &[9])]));
        file.extend(interface(order, 113, 0, &[(9, &[0x80 | 32])]));
        file.extend(interface(order, 1, 0, &[(14, &offset), (9, &[0])]));
        file.extend(block(order, 5, b"statistics of some kind"));
        file.extend(enhanced(order, 0, seconds * 1_000_000 + 123_456));
        file.extend(obsolete(order, 1, seconds * 1_000_000_000 + 123_456_789));
        file.extend(enhanced(order, 2, seconds << 32 | 1 << 31));
        file.extend(enhanced(order, 3, 700_000_000));
        file.extend(simple(order, 33));
    }
    let (packets, error) = read_all(&file);
    assert!(error.is_none(), "{error:?}");
    let seen: Vec<(u64, u32)> = packets
        .iter()
        .map(|(record, _)| (record.time, record.link.0))
        .collect();
    let one_section = [
        (1_700_000_000_123_456_000, 1),
        (1_700_000_000_123_456_789, 101),
        (1_700_000_000_500_000_000, 113),
        (1_700_000_000_000_000_000, 1),
        (1_700_000_000_000_000_000, 1),
    ];
    assert_eq!(seen, [one_section, one_section].concat());
    assert!(packets.iter().all(|(_, frame)| frame == BODY));
}

#[test]
fn a_simple_packet_ends_at_its_interfaces_limit() {
    let mut file = section(Order::Little);
    file.extend(interface(Order::Little, 1, 30, &[]));
    file.extend(simple(Order::Little, 1_500));
    let (packets, error) = read_all(&file);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(packets[0].1, BODY[..30]);
    assert_eq!(packets[0].0.original, 1_500);
}

#[test]
fn what_lies_before_the_damage_is_delivered() {
    let mut writer = CaptureWriter::new(Vec::new()).unwrap();
    for index in 0..3 {
        writer.write(TIME + index, BODY).unwrap();
    }
    let file = writer.finish().unwrap();
    assert_eq!(read_all(&file).0.len(), 3);
    for cut in 1..16 + BODY.len() {
        let (packets, error) = read_all(&file[..file.len() - cut]);
        assert_eq!(packets.len(), 2);
        assert!(matches!(error, Some(CaptureError::Truncated { .. })));
    }
    let mut damaged = file;
    let second_length = 24 + 16 + BODY.len() + 8;
    damaged[second_length..second_length + 4].copy_from_slice(&[0xff; 4]);
    let (packets, error) = read_all(&damaged);
    assert_eq!(packets.len(), 1);
    assert!(matches!(error, Some(CaptureError::Corrupt { .. })));
}

#[test]
fn files_that_are_no_captures_are_named_for_what_they_are() {
    for (bytes, expected) in [
        (&b""[..], "is empty"),
        (b"abc", "ends in the middle of the file's header"),
        (b"not a capture", "is neither pcap nor pcapng"),
        (b"\x1f\x8b\x08\x00\x00", "is compressed (gzip)"),
    ] {
        let (_, error) = read_all(bytes);
        let message = error.unwrap().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn a_packet_of_an_interface_that_is_not_described_is_an_error() {
    let mut file = section(Order::Little);
    file.extend(enhanced(Order::Little, 0, 1));
    let (_, error) = read_all(&file);
    assert!(error.unwrap().to_string().contains("interface 0"));
}

#[test]
fn other_links_become_ethernet_frames() {
    let v4 = [0x45, 1, 2, 3];
    let v6 = [0x60, 1, 2, 3];
    let cooked = [&[0, 1, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0][..], &v4].concat();
    let cooked_v2 = [
        &[
            0x86, 0xdd, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0,
        ][..],
        &v6,
    ]
    .concat();
    for (link, bytes, stripped, ethertype, payload) in [
        (LinkType::RAW, v4.to_vec(), 0, [8, 0], v4),
        (LinkType::RAW, v6.to_vec(), 0, [0x86, 0xdd], v6),
        (LinkType::IPV6, v6.to_vec(), 0, [0x86, 0xdd], v6),
        (
            LinkType::NULL,
            [&[2, 0, 0, 0], &v4[..]].concat(),
            4,
            [8, 0],
            v4,
        ),
        (
            LinkType::LOOP,
            [&[0, 0, 0, 24], &v6[..]].concat(),
            4,
            [0x86, 0xdd],
            v6,
        ),
        (LinkType::LINUX_SLL, cooked, 16, [8, 0], v4),
        (LinkType::LINUX_SLL2, cooked_v2, 20, [0x86, 0xdd], v6),
    ] {
        let record = Record {
            time: 0,
            link,
            original: 100,
        };
        let mut frame = bytes;
        assert_eq!(
            to_ethernet(&record, &mut frame),
            Some(114 - stripped),
            "{link}"
        );
        assert_eq!(frame[12..14], ethertype, "{link}");
        assert_eq!(frame[14..], payload, "{link}");
        pad_to_original(&mut frame, 114 - stripped);
        assert_eq!(frame.len(), 114 - stripped);
    }
    let wireless = Record {
        time: 0,
        link: LinkType(105),
        original: 100,
    };
    assert_eq!(to_ethernet(&wireless, &mut vec![1; 100]), None);
    assert_eq!(wireless.link.to_string(), "105 (IEEE 802.11)");
}

/// A capture with everything in it, for the mutations below.
fn rich_capture(order: Order) -> Vec<u8> {
    let mut file = section(order);
    file.extend(interface(order, 1, 96, &[(9, &[9]), (14, &[1; 8])]));
    for units in 0..4 {
        file.extend(enhanced(order, 0, units));
        file.extend(obsolete(order, 0, units));
        file.extend(simple(order, 33));
    }
    file
}

/// Reads to the end whatever the bytes are, and turns every packet into a frame.
fn devour(bytes: &[u8]) {
    for (record, mut frame) in read_all(bytes).0 {
        assert!(frame.len() <= bytes.len());
        if let Some(original) = to_ethernet(&record, &mut frame) {
            pad_to_original(&mut frame, original);
            assert!(frame.len() <= LONGEST_FRAME + 14);
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512), start in 0..6_usize) {
        let header: &[u8] = match start {
            0 => &[],
            1 => &[0xd4, 0xc3, 0xb2, 0xa1],
            2 => &[0xa1, 0xb2, 0x3c, 0x4d],
            3 => &[0x0a, 0x0d, 0x0d, 0x0a],
            4 => &[0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a],
            _ => &[0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d],
        };
        devour(&[header, &bytes].concat());
    }

    #[test]
    fn damaged_captures_never_panic(
        big in any::<bool>(),
        classic in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let order = if big { Order::Big } else { Order::Little };
        let mut file = if classic { pcap(order, 0xa1b2_c3d4, 1, &[], 4) } else { rich_capture(order) };
        for (index, value) in changes {
            let index = index.index(file.len());
            file[index] = value;
        }
        file.truncate(cut.index(file.len()) + 1);
        devour(&file);
    }
}
