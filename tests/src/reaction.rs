//! How long it takes from the first packet of a flood to the first that is dropped for its signature,
//! while visitors go on.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::frames::{FrameSocket, checksum, ethernet};
use crate::namespace::join;
use crate::stretched;
use crate::topology::{EDGE, INSIDE, INSIDE_V4, Topology, WIRE};

/// Where the visitors go, and the floods of SYNs.
pub const SHOP_PORT: u16 = 80;
/// Where the floods of datagrams go.
pub const STREAM_PORT: u16 = 5_000;
/// So many visits make a sample of ordinary packets that can vouch for 2 %.
const VISITS: u32 = 200;
/// What came lately is not taken for ordinary yet.
const LATELY: Duration = Duration::from_secs(6);
const BETWEEN_VISITS: Duration = Duration::from_millis(10);

/// Visitors of the shop, one after the other.
#[derive(Debug)]
pub struct Visitors {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<(Instant, bool)>>>,
}

impl Visitors {
    /// Starts visiting, and returns once enough was seen to know what is ordinary.
    pub fn of_ordinary_days(world: &Topology) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = world.outside.thread(move || {
            let mut visits = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let to = INSIDE[visits.len() % INSIDE.len()];
                visits.push((Instant::now(), visit(to).is_ok()));
                std::thread::sleep(BETWEEN_VISITS);
            }
            Ok(visits)
        })?;
        // A visit takes a moment besides.
        std::thread::sleep(stretched(BETWEEN_VISITS * 2 * VISITS + LATELY));
        Ok(Self { stop, thread })
    }

    /// When each visit began, and whether it was served.
    pub fn end(self) -> Result<Vec<(Instant, bool)>> {
        self.stop.store(true, Ordering::Relaxed);
        join(self.thread)
    }
}

/// The share of visits that began between two moments and were served.
pub fn served(visits: &[(Instant, bool)], from: Instant, to: Instant) -> f64 {
    let within: Vec<bool> = visits
        .iter()
        .filter(|(began, _)| (from..to).contains(began))
        .map(|(_, served)| *served)
        .collect();
    within.iter().filter(|served| **served).count() as f64 / within.len() as f64
}

fn visit(to: IpAddr) -> Result<()> {
    let patience = stretched(Duration::from_secs(2));
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, SHOP_PORT), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    ensure!(page.ends_with("shop"), "{page}");
    Ok(())
}

/// A flood from forged sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// SYNs without options, as flooding tools send them.
    Syns,
    /// Datagrams of one length.
    Datagrams,
}

impl Flood {
    pub fn name(self) -> &'static str {
        match self {
            Self::Syns => "SYNs",
            Self::Datagrams => "datagrams",
        }
    }

    /// Sends so many a second for a time; when it began, and how many were sent.
    pub fn start(
        self,
        world: &Topology,
        rate: u64,
        time: Duration,
    ) -> Result<JoinHandle<Result<(Instant, u64)>>> {
        // Made beforehand: making them would take longer than sending.
        let to = hardware_address(world)?;
        let frames = (0..FRAMES).map(|number| self.frame(number, to));
        let frames: Vec<_> = frames.collect();
        world.outside.thread(move || {
            let socket = FrameSocket::open(WIRE)?;
            let start = Instant::now();
            let mut sent = 0_u64;
            while start.elapsed() < time {
                let due = start.elapsed().as_micros() as u64 * rate / 1_000_000;
                while sent <= due {
                    socket.send(&frames[(sent % FRAMES) as usize])?;
                    sent += 1;
                    // A sender that cannot keep up ends in time all the same.
                    if sent.is_multiple_of(256) && start.elapsed() >= time {
                        break;
                    }
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok((start, sent))
        })
    }

    fn frame(self, number: u64, to: [u8; 6]) -> Vec<u8> {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let last = (mixed % 250) as u8 + 1;
        let source = if mixed & 0x100 == 0 {
            Ipv4Addr::new(203, 0, 113, last)
        } else {
            Ipv4Addr::new(198, 51, 100, last / 2 + 100)
        };
        let port = (mixed >> 8) as u16 | 1_024;
        let (protocol, segment) = match self {
            Self::Syns => (TCP, syn(port, source)),
            Self::Datagrams => (UDP, datagram(port, mixed)),
        };
        let ttl = 30 + (mixed >> 4) as u8 % 200;
        let length = (IP_HEADER + segment.len()) as u16;
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0, 0, 0x40, 0, ttl, protocol, 0, 0]);
        packet.extend(source.octets());
        packet.extend(INSIDE_V4.octets());
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(segment);
        ethernet(to, [2, 0, 0, 0, 0, 9], IPV4, &packet)
    }
}

const IPV4: u16 = 0x0800;
const IP_HEADER: usize = 20;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A SYN as flooding tools send it: without options, with a small window.
fn syn(port: u16, source: Ipv4Addr) -> Vec<u8> {
    const LENGTH: u16 = 20;
    let mut segment = Vec::new();
    segment.extend(port.to_be_bytes());
    segment.extend(SHOP_PORT.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 2, 0, 0, 0, 0, 0]);
    let mut pseudo = Vec::new();
    pseudo.extend(source.octets());
    pseudo.extend(INSIDE_V4.octets());
    pseudo.extend([0, TCP]);
    pseudo.extend(LENGTH.to_be_bytes());
    pseudo.extend(&segment);
    segment[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    segment
}

/// A datagram of a fixed length, without a checksum.
fn datagram(port: u16, number: u64) -> Vec<u8> {
    const LENGTH: u16 = 8 + 96;
    let mut segment = Vec::new();
    for half in [port, STREAM_PORT, LENGTH, 0] {
        segment.extend(half.to_be_bytes());
    }
    segment.extend(number.to_be_bytes().repeat(12));
    segment
}

/// Frames of a flood that differ.
const FRAMES: u64 = 8_192;

fn hardware_address(world: &Topology) -> Result<[u8; 6]> {
    let link = world.inside.run(&format!("ip -json link show {EDGE}"))?;
    let link: Value = serde_json::from_str(&link)?;
    let text = link[0]["address"].as_str().context("no address")?;
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("{text}"))
}

/// Waits for the first packet that a signature drops, asking the daemon without a process between.
pub fn first_drop(socket: PathBuf, patience: Duration) -> JoinHandle<Result<Instant>> {
    std::thread::spawn(move || {
        let start = Instant::now();
        while start.elapsed() < patience {
            let dropped = dropped(&socket)?;
            let now = Instant::now();
            if dropped > 0 {
                return Ok(now);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("no packet was dropped by a signature within {patience:?}")
    })
}

/// What the signatures in force have dropped.
fn dropped(socket: &PathBuf) -> Result<u64> {
    let mut stream = UnixStream::connect(socket)?;
    stream
        .write_all(b"GET /v1/signatures HTTP/1.1\r\nHost: palisade\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let body: Value = serde_json::from_str(body)?;
    let signatures = body["signatures"].as_array().context("no signatures")?;
    let packets = signatures.iter().filter_map(|one| one["packets"].as_u64());
    Ok(packets.sum())
}

/// The settings' tables of a daemon that puts signatures in force.
pub fn tables(signature: &str) -> String {
    format!(
        "[detect]\nquiet = \"2s\"\nhost = {{ udp = 2000 }}\n\n[respond]\nsignature = \"{signature}\"\nsignature_collateral = 0.02\n"
    )
}
