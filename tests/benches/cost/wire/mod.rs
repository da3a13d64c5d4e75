//! A veth pair between two namespaces, and a generator that fills it: what the kernel's test run
//! sends as live frames, the filter's end really receives.

pub mod contest;
pub mod filters;
mod generator;
pub mod goodput;
pub mod peers;

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use palisade_tests::Namespace;
use palisade_tests::topology::{EDGE, WIRE};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};

pub use contest::Throughput;
pub use generator::Generator;
pub use goodput::Goodput;

use crate::{kernel, prologue};

/// Where frames are sent to; the filter's end has it.
const MAC: &str = "02:00:00:00:00:02";

/// The wire. The filter stands on [`EDGE`], inside.
pub struct Wire {
    pub inside: Namespace,
    pub outside: Namespace,
    /// The outer interface's number.
    index: u32,
    /// Frames leave only by an interface that has a program itself.
    _pass: OwnedFd,
}

impl Wire {
    /// A wire with this many receive queues at each end.
    pub fn new(role: &str, queues: u32) -> Result<Self> {
        let inside = Namespace::create(role)?;
        let outside = Namespace::create("generator")?;
        // Nothing but the generator's frames.
        for namespace in [&inside, &outside] {
            namespace.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        }
        let ends = format!("numrxqueues {queues} numtxqueues {queues}");
        inside.run(&format!(
            "ip link add {EDGE} address {MAC} {ends} type veth peer name {WIRE} {ends} netns {}",
            outside.name()
        ))?;
        // Without it the end of a filter that is no XDP program would take no frames.
        inside.run(&format!("ethtool -K {EDGE} gro on"))?;
        if queues > 1 {
            inside.run(&format!("ethtool -L {EDGE} rx {queues} tx {queues}"))?;
            outside.run(&format!("ethtool -L {WIRE} rx {queues} tx {queues}"))?;
        }
        inside.run(&format!("ip link set {EDGE} up"))?;
        outside.run(&format!("ip link set {WIRE} up"))?;
        let (index, pass) = outside.inside(|| {
            let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
            let index = name_to_index(&socket, WIRE)?;
            Ok((index, kernel::attach(prologue::pass()?.as_fd(), index)?))
        })?;
        Ok(Self {
            inside,
            outside,
            index,
            _pass: pass,
        })
    }

    /// Frames that the filter's end has taken from the wire so far.
    pub fn received(&self) -> Result<u64> {
        let text = self.inside.run(&format!("ip -j -s link show dev {EDGE}"))?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        links[0]["stats64"]["rx"]["packets"]
            .as_u64()
            .with_context(|| format!("no statistics of {EDGE}: {links}"))
    }

    /// Frames that the generator has sent so far, whether or not the other end had room for them.
    pub fn sent(&self) -> Result<u64> {
        let text = self.outside.run(&format!("ethtool -S {WIRE}"))?;
        let counts = text.lines().filter_map(|line| {
            let (name, count) = line.split_once(':')?;
            let wanted = name.trim_end_matches("_errors").ends_with("xdp_xmit");
            count.trim().parse::<u64>().ok().filter(|_| wanted)
        });
        Ok(counts.sum())
    }
}
