//! A host whose packets a test writes one by one: judged and sampled by the engine, and shown to a
//! detector, as in a replay.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use firewall_common::Direction;
use firewall_common::packet::flag;

use super::scene::{SECOND, START};
use crate::detect::*;
use crate::engine::HostEngine;
use crate::packet_build::PacketBuilder;
use crate::policy::{Environment, Policy};

const TICK: Time = SECOND / 4;
const MILLISECOND: Time = SECOND / 1_000;
const CLIENT_START: u32 = 4_000_000_000;
const SERVER_START: u32 = 77;

/// The host, which is 198.51.100.1 and 2001:db8::1 and whatever a test says.
pub struct Wire {
    pub now: Time,
    engine: HostEngine,
    pub detector: Detector,
    pub changes: Vec<AlertChange>,
    /// What is still to come.
    queue: BTreeMap<Time, Vec<(Direction, Vec<u8>)>>,
    next_port: u16,
}

/// A TCP connection to be played.
pub struct Talk {
    pub client: IpAddr,
    pub server: IpAddr,
    pub port: u16,
    pub sent: u32,
    pub received: u32,
    /// Nanoseconds until it ends; forever, if `None`.
    pub lasts: Option<Time>,
    pub ttl: u8,
}

impl Wire {
    /// With `accept` or `drop` for what comes in.
    pub fn new(inbound: &str) -> Self {
        let text = format!("version = 1\n[defaults]\ninbound = \"{inbound}\"\n");
        let policy = Policy::parse(&text, "p", Path::new("")).unwrap().0;
        let compiled = policy.compile(&Environment::default()).unwrap();
        let mut engine = HostEngine::new(compiled);
        engine.watch();
        Self {
            now: START,
            engine,
            detector: Detector::from_zero(Config::default(), START),
            changes: Vec::new(),
            queue: BTreeMap::new(),
            next_port: 40_000,
        }
    }

    /// Sends a frame after a time from now, and a moment.
    pub fn send(&mut self, after: Time, direction: Direction, frame: Vec<u8>) {
        self.queue
            .entry(self.now + MILLISECOND + after)
            .or_default()
            .push((direction, frame));
    }

    /// Lets time pass, with all that was to come in it.
    pub fn run(&mut self, seconds: f64) {
        let end = self.now + (seconds * 1e9) as Time;
        while self.now < end {
            // Where nothing happens, one look a second will do.
            let idle = self
                .queue
                .first_key_value()
                .is_none_or(|(next, _)| *next > self.now + 4 * TICK);
            let tick = self.now + if idle { 4 * TICK } else { TICK };
            let later = self.queue.split_off(&tick);
            for (time, frames) in std::mem::replace(&mut self.queue, later) {
                for (direction, frame) in frames {
                    self.engine.judge(&frame, direction, time);
                }
            }
            self.now = tick;
            self.look();
        }
    }

    pub fn look(&mut self) {
        let snapshot = Snapshot {
            time: self.now,
            host: self.engine.host_counts(),
            clock: self.now / 1_000_000,
            sources: self.engine.sources(self.now, self.now),
            sightings: self.engine.sightings(self.now, self.now),
            ..Snapshot::default()
        };
        self.changes.extend(self.detector.tick(&snapshot));
    }

    pub fn fresh_port(&mut self) -> u16 {
        self.next_port = if self.next_port == 65_000 {
            30_000
        } else {
            self.next_port + 1
        };
        self.next_port
    }

    /// A segment from the first to the second.
    pub fn segment(ends: [(IpAddr, u16); 2], flags: u8, numbers: [u32; 2], ttl: u8) -> Vec<u8> {
        let [(from, from_port), (to, to_port)] = ends;
        let packet = PacketBuilder::new(from, to).unwrap().ttl(ttl);
        let mut frame = packet.tcp(from_port, to_port, flags).build();
        let at = 14 + if from.is_ipv4() { 20 } else { 40 };
        frame[at + 4..at + 8].copy_from_slice(&numbers[0].to_be_bytes());
        frame[at + 8..at + 12].copy_from_slice(&numbers[1].to_be_bytes());
        frame
    }

