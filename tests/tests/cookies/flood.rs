//! A flood of TCP packets from forged sources.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use firewall_user::packet_build::PacketBuilder;
use palisade_tests::frames::FrameSocket;
use palisade_tests::namespace::join;
use palisade_tests::storm::processors;
use palisade_tests::topology::{EDGE, INSIDE, WIRE};
use palisade_tests::{Namespace, Topology, stretched};
use serde_json::Value;

/// A flood from forged sources, to both addresses of the host, until it is dropped.
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Result<u64>>>,
}

/// Forged frames made beforehand; the senders go round in them.
const FORGED: usize = 1 << 15;

impl Flood {
    pub fn start(world: &Topology, port: u16, flags: u8) -> Result<Self> {
        let frames = forged(world, port, flags)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, outside) = (Arc::clone(&stop), world.outside.path());
        let processor = *processors()?.last().context("no processor")?;
        let namespace = std::fs::File::open(outside)?;
        let thread = std::thread::spawn(move || {
            use std::os::fd::AsFd;
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind))?;
            let mut set = rustix::thread::CpuSet::new();
            set.set(processor);
            rustix::thread::sched_setaffinity(None, &set)?;
            let socket = FrameSocket::open(WIRE)?;
            let started = Instant::now();
            let mut sent = 0_u64;
            // Bounded whatever happens to the test.
            while !stopped.load(Ordering::Relaxed) && started.elapsed() < stretched(LONGEST) {
                for _ in 0..BURST {
                    socket.send(&frames[sent as usize % FORGED])?;
                    sent += 1;
                }
                std::thread::sleep(PAUSE);
            }
            Ok(sent)
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends it; how many frames there were.
    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(0), join)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Frames sent at a time, and the pause between: some ten thousand a second. More than a fraction of the 256 that
/// a virtual wire holds at once would lose visitors' frames on the wire, whatever its end does with them.
const BURST: u32 = 32;
const PAUSE: Duration = Duration::from_millis(1);

const LONGEST: Duration = Duration::from_secs(90);

/// Segments without options, as hping3 sends them, one half of each family, each from another source.
fn forged(world: &Topology, port: u16, flags: u8) -> Result<Vec<Vec<u8>>> {
    let (to, from) = (
        hardware_address(&world.inside, EDGE)?,
        hardware_address(&world.outside, WIRE)?,
    );
    let forge = |number: u32| {
        let scattered = number.wrapping_mul(0x9e37_79b1);
        let source: IpAddr = if number.is_multiple_of(2) {
            Ipv4Addr::new(203, 0, 113, scattered as u8).into()
        } else {
            let subnet = (scattered >> 16) as u16;
            Ipv6Addr::new(0x2001, 0xdb8, 0xf, subnet, 0, 0, 0, number as u16).into()
        };
        let packet = PacketBuilder::new(source, INSIDE[number as usize % 2]);
        let source_port = 1_024 + (scattered >> 8) as u16 % 60_000;
        let mut frame = packet?.tcp(source_port, port, flags).build();
        frame[..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&from);
        Some(frame)
    };
    let frames: Option<Vec<_>> = (0..FORGED as u32).map(forge).collect();
    frames.context("two families")
}

fn hardware_address(namespace: &Namespace, interface: &str) -> Result<[u8; 6]> {
    let link = namespace.run(&format!("ip -json link show {interface}"))?;
    let link: Value = serde_json::from_str(&link)?;
    let text = link[0]["address"].as_str().context("no address")?;
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("{text}"))
}
