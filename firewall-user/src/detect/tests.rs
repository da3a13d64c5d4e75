//! The detectors over synthetic traffic: each fires once, names the right subject, and resolves;
//! and nothing fires where nothing happened.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use firewall_common::layout::{SourceCounters, TrafficKind};
use proptest::prelude::*;

use super::*;

const SECOND: Time = 1_000_000_000;
const START: Time = 1_700_000_000 * SECOND;

/// A host whose traffic a test writes packet by packet, and a detector that looks at it.
struct Scene {
    now: Time,
    tick: Time,
    entries: u32,
    host: HostCounts,
    sources: BTreeMap<IpAddr, SourceSample>,
    detector: Detector,
    changes: Vec<AlertChange>,
}

impl Scene {
    fn new() -> Self {
        Self::ticking(SECOND / 4)
    }

    fn ticking(tick: Time) -> Self {
        Self {
            now: START,
            tick,
            entries: 0,
            host: HostCounts::default(),
            sources: BTreeMap::new(),
            detector: Detector::from_zero(Config::default(), START),
            changes: Vec::new(),
        }
    }

    /// Ends a tick's time; bitmaps are cleared by reading.
    fn tick(&mut self) {
        self.now += self.tick;
        self.look();
    }

    fn look(&mut self) {
        let snapshot = Snapshot {
            time: self.now,
            host: self.host,
            sources: self.sources.values().copied().collect(),
        };
        self.changes.extend(self.detector.tick(&snapshot));
        for sample in self.sources.values_mut() {
            sample.counters.ports = 0;
            sample.counters.hosts = 0;
        }
    }

    /// Plays `each` once per tick for `seconds`.
    fn play(&mut self, seconds: f64, mut each: impl FnMut(&mut Self, f64)) {
        let ticks = (seconds * SECOND as f64 / self.tick as f64).round() as u64;
        for _ in 0..ticks {
            each(self, self.tick as f64 / SECOND as f64);
            self.tick();
        }
    }

    fn rest(&mut self, seconds: f64) {
        self.play(seconds, |_, _| {});
    }

    fn packets(
        &mut self,
        source: IpAddr,
        count: u64,
        kinds: &[TrafficKind],
    ) -> &mut SourceCounters {
        self.host.packets += count;
        self.host.bytes += count * 60;
        for kind in kinds {
            self.host.kinds[*kind as usize] += count;
        }
        // Entries are stamped by a clock of their own that never goes back.
        self.entries += u32::from(!self.sources.contains_key(&source));
        let entered = self.entries;
        let sample = self.sources.entry(source).or_insert(SourceSample {
            source,
            counters: SourceCounters {
                first_seen: entered,
                ..SourceCounters::default()
            },
            last_seen: self.now,
        });
        sample.last_seen = self.now;
        sample.counters.packets += count;
        sample.counters.bytes += count * 60;
        &mut sample.counters
    }

    fn syns(&mut self, source: IpAddr, count: u64, port: u16) -> &mut SourceCounters {
        let counters = self.packets(source, count, &[TrafficKind::Tcp, TrafficKind::Syn]);
        counters.syns = counters.syns.wrapping_add(count as u32);
        counters.ports |= bit(u64::from(port));
        counters.hosts |= bit(1);
        counters
    }

    /// Whole connections: SYN, ACK, data, FIN.
    fn connections(&mut self, source: IpAddr, count: u64, port: u16) {
        self.syns(source, count, port);
        self.packets(source, count * 3, &[TrafficKind::Tcp]);
    }

    fn fired(&self) -> Vec<(AlertKind, String)> {
        self.changes
            .iter()
            .filter(|change| matches!(change, AlertChange::Fired(_)))
            .map(|change| (change.alert().kind, change.alert().subject.to_string()))
            .collect()
    }

    fn resolved(&self) -> Vec<&Alert> {
        self.changes
            .iter()
            .filter_map(|change| match change {
                AlertChange::Resolved(alert) => Some(alert),
                _ => None,
            })
            .collect()
    }

