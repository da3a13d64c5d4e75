use std::future::poll_fn;

use firewall_common::packet::{Kind, Packet, flag, protocol};
use firewall_common::sampling::Class;
use firewall_common::{Address, Direction, Reason, Verdict};
use hyper::body::Body;
use jiff::Timestamp;

use super::*;
use crate::daemon::documents::{LostBy, LostDocument, WatchLine, WatchQuery};

fn sample(last: u8, verdict: Verdict, reason: Reason) -> Sighting {
    let packet = Packet {
        kind: Kind::Ip,
        protocol: protocol::TCP,
        sender: Address::v4(u32::from_be_bytes([203, 0, 113, last])),
        destination: Address::v4(u32::from_be_bytes([198, 51, 100, 1])),
        source_port: 40_000,
        destination_port: 22,
        tcp_flags: flag::SYN,
        length: 74,
        ..Packet::default()
    };
    Sighting {
        verdict,
        reason,
        packets: 3,
        ..Sighting::new(0, packet, Class::Contact, &[0xab; 74])
    }
}

fn dropped(last: u8) -> Sighting {
    sample(last, Verdict::Drop, Reason::Rule)
}

/// A document with the names that the fence would give.
fn named(sighting: &Sighting) -> EventDocument {
    let packet = &sighting.packet;
    EventDocument {
        time: Timestamp::UNIX_EPOCH,
        interface: "edge".to_owned(),
        direction: Direction::Inbound.name().to_owned(),
        verdict: sighting.verdict.name().to_owned(),
        reason: sighting.reason.name().to_owned(),
        rule: (sighting.reason == Reason::Rule).then(|| "hostile".to_owned()),
        kind: "ip".to_owned(),
        ether_type: packet.ether_type,
        protocol: packet.protocol,
        source: sighting.sender(),
        source_port: packet.source_port,
        destination: sighting.destination(),
        destination_port: packet.destination_port,
        tcp_flags: packet.tcp_flags,
        icmp_type: 0,
        length: packet.length,
        class: sighting.class.name().to_owned(),
        packets: sighting.packets,
    }
}

fn query(query: &str) -> WatchQuery {
    let uri = format!("/v1/watch?{query}").parse().expect("a URI");
    let parsed = axum::extract::Query::<WatchQuery>::try_from_uri(&uri);
    parsed.expect("a query").0
}

fn wants(text: &str, sighting: &Sighting) -> bool {
    let filter = Filter::try_from(&query(text)).expect("a filter");
    filter.wants(sighting) && filter.wants_named(&named(sighting))
}

/// What is there to be read now.
async fn lines(watching: &mut Watching) -> Vec<WatchLine> {
    let mut text = Vec::new();
    loop {
        let frame = poll_fn(|context| {
            std::task::Poll::Ready(
                match std::pin::Pin::new(&mut *watching).poll_frame(context) {
                    std::task::Poll::Ready(frame) => frame,
                    std::task::Poll::Pending => None,
                },
            )
        });
        // The runtime would have the task give way now and then, which looks as if nothing were there.
        match tokio::task::unconstrained(frame).await {
            Some(Ok(frame)) => text.extend(frame.into_data().expect("data")),
            _ => break,
        }
    }
    let lines = text.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a document"))
        .collect()
}

#[test]
fn each_key_of_a_query_narrows_it_and_a_list_widens_it() {
    let told = dropped(7);
    for (text, wanted) in [
        ("", true),
        ("reason=rule", true),
        ("reason=ban,rule", true),
        ("reason=ban", false),
        ("rule=hostile", true),
        ("rule=shop", false),
        ("from=203.0.113.7", true),
        ("from=203.0.113.0/24", true),
        ("from=203.0.113.8,2001:db8::/32", false),
        ("to=198.51.100.1&from=203.0.113.0/28", true),
        ("to=203.0.113.7", false),
        ("port=22", true),
        ("port=443,40000", true),
        ("port=443", false),
        ("protocol=tcp", true),
        ("protocol=6", true),
        ("protocol=udp,icmp", false),
        ("interface=edge", true),
        ("interface=eth1", false),
    ] {
        assert_eq!(wants(text, &told), wanted, "{text}");
    }
    let passed = sample(7, Verdict::Pass, Reason::Default);
    assert!(!wants("", &passed));
    assert!(wants("passed=true", &passed));
    assert!(
        !wants("passed=true&rule=hostile", &passed),
        "no rule at all"
    );
}

