//! What leaves the host, told from sampled packets.

use std::net::IpAddr;

use firewall_common::packet::{Frame, NO_VLAN, Packet, flag, parse};
use firewall_common::sampling::Class;
use firewall_common::{Direction, Verdict};

use super::scene::{SECOND, START};
use crate::detect::*;
use crate::packet_build::PacketBuilder;

const HOST: &str = "198.51.100.1";
const PEER: &str = "203.0.113.7";
const TICK: Time = SECOND / 4;

/// A host that sees nothing but the packets of a script.
struct Watch {
    now: Time,
    detector: Detector,
    fired: Vec<Alert>,
    waiting: Vec<Sighting>,
}

impl Watch {
    fn new() -> Self {
        Self {
            now: START,
            detector: Detector::from_zero(Config::default(), START),
            fired: Vec::new(),
            waiting: Vec::new(),
        }
    }

    fn see(&mut self, class: Class, direction: Direction, bytes: u64, packet: &PacketBuilder) {
        let frame = packet.build();
        let mut parsed = Packet::default();
        parse(&mut Frame::new(&frame), NO_VLAN, &mut parsed);
        self.waiting.push(Sighting {
            direction,
            verdict: Verdict::Pass,
            bytes,
            ..Sighting::new(self.now, parsed, class, &frame)
        });
    }

    /// Lets time pass.
    fn wait(&mut self, span: Time) {
        let end = self.now + span;
        while self.now < end {
            self.now = (self.now + TICK).min(end);
            let changes = self.detector.tick(&Snapshot {
                time: self.now,
                sightings: std::mem::take(&mut self.waiting),
                ..Snapshot::default()
            });
            self.fired
                .extend(changes.into_iter().filter_map(|change| match change {
                    AlertChange::Fired(alert) => Some(alert),
                    _ => None,
                }));
        }
    }

    fn kinds(&self) -> Vec<(AlertKind, String)> {
        self.fired
            .iter()
            .map(|alert| (alert.kind, alert.subject.to_string()))
            .collect()
    }

    fn connect(&mut self, to: &str, number: u16) {
        let syn = between(HOST, to).tcp(20_000 + number, 443, flag::SYN);
        self.see(Class::Contact, Direction::Outbound, 74, &syn);
    }

    fn ask(&mut self, name: &str) {
        let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend(label.as_bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        let packet = between(HOST, PEER).udp(5_353, 53).payload(&query);
        self.see(Class::Query, Direction::Outbound, 100, &packet);
    }
}

fn between(source: &str, destination: &str) -> PacketBuilder {
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    PacketBuilder::new(address(source), address(destination)).expect("one family")
}

/// Numbers without a pattern, the same in every run (xorshift, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn data_in_the_names_of_queries_is_a_tunnel_and_says_which_domain() {
    let mut watch = Watch::new();
    let mut dice = Dice(7);
    for _ in 0..40 {
        let name = format!("{:016x}{:016x}.t.example.net", dice.next(), dice.next());
        watch.ask(&name);
        watch.wait(SECOND / 2);
    }
    assert_eq!(watch.kinds(), [(AlertKind::Tunnel, "host".to_owned())]);
    let alert = &watch.fired[0];
    assert_eq!(alert.evidence["domain"], "example.net");
    assert!(alert.detected - START < 15 * SECOND, "{alert:?}");
}

#[test]
fn of_two_domains_that_carry_data_the_alert_tells_of_the_one_with_more() {
    // Each detector orders its maps by a seed of its own: what depended on it would differ now and then.
    for seed in 1..=20 {
        let mut watch = Watch::new();
        let mut dice = Dice(seed);
        for _ in 0..40 {
            watch.ask(&format!(
                "{:016x}{:016x}.example.net",
                dice.next(),
                dice.next()
            ));
            watch.ask(&format!(
                "{:016x}{:08x}.example.org",
                dice.next(),
                dice.next() as u32
            ));
        }
        watch.wait(SECOND);
        assert_eq!(watch.kinds(), [(AlertKind::Tunnel, "host".to_owned())]);
        assert_eq!(watch.fired[0].evidence["domain"], "example.net");
    }
}

#[test]
fn names_too_long_to_be_seen_whole_count_for_the_domain_below_which_most_is_asked() {
    let mut watch = Watch::new();
    let mut dice = Dice(3);
    let mut label = || format!("{:016x}{:016x}", dice.next(), dice.next());
    // As iodine does: a few short ones, then long ones. Neither are enough alone.
    for _ in 0..8 {
        watch.ask(&format!("{}.example.net", label()));
        watch.wait(SECOND / 2);
    }
    watch.ask("www.example.org");
    assert_eq!(watch.kinds(), []);
    for _ in 0..5 {
        let long = [(); 6].map(|()| label()).join(".");
        watch.ask(&format!("{long}.example.net"));
        watch.wait(SECOND);
    }
    assert_eq!(watch.kinds(), [(AlertKind::Tunnel, "host".to_owned())]);
    assert_eq!(watch.fired[0].evidence["domain"], "example.net");
}

#[test]
fn a_few_long_names_do_not_make_a_tunnel_of_a_site_with_many_short_ones() {
    let mut watch = Watch::new();
    let mut dice = Dice(5);
    for round in 0..120 {
        watch.ask(&format!("host-{round:04}.example.org"));
        if round % 12 == 0 {
            let long = [(); 6].map(|()| format!("{:032x}", dice.next())).join(".");
            watch.ask(&format!("{long}.example.net"));
        }
        watch.wait(SECOND / 4);
    }
    assert_eq!(watch.kinds(), []);
}

