//! A live daemon that knows from days before what is usual: when real visitors rush in it says so, and when
//! they stay away, too.
//!
//! The days before are learned through the detector itself, from a series of counts, and handed to the daemon as what
//! one before it has kept.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use firewall_user::detect::{Config, Detector, HostCounts, ServiceCounts, Snapshot};
use palisade_tests::daemon::{Mode, metric};
use palisade_tests::namespace::join;
use palisade_tests::policies::SHOP;
use palisade_tests::process::wait_until;
use palisade_tests::topology::{EDGE, INSIDE};
use palisade_tests::{Daemon, Topology, servers, skip_unless_root};
use serde_json::Value;

/// Rates are learned by spans of this length, so that a loss is told within half a minute.
const SPAN: Duration = Duration::from_secs(5);
/// What is usual: visits a second, each of so many packets and bytes.
const VISITS: u64 = 10;
const PACKETS: u64 = 6;
const BYTES: u64 = 420;
/// A loss takes two days to be known, and some spans in which visitors came.
const KNOWN: Duration = Duration::from_secs(52 * 3_600);
const PRESENT: Duration = Duration::from_secs(40);
const PATIENCE: Duration = Duration::from_secs(120);

const SETTINGS: &str = "[detect]\nlearn_span = \"5s\"\n";

/// Two days of a shop, as the counts of the host and of its only service.
fn days_before() -> Result<Vec<u8>> {
    let config = Config {
        learn_span: SPAN,
        ..Config::default()
    };
    let mut detector = Detector::new(config);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let begin = now - KNOWN;
    for span in 0..KNOWN.as_secs() / SPAN.as_secs() {
        // A little more and less, as visitors come.
        let jitter = span.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62;
        let visits = span * SPAN.as_secs() * VISITS + jitter;
        let service = ServiceCounts {
            name: "shop".to_owned(),
            rule: 100,
            packets: visits * PACKETS,
            bytes: visits * BYTES,
            connections: visits,
            requests: visits,
        };
        let mut host = HostCounts {
            packets: visits * PACKETS,
            bytes: visits * BYTES,
            ..HostCounts::default()
        };
        for kind in [
            firewall_common::layout::TrafficKind::Syn,
            firewall_common::layout::TrafficKind::Request,
        ] {
            host.kinds[kind as usize] = visits;
        }
        let time = begin + SPAN * span as u32;
        detector.tick(&Snapshot {
            time: time.as_nanos() as u64,
            clock: (SPAN * span as u32).as_millis() as u64,
            host,
            services: vec![service],
            ..Snapshot::default()
        });
    }
    Ok(serde_json::to_vec(&detector.kept_ranges())?)
}

/// Visitors of the shop, at a rate that can be changed.
struct Visitors {
    rate: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

const THREADS: u64 = 4;
const END: u64 = u64::MAX;

impl Visitors {
    fn start(world: &Topology) -> Result<Self> {
        let rate = Arc::new(AtomicU64::new(VISITS));
        let threads = (0..THREADS).map(|_| {
            let rate = Arc::clone(&rate);
            world.outside.thread(move || {
                loop {
                    let began = Instant::now();
                    let pause = match rate.load(Ordering::Relaxed) {
                        END => return Ok(()),
                        0 => Duration::from_millis(50),
                        rate => {
                            visit(INSIDE[0])?;
                            Duration::from_secs(THREADS) / rate as u32
                        }
                    };
                    std::thread::sleep(pause.saturating_sub(began.elapsed()));
                }
            })
        });
        Ok(Self {
            rate: Arc::clone(&rate),
            threads: threads.collect::<Result<_>>()?,
        })
    }

    fn come(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    fn end(self) -> Result<()> {
        self.come(END);
        self.threads.into_iter().try_for_each(join)
    }
}

fn visit(to: IpAddr) -> Result<()> {
    let mut stream = TcpStream::connect(SocketAddr::new(to, 80))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")?;
    stream.read_to_string(&mut String::new())?;
    Ok(())
}

fn alerts(daemon: &Daemon) -> Result<Vec<Value>> {
    let document = daemon.palisade(&["alerts"])?;
    let alerts = document["alerts"].as_array().context("no alerts")?;
    Ok(alerts.clone())
}

fn wait_for(daemon: &Daemon, kind: &str) -> Result<Value> {
    let mut found = None;
    wait_until(kind, PATIENCE, || {
        found = alerts(daemon)?.into_iter().find(|it| it["kind"] == kind);
        Ok(found.is_some())
    })
    .with_context(|| format!("{:#?}", alerts(daemon)))?;
    found.context("it was there")
}

#[test]
fn a_rush_and_a_silence_of_real_visitors_are_told_against_what_was_learned_in_days() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let mut daemon = Daemon::prepare(&world.inside, SHOP, EDGE, Mode::Auto)?;
    daemon.write_settings(&format!("interfaces = [\"{EDGE}\"]"), SETTINGS)?;
    fs::create_dir_all(daemon.state_dir())?;
    fs::write(daemon.state_dir().join("ranges.json"), days_before()?)?;
    daemon.launch()?;
    let visitors = Visitors::start(&world)?;
    std::thread::sleep(PRESENT);
    let before = alerts(&daemon)?;
    assert!(before.is_empty(), "usual visitors: {before:#?}");
    // What was expected stands beside what came, of the service and of the host.
    let scrape = daemon.scrape()?;
    for service in ["shop", "*"] {
        let of = [
            format!("service=\"{service}\""),
            "measure=\"connections\"".to_owned(),
        ];
        let of = of.each_ref().map(String::as_str);
        let [low, came, high] = ["expected_low", "observed", "expected_high"]
            .map(|what| metric(&scrape, &format!("palisade_baseline_{what}"), &of));
        assert!(
            came > 0.0 && low < high && high > VISITS as f64 / 2.0,
            "{service}: {low} {came} {high}\n{scrape}"
        );
    }
    visitors.come(40 * VISITS);
    let spike = wait_for(&daemon, "traffic_spike")?;
    assert_eq!(spike["subject"], "service:shop", "{spike:#}");
    visitors.come(0);
    let loss = wait_for(&daemon, "traffic_loss")?;
    assert_eq!(loss["subject"], "service:shop", "{loss:#}");
    assert!(loss["observed"].as_f64() < Some(1.0), "{loss:#}");
    visitors.end()?;
    daemon.stop()?;
    Ok(())
}
