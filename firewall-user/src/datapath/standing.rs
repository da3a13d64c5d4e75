//! Where the fence should stand and whether it does, hook by hook, for whoever watches from afar.

use super::fence::Datapath;
use super::pins::Side;
use super::{AttachMode, Attachment, attach, interface};

/// One hook of an interface that is to be protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub interface: String,
    /// `"ingress"` or `"egress"`.
    pub hook: &'static str,
    /// How it is attached; `"none"` if the fence was taken down there.
    pub mode: &'static str,
    /// Whether a program of the fence is attached.
    pub stands: bool,
    /// Whether there is no device to fence, and it is fenced as soon as it comes.
    pub waits: bool,
}

impl Datapath {
    /// Both hooks of every interface of the settings.
    pub fn standing(&self) -> Vec<Standing> {
        let wanted = self.settings.interfaces.iter();
        wanted
            .flat_map(|wanted| {
                let attachment = self
                    .attachments
                    .iter()
                    .find(|attachment| attachment.interface == wanted.name);
                let hooks = match attachment {
                    Some(attachment) => [
                        ("ingress", mode(attachment.mode), self.guards_in(attachment)),
                        ("egress", attachment.egress, self.guards_out(attachment)),
                    ],
                    None => [("ingress", "none", false), ("egress", "none", false)],
                };
                let mut waiting = self.waiting.iter();
                let waits = waiting.any(|one| one.interface == wanted.name && one.why.is_none());
                hooks.map(|(hook, mode, stands)| Standing {
                    interface: wanted.name.clone(),
                    hook,
                    mode,
                    stands,
                    waits,
                })
            })
            .collect()
    }

    /// Whether the way in is guarded.
    pub(super) fn guards_in(&self, attachment: &Attachment) -> bool {
        self.is_linked(attachment, Side::In)
    }

    /// Whether the way out is guarded. A clsact filter is no link that could be asked: as long as its device
    /// is the same, it counts as there.
    pub(super) fn guards_out(&self, attachment: &Attachment) -> bool {
        if attachment.egress == "clsact" {
            return interface::ethernet_index(&attachment.interface).ok() == Some(attachment.index);
        }
        self.is_linked(attachment, Side::Out)
    }

    fn is_linked(&self, attachment: &Attachment, side: Side) -> bool {
        let name = &attachment.interface;
        // A device that was made anew has another number.
        interface::ethernet_index(name).ok() == Some(attachment.index)
            && attach::is_linked_to(&self.pins.link(name, side), attachment.index)
    }
}

fn mode(mode: AttachMode) -> &'static str {
    match mode {
        AttachMode::Auto => "auto",
        AttachMode::Native => "native",
        AttachMode::Generic => "generic",
    }
}
