//! A sampled packet as a line of text.

use std::net::{IpAddr, SocketAddr};

use crate::cli::style::{Ink, Style};
use crate::daemon::documents::EventDocument;
use crate::policy::protocol::{ICMP, ICMPV6, TCP, WITH_PORTS, icmp_type_name, protocol_name};

/// TCP flags by their letters, as tcpdump writes them.
const FLAGS: [(u8, char); 8] = [
    (0x02, 'S'),
    (0x01, 'F'),
    (0x04, 'R'),
    (0x08, 'P'),
    (0x20, 'U'),
    (0x40, 'E'),
    (0x80, 'W'),
    (0x10, '.'),
];

/// Time, place, verdict with reason and rule, who to whom, what, and how many more it speaks for.
pub fn line(event: &EventDocument, style: Style) -> String {
    let direction = match event.direction.as_str() {
        "outbound" => "out",
        _ => "in",
    };
    let ink = match event.verdict.as_str() {
        "drop" => Ink::Bad,
        _ => Ink::Good,
    };
    let mut text = format!(
        "{} {} {direction:<3} {} {}",
        style.paint(Ink::Faint, &time(event)),
        visible(&event.interface),
        style.paint(ink, &event.verdict),
        style.paint(Ink::Notable, &why(event)),
    );
    text.push_str(": ");
    text.push_str(&what(event));
    if event.packets > 1 {
        let more = format!(" (and {} more of class {})", event.packets - 1, event.class);
        text.push_str(&style.paint(Ink::Faint, &more));
    }
    text
}

/// Reason, and the rule if there is one: `ban`, `rule hostile`, `limit shop`.
pub fn why(event: &EventDocument) -> String {
    match &event.rule {
        Some(rule) => format!("{} {}", event.reason, visible(rule)),
        None => event.reason.clone(),
    }
}

/// The time of day in UTC.
fn time(event: &EventDocument) -> String {
    event.time.strftime("%H:%M:%S.%3fZ").to_string()
}

fn what(event: &EventDocument) -> String {
    if event.kind == "other" {
        return format!(
            "ether type 0x{:04x}, length {}",
            event.ether_type, event.length
        );
    }
    let protocol = protocol_name(event.protocol);
    // Of a later fragment and of a malformed packet no ports are known.
    let with_ports = WITH_PORTS.contains(&event.protocol)
        && (event.source_port != 0 || event.destination_port != 0);
    let end = |address: IpAddr, port: u16| {
        if with_ports {
            SocketAddr::new(address, port).to_string()
        } else {
            address.to_string()
        }
    };
    let mut text = format!(
        "{protocol} {} > {}",
        end(event.source, event.source_port),
        end(event.destination, event.destination_port)
    );
    match event.protocol {
        TCP if with_ports => text.push_str(&format!(" [{}]", flags(event.tcp_flags))),
        ICMP | ICMPV6 => {
            let name = icmp_type_name(event.protocol, event.icmp_type);
            text.push_str(&format!(" {name}"));
        }
        _ => {}
    }
    text.push_str(&format!(", length {}", event.length));
    text
}

fn flags(bits: u8) -> String {
    let set: String = FLAGS
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, letter)| letter)
        .collect();
    if set.is_empty() {
        "none".to_owned()
    } else {
        set
    }
}

/// A name that cannot move the cursor.
fn visible(name: &str) -> String {
    name.chars()
        .map(|character| {
            if character.is_control() {
                '?'
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn event() -> EventDocument {
        EventDocument {
            time: "2026-05-01T14:03:22.123456789Z"
                .parse::<Timestamp>()
                .expect("a time"),
            interface: "eth0".to_owned(),
            direction: "inbound".to_owned(),
            verdict: "drop".to_owned(),
            reason: "rule".to_owned(),
            rule: Some("hostile".to_owned()),
            kind: "ip".to_owned(),
            ether_type: 0x0800,
            protocol: TCP,
            source: IpAddr::from([203, 0, 113, 7]),
            source_port: 40_000,
            destination: IpAddr::from([198, 51, 100, 1]),
            destination_port: 22,
            tcp_flags: 0x02,
            icmp_type: 0,
            length: 74,
            class: "contact".to_owned(),
            packets: 1,
        }
    }

    fn plain(event: &EventDocument) -> String {
        // Standard input of a test is no terminal.
        line(event, Style::of(&tempfile::tempfile().expect("a file")))
    }

    #[test]
    fn a_line_says_when_where_why_and_who() {
        assert_eq!(
            plain(&event()),
            "14:03:22.123Z eth0 in  drop rule hostile: tcp 203.0.113.7:40000 > 198.51.100.1:22 [S], length 74"
        );
        let more = EventDocument {
            packets: 12,
            tcp_flags: 0x12,
            direction: "outbound".to_owned(),
            reason: "default".to_owned(),
            rule: None,
            source: "2001:db8::1".parse().expect("an address"),
            destination: "2001:db8::2".parse().expect("an address"),
            ..event()
        };
        assert_eq!(
            plain(&more),
            "14:03:22.123Z eth0 out drop default: tcp [2001:db8::1]:40000 > [2001:db8::2]:22 [S.], length 74 \
             (and 11 more of class contact)"
        );
    }

    #[test]
    fn what_has_no_ports_shows_none() {
        let ping = EventDocument {
            protocol: ICMP,
            icmp_type: 8,
            source_port: 77,
            ..event()
        };
        assert!(plain(&ping).ends_with("icmp 203.0.113.7 > 198.51.100.1 echo-request, length 74"));
        let fragment = EventDocument {
            source_port: 0,
            destination_port: 0,
            tcp_flags: 0,
            ..event()
        };
        assert!(plain(&fragment).ends_with("tcp 203.0.113.7 > 198.51.100.1, length 74"));
        let other = EventDocument {
            kind: "other".to_owned(),
            ether_type: 0x88b5,
            ..event()
        };
        assert!(plain(&other).ends_with("ether type 0x88b5, length 74"));
    }

    #[test]
    fn a_name_from_elsewhere_cannot_move_the_cursor() {
        let odd = EventDocument {
            interface: "e\x1b[2J".to_owned(),
            ..event()
        };
        assert!(plain(&odd).contains(" e?[2J "), "{}", plain(&odd));
    }
}