#[test]
fn a_busy_resolver_and_lists_of_addresses_in_the_dns_are_no_tunnel() {
    let mut watch = Watch::new();
    let mut dice = Dice(9);
    for round in 0..600 {
        watch.ask(&format!("cdn{}.images.example.org", dice.next() % 300));
        watch.ask(&format!("www.shop{round}.example"));
        let octet = dice.next() % 256;
        watch.ask(&format!("{octet}.113.0.203.blocked.example"));
        watch.ask("an-unusually-long-but-always-equal-name-of-a-service.region-1.example.com");
        watch.wait(SECOND / 4);
    }
    assert_eq!(watch.kinds(), []);
}

#[test]
fn echoes_with_a_payload_of_their_own_are_a_tunnel_and_a_ping_is_not() {
    for (differs, expected) in [(true, 1), (false, 0)] {
        let mut watch = Watch::new();
        let mut dice = Dice(11);
        for sequence in 0..120_u8 {
            let mut payload = [0x20; 72];
            // A time stamp, as ping has it.
            payload[..8].copy_from_slice(&watch.now.to_le_bytes());
            if differs {
                payload[16..24].copy_from_slice(&dice.next().to_le_bytes());
            }
            for (direction, kind, source, destination) in [
                (Direction::Outbound, 8, HOST, PEER),
                (Direction::Inbound, 0, PEER, HOST),
            ] {
                let echo = between(source, destination)
                    .icmp(kind, 0, [0, 1, 0, sequence])
                    .payload(&payload);
                watch.see(Class::Query, direction, 114, &echo);
            }
            watch.wait(SECOND / 2);
        }
        assert_eq!(watch.fired.len(), expected, "{:?}", watch.kinds());
        assert!(
            watch
                .fired
                .iter()
                .all(|alert| alert.kind == AlertKind::Tunnel)
        );
    }
}

#[test]
fn contacts_by_the_clock_are_found_also_when_it_jitters() {
    for jitter in [0, 200] {
        let mut watch = Watch::new();
        let mut dice = Dice(13);
        for contact in 0..24 {
            watch.connect(PEER, contact);
            let milliseconds = 2_000 + dice.next() % (2 * jitter + 1) - jitter;
            watch.wait(milliseconds * SECOND / 1_000);
        }
        assert_eq!(
            watch.kinds(),
            [(AlertKind::Beaconing, PEER.to_owned())],
            "{jitter}"
        );
        assert_eq!(watch.fired[0].evidence["port"], 443);
    }
}

#[test]
fn contacts_at_random_bursts_and_within_ones_own_network_are_no_beacons() {
    let mut watch = Watch::new();
    let mut dice = Dice(17);
    for contact in 0..400 {
        // Exponential intervals of 5 s on average.
        let share = (dice.next() % 1_000_000 + 1) as f64 / 1e6;
        watch.connect(PEER, contact);
        if contact % 2 == 0 {
            watch.connect("10.0.0.9", contact);
            // The same SYN again is no new contact.
            watch.connect("10.0.0.9", contact);
        }
        watch.wait((-share.ln() * 5.0 * SECOND as f64) as Time + 1);
    }
    for contact in 0..60 {
        watch.connect("10.0.0.10", contact);
        watch.connect("192.168.7.7", contact);
        watch.wait(10 * SECOND);
    }
    assert_eq!(watch.kinds(), []);
}

/// Sends `megabytes` over a contact within a minute, and gets some back.
fn upload(watch: &mut Watch, contact: u16, megabytes: u64, back: u64) {
    watch.connect(PEER, contact);
    let data = |from: &str, to: &str, ports: (u16, u16)| {
        between(from, to)
            .tcp(ports.0, ports.1, flag::ACK)
            .payload(&[7; 1_000])
    };
    let (mine, theirs) = (20_000 + contact, 443);
    for _ in 0..60 {
        let out = data(HOST, PEER, (mine, theirs));
        watch.see(
            Class::Pass,
            Direction::Outbound,
            megabytes * 1_000_000 / 60,
            &out,
        );
        let answer = data(PEER, HOST, (theirs, mine));
        watch.see(
            Class::Pass,
            Direction::Inbound,
            back * 1_000_000 / 60,
            &answer,
        );
        watch.wait(SECOND);
    }
}

#[test]
fn much_data_to_a_peer_that_never_got_any_is_exfiltration_and_usual_the_next_night() {
    let mut watch = Watch::new();
    upload(&mut watch, 1, 200, 1);
    assert_eq!(watch.kinds(), [(AlertKind::Exfiltration, PEER.to_owned())]);
    watch.wait(3_600 * SECOND);
    upload(&mut watch, 2, 250, 1);
    assert_eq!(watch.fired.len(), 1, "{:?}", watch.kinds());
    watch.wait(3_600 * SECOND);
    upload(&mut watch, 3, 2_000, 1);
    assert_eq!(watch.fired.len(), 2, "{:?}", watch.kinds());
}

#[test]
fn what_a_server_answers_and_what_goes_both_ways_is_no_exfiltration() {
    let mut watch = Watch::new();
    upload(&mut watch, 1, 200, 150);
    for _ in 0..60 {
        // Somebody else's contact: a download from this host.
        let page = between(HOST, "203.0.113.9")
            .tcp(443, 50_000, flag::ACK)
            .payload(&[7; 1_000]);
        watch.see(Class::Pass, Direction::Outbound, 10_000_000, &page);
        watch.wait(SECOND);
    }
    assert_eq!(watch.kinds(), []);
}