    /// What must hold of any one incident: one alert of this kind and subject, which ends.
    fn expect_one(&self, kind: AlertKind, subject: &str) -> &Alert {
        assert_eq!(self.fired(), [(kind, subject.to_owned())]);
        let resolved = self.resolved();
        assert_eq!(resolved.len(), 1, "{resolved:?}");
        assert_eq!(self.detector.active().count(), 0);
        let alert = resolved[0];
        let ended = alert.ended.unwrap();
        assert!(alert.started <= alert.detected && alert.detected <= ended);
        assert!(alert.observed >= alert.expected);
        assert!(!alert.why.is_empty() && !alert.evidence.is_empty());
        alert
    }
}

/// One of 64 bits by splitmix64, as the kernel spreads ports and hosts.
fn bit(item: u64) -> u64 {
    let mut hash = item.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    1 << ((hash ^ hash >> 31) >> 58)
}

fn client(number: u32) -> IpAddr {
    Ipv4Addr::from(0xc633_6400 + number).into()
}

fn forged(number: u64) -> IpAddr {
    Ipv4Addr::from(0x0b00_0000 + (number as u32 & 0x00ff_ffff)).into()
}

#[test]
fn a_syn_flood_from_forged_sources_is_the_hosts_and_ends_with_the_flood() {
    for tick in [SECOND / 10, SECOND / 4, SECOND / 2, SECOND] {
        let mut scene = Scene::ticking(tick);
        scene.rest(5.0);
        let began = scene.now;
        let mut next = 0;
        scene.play(10.0, |scene, seconds| {
            for _ in 0..(2_000.0 * seconds) as u64 {
                scene.syns(forged(next), 1, 443);
                next += 1;
            }
        });
        let last = scene.now;
        scene.rest(30.0);
        let alert = scene.expect_one(AlertKind::SynFlood, "host");
        let delay = alert.detected - began;
        assert!(delay <= SECOND.max(2 * tick), "{delay} ns at {tick}");
        assert!(alert.ended.unwrap().abs_diff(last) <= 4 * SECOND);
    }
}

#[test]
fn a_syn_flood_is_found_beside_ordinary_visitors() {
    let mut scene = Scene::new();
    let mut next = 0;
    let mut visitor = 0;
    scene.play(20.0, |scene, seconds| {
        for _ in 0..(300.0 * seconds) as u64 {
            scene.connections(client(visitor % 50_000), 1, 443);
            visitor += 1;
        }
        if (5 * SECOND..10 * SECOND).contains(&(scene.now - START)) {
            for _ in 0..(2_000.0 * seconds) as u64 {
                scene.syns(forged(next), 1, 443);
                next += 1;
            }
        }
    });
    scene.rest(30.0);
    scene.expect_one(AlertKind::SynFlood, "host");
}

#[test]
fn forged_sources_that_answer_with_a_reset_do_not_look_like_visitors() {
    let mut scene = Scene::new();
    let mut next = 0;
    scene.play(3.0, |scene, seconds| {
        for _ in 0..(2_000.0 * seconds) as u64 {
            scene.syns(forged(next), 1, 443);
            scene.packets(forged(next), 1, &[TrafficKind::Tcp, TrafficKind::Reset]);
            next += 1;
        }
    });
    assert_eq!(scene.fired(), [(AlertKind::SynFlood, "host".to_owned())]);
}