    /// Tries a port that is closed.
    pub fn knock(&mut self, client: IpAddr, server: IpAddr, port: u16) {
        let source = (client, self.fresh_port());
        let syn = Self::segment([source, (server, port)], flag::SYN, [CLIENT_START, 0], 57);
        let reset = flag::RST | flag::ACK;
        let numbers = [0, CLIENT_START.wrapping_add(1)];
        let refusal = Self::segment([(server, port), source], reset, numbers, 64);
        self.send(0, Direction::Inbound, syn);
        self.send(200_000, Direction::Outbound, refusal);
    }

    /// Tries a port and gets no answer.
    pub fn knock_in_vain(&mut self, client: IpAddr, server: IpAddr, port: u16) {
        let source = (client, self.fresh_port());
        let syn = Self::segment([source, (server, port)], flag::SYN, [CLIENT_START, 0], 57);
        self.send(0, Direction::Inbound, syn);
    }

    /// Has the client of a connection say that it has sent and received so much.
    pub fn say(&mut self, after: Time, ends: [(IpAddr, u16); 2], sent: u32, received: u32) {
        let sent = CLIENT_START.wrapping_add(1).wrapping_add(sent);
        let numbers = [sent, SERVER_START + 1 + received];
        let segment = Self::segment(ends, flag::ACK, numbers, 57);
        self.send(after, Direction::Inbound, segment);
    }

    /// Plays a connection that begins after a while, up to its end. Gives the client and the server.
    pub fn talk(&mut self, after: Time, talk: &Talk) -> [(IpAddr, u16); 2] {
        let client = (talk.client, self.fresh_port());
        let server = (talk.server, talk.port);
        let (there, back) = ([client, server], [server, client]);
        let (first, second) = (CLIENT_START.wrapping_add(1), SERVER_START + 1);
        let syn = Self::segment(there, flag::SYN, [CLIENT_START, 0], talk.ttl);
        self.send(after, Direction::Inbound, syn);
        let accepted = flag::SYN | flag::ACK;
        let accepted = Self::segment(back, accepted, [SERVER_START, first], 64);
        self.send(after + MILLISECOND, Direction::Outbound, accepted);
        let ack = Self::segment(there, flag::ACK, [first, second], talk.ttl);
        self.send(after + 2 * MILLISECOND, Direction::Inbound, ack);
        let Some(lasts) = talk.lasts else {
            return there;
        };
        let (sent, received) = (first.wrapping_add(talk.sent), second + talk.received);
        let end = flag::FIN | flag::ACK;
        let fin = Self::segment(there, end, [sent, received], talk.ttl);
        self.send(after + lasts, Direction::Inbound, fin);
        let fin = Self::segment(back, end, [received, sent.wrapping_add(1)], 64);
        self.send(after + lasts + MILLISECOND, Direction::Outbound, fin);
        there
    }

    pub fn fired(&self) -> Vec<(AlertKind, String)> {
        self.changes
            .iter()
            .filter(|change| matches!(change, AlertChange::Fired(_)))
            .map(|change| (change.alert().kind, change.alert().subject.to_string()))
            .collect()
    }

    /// The only alert that ever fired.
    pub fn expect_one(&self, kind: AlertKind, subject: &str) -> &Alert {
        assert_eq!(self.fired(), [(kind, subject.to_owned())]);
        let fired = self
            .changes
            .iter()
            .find(|change| matches!(change, AlertChange::Fired(_)));
        let alert = fired.unwrap().alert();
        assert!(alert.started <= alert.detected);
        assert!(!alert.why.is_empty() && !alert.evidence.is_empty());
        alert
    }
}

impl Talk {
    /// A connection of these sizes.
    pub fn new(client: IpAddr, port: u16, sent: u32, received: u32, lasts: Time) -> Self {
        Self {
            client,
            server: host(),
            port,
            sent,
            received,
            lasts: Some(lasts),
            ttl: 57,
        }
    }
}

pub fn host() -> IpAddr {
    [198, 51, 100, 1].into()
}

pub fn visitor(last: u8) -> IpAddr {
    [203, 0, 113, last].into()
}
