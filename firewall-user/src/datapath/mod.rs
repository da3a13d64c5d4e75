//! Loads, attaches, swaps and reads the kernel programs. Knows nothing of anomalies.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use firewall_common::layout::{Counter, Event, Health};
use firewall_common::{Direction, Reason, Verdict};
use ipnet::IpNet;

use crate::detect::{HostCounts, SourceSample};
use crate::policy::Policy;

/// Where and how to attach.
#[derive(Clone, Debug)]
pub struct DatapathSettings {
    pub interfaces: Vec<InterfaceSettings>,
    /// Folder on a BPF file system for links and maps.
    pub pin_dir: PathBuf,
    /// Folder for the registry that gives each rule name its counter.
    pub state_dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSettings {
    pub name: String,
    pub mode: AttachMode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// Native where the driver can, generic otherwise.
    #[default]
    Auto,
    Native,
    Generic,
}

/// One interface as it is protected now.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub interface: String,
    pub index: u32,
    /// `Native` or `Generic`.
    pub mode: AttachMode,
    /// Why native mode was not taken, if it was tried and refused.
    pub fallback: Option<String>,
    /// How egress is attached: `"tcx"` or `"clsact"`.
    pub egress: &'static str,
    /// Whether it was taken over from an earlier daemon rather than attached anew.
    pub taken_over: bool,
}

/// Packets and bytes for one (interface, direction, verdict, reason).
#[derive(Clone, Debug)]
pub struct Total {
    pub interface: String,
    pub direction: Direction,
    pub verdict: Verdict,
    pub reason: Reason,
    pub counter: Counter,
}

/// Hits of one rule, built-in ones (`link:arp` ...) included.
#[derive(Clone, Debug)]
pub struct RuleHits {
    pub rule: String,
    pub counter: Counter,
}

/// A ban in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveBan {
    pub prefix: IpNet,
    /// How long it still lasts; `None` is without end.
    pub remaining: Option<Duration>,
}

/// Fill of one map.
#[derive(Clone, Debug)]
pub struct MapUse {
    pub map: &'static str,
    pub entries: u64,
    pub capacity: u64,
}

/// A policy that was put in force.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Counts up with each policy, across restarts of the daemon.
    pub generation: u64,
    /// Time spent compiling, loading and swapping.
    pub compile: Duration,
    pub load: Duration,
    pub swap: Duration,
}

/// The fence itself. Dropping it leaves everything attached: links and maps are pinned.
#[derive(Debug)]
pub struct Datapath {}

#[expect(unused_variables, clippy::unimplemented, reason = "signatures first")]
impl Datapath {
    /// Opens or creates the pinned state and attaches `policy` to every interface, taking over what
    /// an earlier daemon left.
    pub fn start(settings: DatapathSettings, policy: &Policy) -> anyhow::Result<(Self, Applied)> {
        unimplemented!()
    }

    /// Swaps in a new policy on all interfaces, atomically per packet.
    pub fn apply(&mut self, policy: &Policy) -> anyhow::Result<Applied> {
        unimplemented!()
    }

    /// Takes the fence down from one interface, or all.
    pub fn detach(&mut self, interface: Option<&str>) -> anyhow::Result<Vec<String>> {
        unimplemented!()
    }

    pub fn attachments(&self) -> &[Attachment] {
        unimplemented!()
    }

    pub fn generation(&self) -> u64 {
        unimplemented!()
    }

    /// Bans a prefix for `duration`; `None` is without end. Replaces the ban of the same prefix.
    pub fn ban(&self, prefix: IpNet, duration: Option<Duration>) -> anyhow::Result<()> {
        unimplemented!()
    }

    /// Lifts a ban; whether there was one.
    pub fn unban(&self, prefix: IpNet) -> anyhow::Result<bool> {
        unimplemented!()
    }

    /// Bans in force; removes those that have ended.
    pub fn bans(&self) -> anyhow::Result<Vec<ActiveBan>> {
        unimplemented!()
    }

    pub fn totals(&self) -> anyhow::Result<Vec<Total>> {
        unimplemented!()
    }

    pub fn rule_hits(&self) -> anyhow::Result<Vec<RuleHits>> {
        unimplemented!()
    }

    pub fn host_counts(&self) -> anyhow::Result<HostCounts> {
        unimplemented!()
    }

    /// Every source in the table. With `clear_bitmaps` (the detector's tick) the bitmaps start anew.
    pub fn sources(&self, clear_bitmaps: bool) -> anyhow::Result<Vec<SourceSample>> {
        unimplemented!()
    }

    pub fn health(&self) -> anyhow::Result<Health> {
        unimplemented!()
    }

    pub fn map_use(&self) -> anyhow::Result<Vec<MapUse>> {
        unimplemented!()
    }

    /// Takes the event stream; `None` if it was taken already.
    pub fn take_events(&mut self) -> Option<Events> {
        unimplemented!()
    }

    /// The rule name of an event's or connection's counter.
    pub fn rule_name(&self, counter: u32) -> Option<String> {
        unimplemented!()
    }

    /// The interface name of a slot.
    pub fn interface_name(&self, slot: u32) -> Option<String> {
        unimplemented!()
    }

    /// Whether `address` is banned now, and by which prefix.
    pub fn banned_by(&self, address: IpAddr) -> anyhow::Result<Option<ActiveBan>> {
        unimplemented!()
    }
}

/// The stream of sampled packets.
#[derive(Debug)]
pub struct Events {}

#[expect(clippy::unimplemented, reason = "signatures first")]
impl Events {
    /// Waits for the next sampled packet.
    pub async fn next(&mut self) -> anyhow::Result<Event> {
        unimplemented!()
    }
}
