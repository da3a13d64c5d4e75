//! Captures made here, so that the tests prove something wherever they run.

use anyhow::{Context, Result};
use firewall_common::packet::{ether_type, flag};
use firewall_user::packet_build::PacketBuilder;
use firewall_user::replay::capture::CaptureWriter;

use super::each_frame;

/// When built captures begin, in nanoseconds since the Unix epoch.
pub const START: u64 = 1_800_000_000_000_000_000;
pub const MILLISECOND: u64 = 1_000_000;

/// Pairs of outside and inside addresses; the outside ones are ordinary, hostile, near, and
/// hostile but protected.
const PAIRS: [(&str, &str); 7] = [
    ("203.0.113.9", "198.51.100.5"),
    ("1.2.3.4", "198.51.100.5"),
    ("10.1.2.3", "10.200.0.1"),
    ("2001:db8:1::9", "2001:db8::5"),
    ("2001:db8:bad::9", "2001:db8::5"),
    ("2001:db8:bad:1::9", "2001:db8::5"),
    ("2a00:1450::1", "2001:db8::5"),
];

/// A capture with every kind of packet that the parser tells apart, on both families, in and out,
/// tagged and not, whole and in pieces, with connections that open, idle and close.
pub fn rich_capture() -> Result<Vec<u8>> {
    let mut writer = CaptureWriter::new(Vec::new())?;
    let mut time = START;
    let mut write = |frame: &[u8]| {
        time += MILLISECOND;
        writer.write(time, frame)
    };
    for (outside, inside) in PAIRS {
        let toward = |from: &str, to: &str| -> Result<PacketBuilder> {
            PacketBuilder::new(from.parse()?, to.parse()?).context("one family")
        };
        for (from, to) in [(outside, inside), (inside, outside)] {
            let packet = toward(from, to)?;
            for port in [22, 25, 53, 80, 443, 8_050, 9_999] {
                for flags in [
                    flag::SYN,
                    flag::SYN | flag::ACK,
                    flag::ACK,
                    flag::FIN | flag::ACK,
                    flag::RST,
                    flag::FIN | flag::PSH | flag::URG,
                    0,
                ] {
                    write(&packet.clone().tcp(40_000, port, flags).build())?;
                    write(&packet.clone().tcp(port, 40_000, flags).build())?;
                }
                write(&packet.clone().udp(40_000, port).payload(&[7; 100]).build())?;
                write(
                    &packet
                        .clone()
                        .udp(port, 40_000)
                        .payload(&[7; 1_400])
                        .build(),
                )?;
                let web = packet.clone().tcp(40_000, port, flag::ACK);
                write(&web.payload(b"GET / HTTP/1.1\r\n\r\n").build())?;
            }
            for kind in [0, 3, 5, 8, 11, 13, 128, 129, 130, 133, 135, 1, 2] {
                write(&packet.clone().icmp(kind, 0, [0, 9, 0, 1]).build())?;
                write(&packet.clone().icmp(kind, 0, [0, 9, 0, 1]).ttl(255).build())?;
            }
            for number in [2, 47, 50, 89, 112, 132, 255] {
                write(&packet.clone().protocol(number).payload(&[1; 40]).build())?;
            }
            let tcp = packet.clone().tcp(50_000, 443, flag::SYN);
            for identifier in [0, 7, 99, 4_094] {
                write(&tcp.clone().vlan(identifier).build())?;
                let outer = tcp.clone().tag(ether_type::PROVIDER_BRIDGE, identifier);
                write(&outer.vlan(7).build())?;
                write(&tcp.clone().vlan(1).vlan(2).vlan(identifier).build())?;
            }
            for ttl in [0, 1, 4, 5, 255] {
                write(&tcp.clone().ttl(ttl).build())?;
            }
            write(
                &tcp.clone()
                    .ip_options(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0])
                    .build(),
            )?;
            write(
                &tcp.clone()
                    .extension(0, &[1, 4, 0, 0, 0, 0])
                    .extension(60, &[0; 30])
                    .build(),
            )?;
            write(
                &tcp.clone()
                    .extension(43, &[0; 6])
                    .extension(51, &[0; 6])
                    .build(),
            )?;
            let datagram = packet.clone().udp(53, 5_353).payload(&[9; 800]);
            write(&datagram.clone().fragment(0, true).build())?;
            write(&datagram.clone().fragment(100, true).build())?;
            write(&datagram.clone().fragment(200, false).build())?;
            // What a host would never build.
            let whole = tcp.clone().payload(&[3; 64]).build();
            for cut in [1, 13, 14, 20, 33, 34, 40, 53, 54, 60] {
                write(&whole[..cut])?;
            }
            for place in 12..whole.len().min(80) {
                let mut damaged = whole.clone();
                damaged[place] ^= 0xff;
                write(&damaged)?;
            }
            // Larger than the test run takes on one hook or both.
            write(
                &packet
                    .clone()
                    .tcp(40_000, 443, flag::ACK)
                    .payload(&[1; 9_000])
                    .build(),
            )?;
            write(
                &packet
                    .clone()
                    .tcp(40_000, 443, flag::ACK)
                    .payload(&[1; 65_000])
                    .build(),
            )?;
        }
        // An error about a packet that was sent, and about one that was not.
        let sent = toward(inside, outside)?
            .udp(5_000, 9_999)
            .payload(&[0; 8])
            .build();
        let (kind, code) = if outside.contains(':') {
            (1, 4)
        } else {
            (3, 3)
        };
        let error = toward(outside, inside)?.icmp(kind, code, [0; 4]);
        write(&error.clone().payload(&sent[14..]).build())?;
        let never_sent = toward(inside, outside)?.udp(5_001, 9_999).build();
        write(&error.payload(&never_sent[14..]).build())?;
        let misquoted = toward(outside, inside)?.udp(5_001, 9_999).build();
        let misleading = toward(outside, inside)?.icmp(kind, code, [0; 4]);
        write(&misleading.payload(&misquoted[14..]).build())?;
    }
    // The same again after the timeouts of UDP and echo entries, and after a jump back.
    let mut again = Vec::new();
    let bytes = writer.finish()?;
    each_frame(&bytes[..], |time, frame| {
        again.push((time, frame.to_vec()));
        Ok(())
    })?;
    let mut writer = CaptureWriter::new(Vec::new())?;
    for offset in [0, 100_000, 400_000, 10_000] {
        for (time, frame) in &again {
            writer.write(time + offset * MILLISECOND, frame)?;
        }
    }
    Ok(writer.finish()?)
}

/// A scan of 200 ports by one outside source, and ordinary visits by others meanwhile.
pub fn scan_capture() -> Result<Vec<u8>> {
    let mut writer = CaptureWriter::new(Vec::new())?;
    let server = "198.51.100.5".parse()?;
    for step in 0..200_u16 {
        let time = START + u64::from(step) * 10 * MILLISECOND;
        let scanner = PacketBuilder::new("203.0.113.77".parse()?, server).context("one family")?;
        writer.write(time, &scanner.tcp(41_000, 1_000 + step, flag::SYN).build())?;
        let visitor = std::net::Ipv4Addr::new(203, 0, 113, (step % 50) as u8 + 100);
        let visit = PacketBuilder::new(visitor.into(), server).context("one family")?;
        writer.write(
            time,
            &visit.clone().tcp(42_000 + step, 443, flag::SYN).build(),
        )?;
        writer.write(time, &visit.tcp(42_000 + step, 443, flag::ACK).build())?;
    }
    Ok(writer.finish()?)
}
