//! Interfaces of the settings without a device to fence: a driver brings it up late, somebody took it
//! away, or its name is misspelled. The others are fenced all the same, and each of these once it comes:
//! the programs of every interface are loaded and pinned, so that nothing is compiled then.

use super::pins::{Shelf, Side};
use super::swap::Swap;
use super::{Attachment, Datapath, DatapathSettings, interface};

/// An interface that gets its fence once it has a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub interface: String,
    /// Why the device that is there cannot be fenced; `None` if there is none.
    pub why: Option<String>,
}

impl Datapath {
    /// Interfaces of these settings without a device. An error if one has a device that cannot be fenced.
    pub fn missing(settings: &DatapathSettings) -> anyhow::Result<Vec<String>> {
        let mut missing = Vec::new();
        for wanted in &settings.interfaces {
            if interface::find(&wanted.name)?.is_none() {
                missing.push(wanted.name.clone());
            }
        }
        Ok(missing)
    }

    pub fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// Interfaces that should be protected and are not: their device was made anew, or somebody
    /// removed their pinned link or programs or what a trial's gate chooses between, or pins went while
    /// programs were loaded.
    pub fn lost(&self) -> Vec<String> {
        let open = self.attachments.iter().filter(|attachment| {
            let name = &attachment.interface;
            !self.held.is_known()
                || !self.guards_in(attachment)
                || !self.guards_out(attachment)
                || (self.state.trial.is_some() && !self.pins.can_choose(name))
        });
        let bare = self.waiting.iter().filter(|waiting| self.is_bare(waiting));
        open.map(|attachment| attachment.interface.clone())
            .chain(bare.map(|waiting| waiting.interface.clone()))
            .collect()
    }

    /// Lets go of attachments whose device is gone; their interfaces. What is pinned of one stays until
    /// another device takes its place: a device that was only renamed keeps its fence until then.
    pub fn let_go(&mut self) -> Vec<String> {
        let (standing, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.attachments)
            .into_iter()
            .partition(|known| !matches!(interface::find(&known.interface), Ok(None)));
        self.attachments = standing;
        let gone: Vec<String> = gone.into_iter().map(|known| known.interface).collect();
        for name in &gone {
            self.state.attached.remove(name);
        }
        if !gone.is_empty() {
            self.state.note();
            self.wait_for(&gone);
        }
        gone
    }

    /// Fences those that have a device by now, by what is in force or on trial; their names. One that
    /// could not be fenced is tried again only if `again`.
    pub fn fence_arrived(&mut self, looks_at_vlans: bool, again: bool) -> Vec<String> {
        let mut fenced = Vec::new();
        for mut waiting in std::mem::take(&mut self.waiting) {
            if waiting.why.is_none() || again {
                let name = &waiting.interface;
                waiting.why = match self.fence(name, looks_at_vlans) {
                    Ok(true) => {
                        fenced.push(waiting.interface);
                        continue;
                    }
                    Ok(false) => None,
                    Err(error) => {
                        let why = Some(format!("{error:#}"));
                        if waiting.why != why {
                            tracing::error!(
                                interface = name,
                                "the device is there and cannot be fenced: {error:#}"
                            );
                        }
                        why
                    }
                };
            }
            self.waiting.push(waiting);
        }
        if !fenced.is_empty() {
            self.state.note();
        }
        fenced
    }

    /// Fences one interface; `false` if it has no device.
    fn fence(&mut self, name: &str, looks_at_vlans: bool) -> anyhow::Result<bool> {
        if interface::find(name)?.is_none() {
            return Ok(false);
        }
        if looks_at_vlans {
            interface::show_vlan_tags(name)?;
        }
        let shelf = self.shelf();
        let mut swap = Swap {
            settings: &self.settings,
            pins: &self.pins,
            state: std::mem::take(&mut self.state),
            waiting: &[],
            stuck: false,
        };
        let put = swap.put_one(shelf, name);
        self.state = swap.state;
        self.attachments.push(put?);
        let settings = &self.settings.interfaces;
        self.attachments.sort_by_key(|known| {
            settings
                .iter()
                .position(|wanted| wanted.name == known.interface)
        });
        Ok(true)
    }

    /// What the links run.
    fn shelf(&self) -> Shelf {
        if self.state.trial.is_some() {
            Shelf::Gate
        } else {
            Shelf::InForce
        }
    }

    /// Whether an interface has a device and its programs are not pinned, so that it cannot be fenced
    /// without loading them anew.
    fn is_bare(&self, waiting: &Waiting) -> bool {
        let name = &waiting.interface;
        let pin = self.pins.program(self.shelf(), name, Side::In);
        interface::ethernet_index(name).is_ok() && !pin.exists()
    }

    /// Waits for those of `names` that are not fenced, beside those that were waited for already.
    pub(super) fn wait_for(&mut self, names: &[String]) {
        let Self {
            attachments,
            waiting,
            ..
        } = self;
        waiting.retain(|waiting| !is_fenced(attachments, &waiting.interface));
        for name in names {
            let known = waiting.iter().any(|waiting| waiting.interface == *name);
            if !known && !is_fenced(attachments, name) {
                waiting.push(Waiting {
                    interface: name.clone(),
                    why: None,
                });
            }
        }
    }

    /// As [`Self::wait_for`], with all interfaces of the settings.
    pub(super) fn wait_for_all(&mut self) {
        let interfaces = self.settings.interfaces.iter();
        let names: Vec<String> = interfaces.map(|wanted| wanted.name.clone()).collect();
        self.wait_for(&names);
    }
}

fn is_fenced(attachments: &[Attachment], name: &str) -> bool {
    attachments.iter().any(|known| known.interface == name)
}