#[test]
fn a_sudden_crowd_of_visitors_is_no_flood() {
    let mut scene = Scene::new();
    scene.rest(5.0);
    let mut visitor = 0;
    let mut waiting = Vec::new();
    scene.play(30.0, |scene, seconds| {
        // The rest of each handshake comes a tick later than its SYN.
        for source in waiting.drain(..) {
            scene.packets(source, 3, &[TrafficKind::Tcp]);
        }
        for _ in 0..(2_000.0 * seconds) as u64 {
            scene.syns(client(visitor), 1, 443);
            waiting.push(client(visitor));
            visitor += 1;
        }
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn a_syn_flood_from_one_place_names_it() {
    let mut scene = Scene::new();
    scene.play(5.0, |scene, seconds| {
        scene.syns(client(9), (3_000.0 * seconds) as u64, 80);
    });
    scene.rest(30.0);
    let alert = scene.expect_one(AlertKind::SynFlood, "198.51.100.9");
    assert_eq!(alert.severity, Severity::Critical);
    assert!(alert.detected - alert.started <= SECOND);
}

#[test]
fn a_proxy_with_thousands_of_connections_a_second_is_no_flood() {
    let mut scene = Scene::new();
    scene.play(20.0, |scene, seconds| {
        scene.connections(client(1), (3_000.0 * seconds) as u64, 443);
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn a_port_scan_names_the_scanner_and_fires_once_however_long_it_takes() {
    for per_second in [4.0_f64, 40.0, 4_000.0] {
        let mut scene = Scene::new();
        let (mut port, mut owed) = (0_u16, 0.0);
        scene.play(40.0, |scene, seconds| {
            owed += per_second * seconds;
            while owed >= 1.0 {
                owed -= 1.0;
                port = port.wrapping_add(1);
                scene.syns(client(7), 1, port).failed += 1;
            }
        });
        scene.rest(90.0);
        let fired = scene.fired();
        let scans: Vec<_> = fired
            .iter()
            .filter(|(kind, _)| *kind == AlertKind::PortScan)
            .collect();
        assert_eq!(scans, [&(AlertKind::PortScan, "198.51.100.7".to_owned())]);
        assert!(fired.iter().all(|(_, subject)| subject == "198.51.100.7"));
        assert_eq!(scene.detector.active().count(), 0);
    }
}

#[test]
fn a_scan_that_is_over_before_the_first_tick_is_found() {
    let mut scene = Scene::new();
    for port in 0..1_000 {
        scene.syns(client(7), 1, port).failed += 1;
    }
    scene.tick();
    assert_eq!(
        scene.fired(),
        [(AlertKind::PortScan, "198.51.100.7".to_owned())]
    );
}

#[test]
fn a_scan_that_nobody_answers_is_found_too() {
    let mut scene = Scene::new();
    scene.play(8.0, |scene, _| {
        let port = (scene.now / (SECOND / 4)) as u16;
        scene.syns(client(7), 1, port);
    });
    assert_eq!(
        scene.fired(),
        [(AlertKind::PortScan, "198.51.100.7".to_owned())]
    );
}

#[test]
fn refusals_that_answer_what_others_sent_in_ones_name_are_no_scan() {
    let mut scene = Scene::new();
    scene.packets(client(7), 1, &[TrafficKind::Tcp]);
    scene.play(20.0, |scene, _| {
        let port = scene.now / (SECOND / 4);
        let counters = scene.packets(client(7), 0, &[]);
        counters.failed += 1;
        counters.ports |= bit(port);
        counters.hosts |= bit(1);
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn transfers_over_many_ports_that_succeed_are_no_scan() {
    let mut scene = Scene::new();
    scene.play(60.0, |scene, _| {
        // Passive FTP: each file over a port of its own.
        let port = 40_000 + (scene.now / SECOND % 10_000) as u16;
        scene.syns(client(7), 1, port);
        scene.packets(client(7), 30, &[TrafficKind::Tcp]);
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn a_peer_with_many_hosts_and_a_port_on_each_is_no_scan() {
    let mut scene = Scene::new();
    let mut peer = 0;
    scene.play(60.0, |scene, _| {
        for _ in 0..3 {
            peer += 1;
            let counters = scene.syns(client(7), 1, (peer * 7 % 60_000) as u16);
            counters.hosts |= bit(peer + 1_000);
            scene.packets(client(7), 5, &[TrafficKind::Tcp]);
        }
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn a_sweep_over_many_hosts_in_vain_names_the_sweeper() {
    let mut scene = Scene::new();
    let mut target = 0;
    scene.play(20.0, |scene, _| {
        for _ in 0..5 {
            target += 1;
            let counters = scene.packets(client(7), 1, &[TrafficKind::Tcp, TrafficKind::Syn]);
            counters.syns += 1;
            counters.failed += 1;
            counters.ports |= bit(22);
            counters.hosts |= bit(target);
        }
    });
    scene.rest(90.0);
    scene.expect_one(AlertKind::HostSweep, "198.51.100.7");
}

#[test]
fn a_udp_flood_from_one_place_names_it_and_from_many_the_host() {
    for (senders, subject) in [(1, "198.51.100.0"), (1_000, "host")] {
        let mut scene = Scene::new();
        scene.play(5.0, |scene, seconds| {
            for sender in 0..senders {
                let count = (200_000.0 * seconds) as u64 / u64::from(senders);
                scene.packets(client(sender), count, &[TrafficKind::Udp]);
            }
        });
        scene.rest(30.0);
        let alert = scene.expect_one(AlertKind::UdpFlood, subject);
        assert!(alert.detected - START <= SECOND);
    }
}

#[test]
fn a_service_that_answers_its_datagrams_is_not_flooded() {
    let mut scene = Scene::new();
    scene.play(10.0, |scene, seconds| {
        for sender in 0..500 {
            let count = (40_000.0 * seconds) as u64 / 500;
            scene.packets(client(sender), count, &[TrafficKind::Udp]);
            scene.host.kinds_outbound[TrafficKind::Udp as usize] += count / 2;
        }
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn a_flood_of_pings_is_an_icmp_flood_and_not_one_of_requests() {
    let mut scene = Scene::new();
    scene.play(5.0, |scene, seconds| {
        let count = (5_000.0 * seconds) as u64;
        let kinds = [TrafficKind::Echo, TrafficKind::Request];
        scene.packets(client(3), count, &kinds).requests += count as u32;
    });
    scene.rest(30.0);
    scene.expect_one(AlertKind::IcmpFlood, "198.51.100.3");
}

#[test]
fn a_flood_of_requests_over_open_connections_names_the_client() {
    let mut scene = Scene::new();
    scene.play(5.0, |scene, seconds| {
        let count = (1_000.0 * seconds) as u64;
        scene.packets(client(3), count, &[TrafficKind::Tcp]);
        let kinds = [TrafficKind::Tcp, TrafficKind::Request];
        scene.packets(client(3), count, &kinds).requests += count as u32;
    });
    scene.rest(30.0);
    let alert = scene.expect_one(AlertKind::RequestFlood, "198.51.100.3");
    assert!(alert.detected - START <= SECOND);
}

#[test]
fn a_source_that_sends_far_more_packets_than_any_should_is_named() {
    let mut scene = Scene::new();
    scene.play(5.0, |scene, seconds| {
        let count = (200_000.0 * seconds) as u64;
        scene.packets(client(3), count, &[TrafficKind::Tcp]);
    });
    scene.rest(30.0);
    let alert = scene.expect_one(AlertKind::TrafficSpike, "198.51.100.3");
    assert!(alert.detected - START <= SECOND);
}

#[test]
fn replies_that_nobody_asked_for_are_amplification() {
    let mut scene = Scene::new();
    scene.play(3.0, |scene, seconds| {
        for reflector in 0..1_000 {
            let kinds = [TrafficKind::Udp, TrafficKind::AmplifierReply];
            let count = (8_000.0 * seconds / 1_000.0) as u64;
            scene.packets(client(reflector), count, &kinds);
        }
    });
    scene.rest(30.0);
    scene.expect_one(AlertKind::Amplification, "host");
}

#[test]
fn replies_to_ones_own_queries_are_not_amplification() {
    let mut scene = Scene::new();
    scene.play(10.0, |scene, seconds| {
        let count = (3_000.0 * seconds) as u64;
        let kinds = [TrafficKind::Udp, TrafficKind::AmplifierReply];
        scene.packets(client(53), count, &kinds);
        for kind in [TrafficKind::Udp, TrafficKind::Request] {
            scene.host.kinds_outbound[kind as usize] += count;
        }
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn syn_acks_that_nobody_asked_for_are_reflection() {
    let mut scene = Scene::new();
    scene.play(3.0, |scene, seconds| {
        for reflector in 0..500 {
            let kinds = [TrafficKind::Tcp, TrafficKind::SynAck];
            let count = (8_000.0 * seconds / 500.0) as u64;
            scene.packets(client(reflector), count, &kinds);
        }
    });
    scene.rest(30.0);
    scene.expect_one(AlertKind::Reflection, "host");
}

#[test]
fn a_clock_that_jumps_back_resolves_everything_and_starts_anew() {
    let mut scene = Scene::new();
    scene.play(3.0, |scene, seconds| {
        scene.syns(client(9), (3_000.0 * seconds) as u64, 80);
    });
    assert_eq!(scene.detector.active().count(), 1);
    scene.now -= 3_600 * SECOND;
    scene.look();
    assert_eq!(scene.detector.active().count(), 0);
    assert_eq!(scene.resolved().len(), 1);
    scene.changes.clear();
    scene.rest(5.0);
    assert_eq!(scene.fired(), []);
}

#[test]
fn what_was_done_is_kept_with_the_alert_until_it_is_resolved() {
    let mut scene = Scene::new();
    scene.play(3.0, |scene, seconds| {
        scene.syns(client(9), (3_000.0 * seconds) as u64, 80);
    });
    let id = scene.detector.active().next().unwrap().id;
    assert!(scene.detector.record_response(id, "banned for 10 min"));
    assert!(!scene.detector.record_response(id + 1, "nothing"));
    scene.rest(30.0);
    assert_eq!(scene.resolved()[0].response, ["banned for 10 min"]);
}

/// One step of arbitrary but modest traffic, with any accident of clocks and counters.
#[derive(Clone, Debug)]
enum Step {
    Visit { visitor: u32, connections: u64 },
    Pass { nanoseconds: Time },
    Back { nanoseconds: Time },
    Forget { visitor: u32 },
    ResetHost,
    NearWrap { visitor: u32 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..20_u32, 1..5_u64).prop_map(|(visitor, connections)| Step::Visit {
            visitor,
            connections,
        }),
        6 => (0..SECOND).prop_map(|nanoseconds| Step::Pass { nanoseconds }),
        1 => (0..200_000 * SECOND).prop_map(|nanoseconds| Step::Pass { nanoseconds }),
        1 => (0..200_000 * SECOND).prop_map(|nanoseconds| Step::Back { nanoseconds }),
        1 => (0..20_u32).prop_map(|visitor| Step::Forget { visitor }),
        1 => Just(Step::ResetHost),
        1 => (0..20_u32).prop_map(|visitor| Step::NearWrap { visitor }),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn visits_raise_no_alert_whatever_happens_to_clocks_and_counters(steps in steps()) {
        let mut scene = Scene::new();
        for step in steps {
            match step {
                Step::Visit { visitor, connections } => {
                    scene.connections(client(visitor), connections, 443);
                }
                Step::Pass { nanoseconds } => {
                    scene.now += nanoseconds;
                    scene.look();
                }
                Step::Back { nanoseconds } => {
                    scene.now = scene.now.saturating_sub(nanoseconds).max(START / 2);
                    scene.look();
                }
                Step::Forget { visitor } => {
                    scene.sources.remove(&client(visitor));
                }
                Step::ResetHost => scene.host = HostCounts::default(),
                Step::NearWrap { visitor } => {
                    // As if the source had been there for long: entered anew would count from zero.
                    if let Some(sample) = scene.sources.get_mut(&client(visitor)) {
                        sample.counters.syns = u32::MAX - 2;
                        sample.counters.packets += u64::from(u32::MAX);
                        sample.last_seen = scene.now;
                        let snapshot = Snapshot {
                            time: scene.now,
                            host: scene.host,
                            sources: scene.sources.values().copied().collect(),
                        };
                        scene.detector = Detector::new(Config::default());
                        scene.detector.tick(&snapshot);
                    }
                }
            }
        }
        prop_assert_eq!(scene.fired(), []);
    }

    #[test]
    fn no_snapshot_makes_it_panic(
        snapshots in proptest::collection::vec(
            (any::<Time>(), any::<[u64; 16]>(), any::<u64>(), proptest::collection::vec(
                (0..4_u32, any::<u64>(), any::<[u32; 4]>(), any::<[u64; 2]>(), any::<Time>()), 0..4,
            )),
            0..20,
        ),
    ) {
        let mut detector = Detector::new(Config::default());
        for (time, kinds, packets, sources) in snapshots {
            let mut host = HostCounts { packets, ..HostCounts::default() };
            host.kinds.copy_from_slice(&kinds);
            let sources = sources
                .into_iter()
                .map(|(source, packets, [syns, requests, failed, first_seen], [ports, hosts], last_seen)| {
                    SourceSample {
                        source: client(source),
                        counters: SourceCounters {
                            packets, syns, requests, failed, first_seen, ports, hosts,
                            ..SourceCounters::default()
                        },
                        last_seen,
                    }
                })
                .collect();
            let changes = detector.tick(&Snapshot { time, host, sources });
            for change in changes {
                prop_assert!(change.alert().observed.is_finite());
            }
        }
    }
}
