//! Connections that are held for nothing, and those that wait for a reason.

use std::net::{IpAddr, SocketAddr};

use super::scene::{SECOND, START};
use super::wire::*;
use crate::detect::*;

/// A detector that is shown the socket table every two seconds.
struct Table {
    detector: Detector,
    now: Time,
    changes: Vec<AlertChange>,
}

impl Table {
    fn new() -> Self {
        Self {
            detector: Detector::from_zero(Config::default(), START),
            now: START,
            changes: Vec::new(),
        }
    }

    fn look(&mut self, sockets: Vec<SocketSample>) {
        self.now += 2 * SECOND;
        self.changes.extend(self.detector.tick(&Snapshot {
            time: self.now,
            clock: self.now / 1_000_000,
            sockets: Some(sockets),
            ..Snapshot::default()
        }));
    }

    fn fired(&self) -> Vec<(AlertKind, String)> {
        self.changes
            .iter()
            .filter(|change| matches!(change, AlertChange::Fired(_)))
            .map(|change| (change.alert().kind, change.alert().subject.to_string()))
            .collect()
    }
}

/// Connection `number` of a client, with so many bytes received, acknowledged and waiting.
fn socket(client: IpAddr, number: u16, bytes: [u64; 3]) -> SocketSample {
    let server: IpAddr = match client {
        IpAddr::V4(_) => host(),
        IpAddr::V6(_) => "2001:db8::1".parse().unwrap(),
    };
    SocketSample {
        client: SocketAddr::new(client, 20_000 + number),
        server: SocketAddr::new(server, 80),
        received: bytes[0],
        acknowledged: bytes[1],
        waiting: bytes[2] as u32,
    }
}

/// Visitors who read a page and keep their connections for the next.
fn visitors() -> Vec<SocketSample> {
    (0..30)
        .map(|number| socket(visitor(100 + number), 1, [900, 40_000, 0]))
        .collect()
}

#[test]
fn connections_without_an_answer_bodies_that_trickle_and_answers_that_nobody_reads_are_found() {
    let slow: [fn(u64) -> [u64; 3]; 3] = [
        |look| [200 + look * 8, 0, 0],
        |look| [400 + look * 8, 25, 0],
        |look| [300, 2_000 + look * 16, 60_000],
    ];
    for client in ["203.0.113.9", "2001:db8:5::9"] {
        let client: IpAddr = client.parse().unwrap();
        for bytes in slow {
            let mut table = Table::new();
            for look in 0..10 {
                let mut sockets = visitors();
                sockets.extend((0..100).map(|number| socket(client, number, bytes(look))));
                table.look(sockets);
            }
            // Of an IPv6 /64 the one address that holds them.
            assert_eq!(
                table.fired(),
                [(AlertKind::SlowClients, client.to_string())]
            );
            let found = table.changes[0].alert().detected - START;
            assert!(found <= 12 * SECOND, "after {found} ns");
        }
    }
}

#[test]
fn five_hundred_users_behind_one_address_with_idle_connections_are_no_attack() {
    let mut table = Table::new();
    for _ in 0..60 {
        let idle = |number| socket(visitor(9), number, [700, 30_000, 0]);
        table.look((0..1_500).map(idle).chain(visitors()).collect());
    }
    assert_eq!(table.fired(), []);
}

#[test]
fn where_everybody_waits_for_news_a_client_that_waits_is_no_attacker() {
    let mut table = Table::new();
    for _ in 0..60 {
        let waiting = (0..300).map(|number| socket(visitor(9), number, [700, 0, 0]));
        let others = (0..60).map(|number| socket([11, number as u8, 7, 9].into(), 1, [600, 0, 0]));
        table.look(waiting.chain(others).collect());
    }
    assert_eq!(table.fired(), []);
}

#[test]
fn slow_connections_of_many_addresses_are_their_prefixes_or_nobodys() {
    let mut near = Table::new();
    let mut far = Table::new();
    for look in 0..100 {
        let attacked = look >= 60;
        let (mut close, mut scattered) = (visitors(), visitors());
        for number in 0..300_u16 {
            if !attacked {
                break;
            }
            let neighbour = [11, 2, 2, (number % 50) as u8].into();
            close.push(socket(neighbour, number, [200, 0, 0]));
            let stranger = [11, (number % 100) as u8, 7, 9].into();
            scattered.push(socket(stranger, number, [200, 0, 0]));
        }
        near.look(close);
        far.look(scattered);
    }
    assert!(
        near.fired()
            .contains(&(AlertKind::SlowClients, "11.2.2.0/24".to_owned()))
    );
    assert_eq!(far.fired(), [(AlertKind::SlowClients, "host".to_owned())]);
}

#[test]
fn uploads_and_downloads_under_way_are_no_attack() {
    let mut table = Table::new();
    for look in 0..60_u64 {
        let up = (0..60).map(|number| socket(visitor(9), number, [1_000 + look * 20_000, 0, 0]));
        let down =
            (100..160).map(|number| socket(visitor(9), number, [500, look * 30_000, 64_000]));
        table.look(up.chain(down).collect());
    }
    assert_eq!(table.fired(), []);
}

#[test]
fn packets_alone_tell_of_held_connections_too() {
    let mut wire = Wire::new("accept");
    for number in 0..120 {
        let mut talk = Talk::new(visitor(9), 80, 0, 0, 0);
        talk.lasts = None;
        let ends = wire.talk(number * SECOND / 20, &talk);
        for trickle in 1..6 {
            let after = number * SECOND / 20 + trickle * 5 * SECOND;
            wire.say(after, ends, trickle as u32 * 8, 0);
        }
    }
    wire.run(32.0);
    wire.expect_one(AlertKind::SlowClients, "203.0.113.9");
}

#[test]
fn packets_of_connections_that_were_answered_are_no_attack() {
    let mut wire = Wire::new("accept");
    for number in 0..120 {
        let mut talk = Talk::new(visitor(9), 80, 0, 0, 0);
        talk.lasts = None;
        let ends = wire.talk(number * SECOND / 20, &talk);
        for more in 1..6 {
            let after = number * SECOND / 20 + more * 5 * SECOND;
            wire.say(after, ends, more as u32 * 300, more as u32 * 9_000);
        }
    }
    wire.run(32.0);
    assert_eq!(wire.fired(), []);
}
