//! What watching costs: the daemon's processor time, memory and rounds while it tracks a million sources.
//!
//! The daemon is the one of service, on a veth. Frames of somewhat more than a million sources (IPv6 /64s) fill the table of
//! every CPU, as a few find their bucket taken; then conversations with sources drawn at random among them go to each service.

use std::fs;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use firewall_common::packet::flag;
use firewall_user::packet_build::PacketBuilder;
use palisade_tests::Daemon;
use palisade_tests::daemon::{Mode, metric};
use palisade_tests::frames::FrameSocket;
use palisade_tests::namespace::join;
use palisade_tests::topology::{EDGE, WIRE};
use serde::Serialize;

use crate::policies::{CLIENT_PORT, HOST_V6};
use crate::wire::Wire;

/// The daemon under one load; seconds and bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Watching {
    /// Places for sources on each CPU.
    pub places: u32,
    pub services: usize,
    /// That the table held at the end.
    pub sources: u64,
    pub packets_per_second: f64,
    /// Of one processor.
    pub processor_share: f64,
    /// Memory of its own, which the maps are not.
    pub memory: u64,
    /// Of the two maps that hold the sources.
    pub table: u64,
    /// At most, in half of the rounds, in 99 % of them and in all.
    pub round: [f64; 3],
    /// The look at all sources, likewise.
    pub look: [f64; 3],
    /// That fired meanwhile; none should.
    pub alerts: u64,
}

/// Sources that are to be tracked, ...
pub const SOURCES: u32 = 1_000_000;
/// ... and so many send: buckets of four fill by chance.
const SENDERS: u32 = 1_150_000;
/// Frames a second to each service.
pub const RATE: u32 = 10_000;
/// Places on each CPU and services, one load after the other.
const LOADS: [(u32, usize); 5] = [
    (1 << 17, 1),
    (1 << 19, 1),
    (1 << 19, 4),
    (1 << 20, 1),
    (1 << 20, 4),
];
/// The daemon tells its rounds of the last minute: only those with the load are asked for.
const TIME: Duration = Duration::from_secs(62);
const QUICK_TIME: Duration = Duration::from_secs(10);
/// Between the two.
const PAUSE: Duration = Duration::from_secs(5);
/// How often senders look at the clock.
const BEAT: Duration = Duration::from_millis(5);

/// Each load in turn. What cannot be measured is added to what is `missing`.
pub fn measure(cpus: usize, quick: bool, missing: &mut Vec<String>) -> Result<Vec<Watching>> {
    let time = if quick { QUICK_TIME } else { TIME };
    let mut measured = Vec::new();
    for (places, services) in LOADS {
        match watch(places, services, cpus, time) {
            Ok(watching) => measured.push(watching),
            Err(error) => missing.push(format!(
                "the daemon with {places} places for sources: {error:#}"
            )),
        }
    }
    Ok(measured)
}

fn watch(places: u32, services: usize, cpus: usize, time: Duration) -> Result<Watching> {
    let wire = Wire::new("watched", cpus as u32)?;
    wire.inside.run("ip link set lo up")?;
    let mut daemon = Daemon::prepare(&wire.inside, &policy(services), EDGE, Mode::Native)?;
    daemon.write_settings(
        &format!("interfaces = [{{ name = \"{EDGE}\", mode = \"native\" }}]"),
        &format!("[detect]\nkernel_sources = {places}\n"),
    )?;
    daemon.launch()?;
    let process = daemon.process()?.id();
    send(&wire, cpus, move |sender, socket| {
        let opening = Frames::new(0)?;
        let share = SENDERS.div_ceil(cpus as u32);
        for source in sender * share..SENDERS.min((sender + 1) * share) {
            // No SYN: so many of them, unanswered, would be a flood.
            socket.send(&opening.of(source, CLIENT_PORT)[1])?;
        }
        Ok(())
    })?;
    // Until what came at once is out of the window over which rates are taken.
    std::thread::sleep(PAUSE);
    let alerts = |scrape: &str| metric(scrape, "palisade_alerts_total", &[]) as u64;
    let alerts_before = alerts(&daemon.scrape()?);
    let before = processor_time(process)?;
    let started = Instant::now();
    let sent = Arc::new(AtomicU64::new(0));
    let senders = cpus.min(2);
    let count = Arc::clone(&sent);
    send(&wire, senders, move |sender, socket| {
        let frames = (0..services).map(Frames::new).collect::<Result<Vec<_>>>()?;
        converse(sender, senders, &frames, socket, time, &count)
    })?;
    let elapsed = started.elapsed().as_secs_f64();
    let processor_share = (processor_time(process)? - before) / elapsed;
    let memory = anonymous_memory(process)?;
    let scrape = daemon.scrape()?;
    let quantiles = |family| {
        ["0.5", "0.99", "1"].map(|share| metric(&scrape, family, &[&format!("share=\"{share}\"")]))
    };
    let watching = Watching {
        places,
        services,
        sources: metric(&scrape, "palisade_sources_tracked", &[]) as u64,
        packets_per_second: sent.load(Ordering::Relaxed) as f64 / elapsed,
        processor_share,
        memory,
        table: u64::from(places) * 80 * cpus as u64,
        round: quantiles("palisade_tick_seconds"),
        look: quantiles("palisade_snapshot_seconds"),
        alerts: alerts(&scrape).saturating_sub(alerts_before),
    };
    daemon.stop()?;
    Ok(watching)
}

