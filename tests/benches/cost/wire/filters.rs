//! The filters that stand at a wire's end, each with a way to see how much it dropped.

use std::any::Any;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use firewall_common::{Direction, Reason, Verdict};
use palisade_tests::topology::EDGE;
use palisade_tests::{need_tools, tools};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};

use super::Wire;
use super::peers::{self, Form, Listed};
use crate::kernel::{self, Hook};
use crate::load::Fence;
use crate::policies::{self, Families};
use crate::prologue;
use crate::xdp_filter::XdpFilter;

/// What stands at the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No filter.
    Nothing,
    /// An XDP program that drops.
    Empty,
    XdpFilter,
    Palisade,
    Nftables(Form),
    Iptables,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no filter",
            Self::Empty => "empty XDP drop",
            Self::XdpFilter => "xdp-filter",
            Self::Palisade => "Palisade",
            Self::Nftables(Form::Maps) => "nftables, sets and maps",
            Self::Nftables(Form::Plain) => "nftables, plain rules",
            Self::Iptables => "iptables raw, ipset",
        }
    }
}

/// A policy: so many rules behind a set. What matches none of them is dropped.
#[derive(Clone, Debug)]
pub struct Meaning {
    pub rules: usize,
    pub listed: Listed,
}

/// A filter in place. Its wire goes last.
pub struct Filter {
    pub kind: Kind,
    fence: Option<Fence>,
    /// What holds up another filter; nftables and iptables go with their namespace.
    _kept: Option<Box<dyn Any>>,
    pub wire: Wire,
}

impl Filter {
    /// Puts a policy in force in the way of `kind` on a wire of its own.
    pub fn stand(kind: Kind, meaning: &Meaning, folder: &Path, queues: u32) -> Result<Self> {
        let wire = Wire::new("filter", queues)?;
        let (mut fence, mut kept) = (None, None::<Box<dyn Any>>);
        match kind {
            Kind::Nothing => {}
            Kind::Empty => {
                let link = wire.inside.inside(|| {
                    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
                    let empty = prologue::empty(Hook::XdpFrags)?;
                    kernel::attach(empty.as_fd(), name_to_index(&socket, EDGE)?)
                })?;
                kept = Some(Box::new(link));
            }
            Kind::XdpFilter => {
                need_tools(&["xdp-filter", "unshare"])?;
                kept = Some(Box::new(XdpFilter::load_on(&wire.inside, EDGE)?));
            }
            Kind::Palisade => {
                let text = palisade(meaning, folder)?;
                fence = Some(wire.inside.inside(move || Fence::start(&text))?);
            }
            Kind::Nftables(form) => {
                need_tools(&["nft"])?;
                let text = peers::nftables(EDGE, meaning.rules, &meaning.listed, form);
                restore(&wire, folder, "nft", "nft -f", &text)?;
            }
            Kind::Iptables => {
                need_tools(&["iptables", "ipset"])?;
                if let Some(text) = peers::ipset(&meaning.listed) {
                    restore(&wire, folder, "ipset", "ipset restore -file", &text)?;
                }
                let text = peers::iptables(meaning.rules, &meaning.listed);
                let command = format!("{}-restore", iptables());
                restore(&wire, folder, "iptables", &command, &text)?;
            }
        }
        Ok(Self {
            kind,
            fence,
            _kept: kept,
            wire,
        })
    }

    /// Frames that it dropped so far because no rule matched.
    pub fn dropped(&self) -> Result<u64> {
        let inside = &self.wire.inside;
        let packets = match (&self.fence, self.kind) {
            (Some(fence), _) => fence
                .datapath
                .totals()?
                .iter()
                .filter(|total| {
                    total.direction == Direction::Inbound
                        && total.verdict == Verdict::Drop
                        && total.reason == Reason::Default
                })
                .map(|total| total.counter.packets)
                .sum(),
            (_, Kind::Nftables(_)) => {
                let text = inside.run("nft list chain netdev bench in")?;
                let last = text.rsplit("packets ").next().unwrap_or_default();
                number(last).context("no counter in the ruleset")?
            }
            (_, Kind::Iptables) => {
                let command = iptables();
                let text = inside.run(&format!("{command} -t raw -L PREROUTING -v -n -x"))?;
                let last = text.lines().rfind(|line| !line.trim().is_empty());
                number(last.unwrap_or_default()).context("no counter in the rules")?
            }
            // What an XDP program drops is counted by the device.
            _ => {
                let text = inside.run(&format!("ethtool -S {EDGE}"))?;
                let drops = text
                    .lines()
                    .filter_map(|line| line.split_once("xdp_drops:"));
                drops.filter_map(|(_, count)| number(count)).sum()
            }
        };
        Ok(packets)
    }
}

/// The policy in Palisade's language.
pub fn palisade(meaning: &Meaning, folder: &Path) -> Result<String> {
    let items = meaning.listed.items();
    let first = match items {
        [] => String::new(),
        items => {
            let file = crate::data::list_file(folder, &format!("wire-{}", items.len()), items)?;
            policies::blocklist(&file)
        }
    };
    Ok(policies::of_rules(meaning.rules, Families::V4, &first))
}

/// The older implementation where it is there: it is the one that people's raw tables stand on, and
/// the faster one.
pub fn iptables() -> &'static str {
    match tools::find("iptables-legacy-restore") {
        Some(_) => "iptables-legacy",
        None => "iptables",
    }
}

/// Gives a tool a file of what it is to put in place.
fn restore(wire: &Wire, folder: &Path, name: &str, command: &str, text: &str) -> Result<()> {
    let file = folder.join(format!("{name}.rules"));
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    wire.inside.run(&format!("{command} {}", file.display()))?;
    Ok(())
}

fn number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}