#[test]
fn what_is_no_ip_has_no_address_to_be_asked_for() {
    let mut other = dropped(0);
    other.packet = Packet::default();
    other.reason = Reason::Default;
    assert!(wants("", &other));
    for text in ["from=0.0.0.0/0", "to=::/0", "protocol=0"] {
        assert!(!wants(text, &other), "{text}");
    }
}

#[test]
fn a_query_that_makes_no_sense_is_refused_with_its_key_and_word() {
    for (text, says) in [
        (
            "reason=bann",
            "`reason`: `bann`: a reason is one of rule, default, ban, limit",
        ),
        ("from=203.0.113.300", "`from`: `203.0.113.300`"),
        ("port=70000", "`port`: `70000`: a port is 0 to 65535"),
        ("protocol=tpc", "`protocol`: `tpc`"),
    ] {
        let refused = Filter::try_from(&query(text)).expect_err(text);
        assert!(refused.starts_with(says), "{refused}");
    }
}

#[tokio::test]
async fn each_reader_gets_what_it_asked_for_and_first_bytes_only_on_request() {
    let watchers = Watchers::default();
    assert!(watchers.is_empty());
    let all = Filter::default();
    let one = Filter::try_from(&query("from=203.0.113.9")).expect("a filter");
    let mut plain = watchers.open(all, false).expect("room");
    let mut full = watchers.open(one, true).expect("room");
    watchers.show(&[dropped(7), dropped(9)], Some(10), named);
    let senders: Vec<String> = lines(&mut plain)
        .await
        .iter()
        .map(|line| match line {
            WatchLine::Packet(packet) if packet.frame.is_none() => packet.event.source.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(senders, ["203.0.113.7", "203.0.113.9"]);
    match lines(&mut full).await.as_slice() {
        [WatchLine::Packet(packet)] => {
            assert_eq!(packet.frame.as_deref(), Some("ab".repeat(74).as_str()));
            assert_eq!(packet.event.packets, 3);
        }
        other => panic!("{other:?}"),
    }
    assert!(lines(&mut plain).await.is_empty());
    drop((plain, full));
    assert!(watchers.is_empty(), "who has left is forgotten");
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_how_much_it_lost_and_holds_up_nobody() {
    let watchers = Watchers::default();
    let mut slow = watchers.open(Filter::default(), false).expect("room");
    let mut quick = watchers.open(Filter::default(), false).expect("room");
    let more = WAITING / 8;
    let mut read = 0;
    for _ in 0..9 {
        watchers.show(&vec![dropped(7); more], None, named);
        read += lines(&mut quick).await.len();
    }
    assert_eq!(read, 9 * more);
    let told = lines(&mut slow).await;
    let (samples, lost): (Vec<_>, Vec<_>) = told
        .iter()
        .partition(|line| matches!(line, WatchLine::Packet(_)));
    assert_eq!(samples.len(), WAITING);
    let expected = LostDocument {
        by: LostBy::Reader,
        samples: Some(more as u64),
        packets: 3 * more as u64,
    };
    match lost.as_slice() {
        [WatchLine::Lost(lost)] => assert_eq!(*lost, expected),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_the_kernel_lost_while_somebody_watched_is_told_and_nothing_before() {
    let watchers = Watchers::default();
    let mut reader = watchers.open(Filter::default(), false).expect("room");
    watchers.show(&[], Some(1_000), named);
    watchers.show(&[], Some(1_250), named);
    match lines(&mut reader).await.as_slice() {
        [WatchLine::Lost(lost)] => {
            assert_eq!(
                (lost.by, lost.samples, lost.packets),
                (LostBy::Kernel, None, 250)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_more_than_so_many_watch_at_once() {
    let watchers = Watchers::default();
    let open = || watchers.open(Filter::default(), false);
    let mut all: Vec<Watching> = (0..MOST).map(|_| open().expect("room")).collect();
    let refused = open().expect_err("one more");
    assert!(
        refused.to_string().contains("16 watch already"),
        "{refused}"
    );
    all.pop();
    assert!(open().is_ok());
}
