//! Accidents of clocks and counters: none of them is an anomaly.

use firewall_common::layout::SourceCounters;
use proptest::prelude::*;

use super::scene::*;
use crate::detect::*;

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
                        scene.active.insert(client(visitor));
                        scene.entries += 1_000;
                        scene.detector = Detector::new(Config::default());
                        scene.detector.tick(&scene.snapshot());
                    }
                }
            }
        }
        prop_assert_eq!(scene.fired(), []);
    }

    #[test]
    fn no_snapshot_makes_it_panic(
        snapshots in proptest::collection::vec(
            (any::<[u64; 2]>(), any::<[u64; 16]>(), any::<u64>(), proptest::collection::vec(
                (0..4_u32, any::<u64>(), any::<[u32; 3]>(), any::<[u64; 2]>(), any::<[u64; 2]>()), 0..4,
            )),
            0..20,
        ),
    ) {
        let mut detector = Detector::new(Config::default());
        for ([time, clock], kinds, packets, sources) in snapshots {
            let mut host = HostCounts { packets, ..HostCounts::default() };
            host.kinds.copy_from_slice(&kinds);
            let sources = sources
                .into_iter()
                .map(|(source, packets, [syns, requests, failed], [ports, hosts], [entered, last_seen])| {
                    SourceSample {
                        source: client(source),
                        counters: SourceCounters {
                            packets, syns, requests, failed, ports, hosts,
                            ..SourceCounters::default()
                        },
                        entered,
                        last_seen,
                    }
                })
                .collect();
            let changes = detector.tick(&Snapshot {
                time,
                clock,
                host,
                sources,
                ..Snapshot::default()
            });
            for change in changes {
                prop_assert!(change.alert().observed.is_finite());
            }
        }
    }
}
