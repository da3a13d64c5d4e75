//! Which BPF programs stand on an interface, whoever put them there.

use anyhow::Context;
use aya::programs::{SchedClassifier, TcAttachType, loaded_programs};

use super::netlink::{Netlink, attribute, word};

/// A program on an interface.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Program {
    pub id: u32,
    /// As it calls itself, if that may be asked.
    pub name: Option<String>,
    /// `xdp native`, `xdp generic`, `xdp offloaded`, `tcx ingress`, `tc egress` and the like.
    pub hook: &'static str,
}

impl Program {
    /// Whether it is one of Palisade's, of any daemon.
    pub fn is_ours(&self) -> bool {
        self.name
            .as_deref()
            .is_some_and(|name| OURS.contains(&name))
    }
}

/// The programs of a policy, and the gates of a trial.
const OURS: [&str; 4] = ["palisade_in", "palisade_out", "trial_in", "trial_out"];

// linux/rtnetlink.h, linux/if_link.h, linux/pkt_cls.h.
const GET_LINK: u16 = 18;
const GET_FILTER: u16 = 46;
const LINK: usize = 16;
const FILTER: usize = 20;
const IFLA_XDP: u16 = 43;
const XDP_HOOKS: [(u16, &str); 3] = [(5, "xdp native"), (6, "xdp generic"), (7, "xdp offloaded")];
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_ID: u16 = 11;
const FILTER_HOOKS: [(u32, &str); 2] = [(0xffff_fff2, "tc ingress"), (0xffff_fff3, "tc egress")];
const TCX_HOOKS: [(TcAttachType, &str); 2] = [
    (TcAttachType::Ingress, "tcx ingress"),
    (TcAttachType::Egress, "tcx egress"),
];

/// The programs on the interface with this index and name.
pub fn on(index: u32, name: &str) -> anyhow::Result<Vec<Program>> {
    let netlink = Netlink::open(None)?;
    let mut found: Vec<(u32, &'static str)> = Vec::new();
    netlink
        .list(GET_LINK, &[0; LINK], &mut |message| {
            if word(message, 4) != Some(index) {
                return;
            }
            let attributes = message.get(LINK..).unwrap_or_default();
            let xdp = attribute(attributes, IFLA_XDP).unwrap_or_default();
            for (kind, hook) in XDP_HOOKS {
                let id = attribute(xdp, kind).and_then(|id| word(id, 0));
                found.extend(id.map(|id| (id, hook)));
            }
        })
        .context("the links cannot be listed")?;
    for (parent, hook) in FILTER_HOOKS {
        let mut question = [0_u8; FILTER];
        question[4..8].copy_from_slice(&index.to_ne_bytes());
        question[12..16].copy_from_slice(&parent.to_ne_bytes());
        // Without clsact there are no filters, and the kernel may refuse the question.
        let _ = netlink.list(GET_FILTER, &question, &mut |message| {
            let attributes = message.get(FILTER..).unwrap_or_default();
            if attribute(attributes, TCA_KIND) != Some(b"bpf\0") {
                return;
            }
            let options = attribute(attributes, TCA_OPTIONS).unwrap_or_default();
            let id = attribute(options, TCA_BPF_ID).and_then(|id| word(id, 0));
            found.extend(id.map(|id| (id, hook)));
        });
    }
    // Kernels before 6.6 have no tcx.
    for (side, hook) in TCX_HOOKS {
        if let Ok((_, programs)) = SchedClassifier::query_tcx(name, side) {
            found.extend(programs.iter().map(|program| (program.id(), hook)));
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<(u32, String)> = loaded_programs()
        .flatten()
        .filter_map(|program| Some((program.id(), program.name_as_str()?.to_owned())))
        .collect();
    let named = |(id, hook): (u32, &'static str)| Program {
        id,
        name: names
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, name)| name.clone()),
        hook,
    };
    Ok(found.into_iter().map(named).collect())
}
