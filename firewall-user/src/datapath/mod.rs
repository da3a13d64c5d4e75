//! Loads, attaches, swaps and reads the kernel programs. Knows nothing of anomalies.

mod attach;
mod bans;
pub mod clock;
mod cookies;
mod driver_counts;
mod events;
mod fence;
mod ground;
mod held;
mod interface;
mod limits;
mod maps;
mod object;
mod pins;
mod removal;
mod rule_counts;
mod signatures;
mod sources;
mod standing;
mod state;
mod swap;
mod sys;
mod test_run;
mod ticks;
#[cfg(feature = "trace")]
mod trace;
mod trial;
mod waiting;

use std::path::PathBuf;
use std::time::Duration;

use firewall_common::layout::{Counter, SOURCE_BUCKETS, SOURCE_WAYS};
use firewall_common::{Direction, Reason, Verdict};
use ipnet::IpNet;

use crate::policy::Compiled;

pub use bans::BanTable;
pub use cookies::{Ports, unsupported as cookies_unsupported};
pub use fence::Datapath;
pub use ground::Ground;
pub(crate) use interface::Query;
pub use interface::others;
pub(crate) use pins::is_bpf_filesystem;
pub use signatures::SignatureSlots;
pub use standing::Standing;
pub use test_run::{Cannot, TestRun};
pub use trial::{Failed, Resumed, TrialView};
pub use waiting::Waiting;

/// Where and how to attach.
#[derive(Clone, Debug)]
pub struct DatapathSettings {
    pub interfaces: Vec<InterfaceSettings>,
    /// Folder on a BPF file system for links and maps.
    pub pin_dir: PathBuf,
    /// Folder for the registry that gives each rule name its counter.
    pub state_dir: PathBuf,
    /// SYN cookies may be sent, where the kernel can make them.
    pub cookies: bool,
    /// Whether signatures of floods may be put in force; the programs look for none otherwise.
    pub signatures: bool,
    /// Places for sources on each CPU; rounded up to a power of two.
    pub kernel_sources: u32,
}

/// Places for sources on each CPU, unless the settings say otherwise: 10 MiB of memory.
pub const KERNEL_SOURCES: u32 = SOURCE_BUCKETS * SOURCE_WAYS as u32;

impl DatapathSettings {
    fn source_size(&self) -> object::SourceSize {
        object::SourceSize::of(self.kernel_sources)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSettings {
    pub name: String,
    pub mode: AttachMode,
    pub egress: Egress,
}

/// How the egress program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    /// tcx where the kernel has it (6.6), clsact otherwise.
    #[default]
    Auto,
    Tcx,
    Clsact,
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

impl Attachment {
    fn new(interface: &str, index: u32, attached: &state::Attached, taken_over: bool) -> Self {
        Self {
            interface: interface.to_owned(),
            index,
            mode: attached.mode(),
            fallback: attached.fallback.clone(),
            egress: if attached.clsact.is_some() {
                "clsact"
            } else {
                "tcx"
            },
            taken_over,
        }
    }
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
    /// What was over the rule's limit.
    pub limited: Counter,
}

/// A ban in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveBan {
    pub prefix: IpNet,
    /// How long it still lasts; `None` is without end.
    pub remaining: Option<Duration>,
    /// It is not banned but held to the automatic limit.
    pub limited: bool,
}

/// Fill of one map.
#[derive(Clone, Debug)]
pub struct MapUse {
    pub map: &'static str,
    pub entries: u64,
    pub capacity: u64,
}

/// A policy that was compiled for this fence.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub compiled: Compiled,
    /// How long that took.
    pub took: Duration,
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
    /// The pinned state had gone and was made anew: it holds no bans.
    pub anew: bool,
}