fn policy(services: usize) -> String {
    let services = (0..services).map(|service| {
        format!(
            "[[rule]]\nname = \"service-{service}\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = {}\n",
            port(service)
        )
    });
    let rules: String = services.collect();
    format!("version = 1\n[defaults]\ninbound = \"drop\"\n{rules}")
}

fn port(service: usize) -> u16 {
    8_000 + service as u16
}

/// One sender on each of the first CPUs.
fn send(
    wire: &Wire,
    senders: usize,
    each: impl Fn(u32, &FrameSocket) -> Result<()> + Clone + Send + 'static,
) -> Result<()> {
    let threads = (0..senders as u32).map(|sender| {
        let each = each.clone();
        wire.outside.thread(move || {
            let mut set = rustix::thread::CpuSet::new();
            set.set(sender as usize);
            rustix::thread::sched_setaffinity(None, &set).context("binding a sender")?;
            each(sender, &FrameSocket::open(WIRE)?)
        })
    });
    let threads = threads.collect::<Result<Vec<_>>>()?;
    threads.into_iter().try_for_each(join)
}

/// Conversations of four frames with every service in turn, at this sender's share of the rate.
fn converse(
    sender: u32,
    senders: usize,
    services: &[Frames],
    socket: &FrameSocket,
    time: Duration,
    sent: &AtomicU64,
) -> Result<()> {
    let rate = f64::from(RATE) * services.len() as f64 / senders as f64;
    let started = Instant::now();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(u64::from(sender) + 1);
    let (mut count, mut service) = (0_u64, 0);
    while started.elapsed() < time {
        let due = (started.elapsed().as_secs_f64() * rate) as u64;
        while count < due {
            // xorshift64 (Marsaglia, Journal of Statistical Software, 2003).
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let source = (random >> 32) as u32 % SENDERS;
            service = (service + 1) % services.len();
            for frame in services[service].of(source, 1_024 + (random as u16 >> 1)) {
                socket.send(&frame)?;
                count += 1;
            }
        }
        std::thread::sleep(BEAT);
    }
    sent.fetch_add(count, Ordering::Relaxed);
    Ok(())
}

/// The frames of one client's conversation with a service.
#[derive(Clone)]
struct Frames([Vec<u8>; 4]);

const EDGE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SOURCE_AT: usize = 14 + 8;
const PORT_AT: usize = 14 + 40;

impl Frames {
    fn new(service: usize) -> Result<Self> {
        let client = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        let frame = |flags, payload: &[u8]| -> Result<Vec<u8>> {
            let builder = PacketBuilder::new(client.into(), HOST_V6.into());
            let builder = builder.context("addresses of two families")?;
            let builder = builder.tcp(CLIENT_PORT, port(service), flags);
            let mut frame = builder.payload(payload).build();
            frame[..6].copy_from_slice(&EDGE_MAC);
            Ok(frame)
        };
        Ok(Self([
            frame(flag::SYN, &[])?,
            frame(flag::ACK, &[])?,
            frame(
                flag::ACK | flag::PSH,
                b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n",
            )?,
            frame(flag::ACK | flag::FIN, &[])?,
        ]))
    }

    fn of(&self, source: u32, port: u16) -> [Vec<u8>; 4] {
        let mut frames = self.0.clone();
        for frame in &mut frames {
            frame[SOURCE_AT + 4..SOURCE_AT + 8].copy_from_slice(&source.to_be_bytes());
            frame[PORT_AT..PORT_AT + 2].copy_from_slice(&port.to_be_bytes());
        }
        frames
    }
}

/// Seconds of processor time that a process has used.
fn processor_time(process: u32) -> Result<f64> {
    let file = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&file).context(file)?;
    // Behind the name, which may hold anything.
    let (_, fields) = text.rsplit_once(')').context("a process without a name")?;
    let ticks: Vec<u64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    // USER_HZ, the same on all that Palisade runs on.
    Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
}

/// Bytes of memory that are the process's own.
fn anonymous_memory(process: u32) -> Result<u64> {
    let file = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(&file).context(file)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kibibytes.context("the kernel does not tell anonymous memory")? * 1024)
}
