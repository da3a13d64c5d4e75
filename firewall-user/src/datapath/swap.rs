//! Puts a policy's programs in force: on all interfaces, or on none.

use std::time::{Duration, Instant};

use anyhow::Context;
use firewall_common::layout::LAYOUT_VERSION;
use firewall_common::trial;

use super::attach::Pair;
use super::object::{Gate, Programs, Purpose};
use super::pins::{Pins, Shelf, Side};
use super::state::{State, Trial};
use super::trial::boot;
use super::{
    Applied, Attachment, DatapathSettings, InterfaceSettings, Prepared, Waiting, attach, clock,
    interface, object,
};
use crate::policy::{Compiled, Counters, DefaultAction, Defaults, Environment, Mode, Policy};

/// What a policy is compiled for.
pub(super) fn environment(interfaces: &[InterfaceSettings], counters: Counters) -> Environment {
    Environment {
        interfaces: interfaces
            .iter()
            .map(|interface| interface.name.clone())
            .collect(),
        clock_offset: clock::offset(),
        counters,
        now: Some(jiff::Timestamp::now()),
    }
}

/// Compiles a policy for these interfaces.
pub(super) fn prepare(
    policy: &Policy,
    interfaces: &[InterfaceSettings],
    counters: Counters,
) -> anyhow::Result<Prepared> {
    let started = Instant::now();
    let compiled = policy.compile(&environment(interfaces, counters))?;
    Ok(Prepared {
        compiled,
        took: started.elapsed(),
    })
}

/// What it takes to put a policy in force.
pub(super) struct Swap<'a> {
    pub(super) settings: &'a DatapathSettings,
    pub(super) pins: &'a Pins,
    pub(super) state: State,
    /// Interfaces that may refuse the fence: they had none before.
    pub(super) waiting: &'a [Waiting],
    /// Something could not be put back: what links may still run must stay pinned.
    pub(super) stuck: bool,
}

/// How long the steps before the swap took.
struct Loaded {
    compile: Duration,
    load: Duration,
}

impl<'a> Swap<'a> {
    /// Loads everything before anything is swapped: a policy that the kernel refuses changes
    /// nothing.
    pub(super) fn apply(
        &mut self,
        policy: &Policy,
        prepared: &Prepared,
        current: &[Attachment],
    ) -> anyhow::Result<(Vec<Attachment>, Applied)> {
        if self.state.trial.is_some() {
            // What follows replaces the programs that a confirmation would keep.
            self.pins.withdraw();
        }
        let loaded = self.load(policy, prepared)?;
        let started = Instant::now();
        let attachments = match self.put_all(Shelf::Next, current) {
            Ok(attachments) => attachments,
            Err(error) => {
                // The gates of a trial judge until they are replaced.
                if self.state.trial.is_none() && !self.stuck {
                    self.pins.clear_trial()?;
                }
                return Err(error);
            }
        };
        let swap = started.elapsed();
        self.promote();
        self.pins.clear_trial()?;
        self.state.trial = None;
        self.state.generation = self.state.issue();
        self.state.note();
        let applied = loaded.applied(self.state.generation, swap);
        Ok((attachments, applied))
    }

    /// As [`Self::apply`], behind gates that go back after `duration`.
    pub(super) fn apply_on_trial(
        &mut self,
        policy: &Policy,
        prepared: Prepared,
        duration: Duration,
        current: &[Attachment],
    ) -> anyhow::Result<(Vec<Attachment>, Applied)> {
        if self.pins.word().exists() {
            // Gates of an earlier trial may stand in the links still.
            self.put_all(Shelf::InForce, current)?;
        }
        self.pins.clear_trial()?;
        let mut loaded = self.load(policy, &prepared)?;
        let started = Instant::now();
        let opened: Vec<String> = self
            .settings
            .interfaces
            .iter()
            .map(|wanted| wanted.name.clone())
            .filter(|name| !current.iter().any(|known| known.interface == *name))
            // One that waits for its device has the programs in force pinned all the same.
            .filter(|name| !self.pins.program(Shelf::InForce, name, Side::In).exists())
            .collect();
        // Loading may take long for a large policy: the trial begins when it is over.
        let deadline = clock::monotonic().saturating_add(crate::engine::nanoseconds(duration));
        self.arm(deadline, &opened)?;
        loaded.load += started.elapsed();

        let started = Instant::now();
        let before = self.state.generation;
        let generation = self.state.issue();
        self.state.trial = Some(Trial {
            generation,
            previous: before,
            deadline,
            boot: boot(),
            layout: LAYOUT_VERSION,
            interfaces: self.names(),
            opened,
        });
        // Written down first: whoever starts after a crash must not take the gates for a policy.
        self.state.generation = generation;
        let stored = self.state.store();
        let attachments = match stored.and_then(|()| self.put_all(Shelf::Gate, current)) {
            Ok(attachments) => attachments,
            Err(error) => {
                self.pins.withdraw();
                self.state.trial = None;
                self.state.generation = before;
                if !self.stuck {
                    self.pins.clear_trial()?;
                }
                self.state.note();
                return Err(error);
            }
        };
        let applied = loaded.applied(generation, started.elapsed());
        Ok((attachments, applied))
    }

    /// Loads a gate for each interface, with the generation that is next and the one in force, or
    /// an open door where there is none.
    fn arm(&mut self, deadline: u64, opened: &[String]) -> anyhow::Result<()> {
        let mut open_doors = if opened.is_empty() {
            Vec::new()
        } else {
            let environment = environment(&self.settings.interfaces, self.state.counters());
            let compiled = open_door().compile(&environment)?;
            self.load_compiled(&compiled)?
        };
        for (slot, wanted) in self.settings.interfaces.iter().enumerate() {
            let name = &wanted.name;
            let mut gate = Gate::load(self.pins, name, deadline, self.settings.source_size())?;
            let next = Pair::open(self.pins, Shelf::Next, name)?;
            gate.set(trial::ON_TRIAL, next.ingress.fd()?, next.egress.fd()?)?;
            match open_doors.get_mut(slot) {
                Some(programs) if opened.contains(name) => {
                    let ingress = programs.ingress()?.fd()?.try_clone()?;
                    let egress = programs.egress()?.fd()?.try_clone()?;
                    gate.set(trial::PREVIOUS, &ingress, &egress)?;
                }
                _ => {
                    let previous = Pair::open(self.pins, Shelf::InForce, name).context(
                        "the programs in force are not pinned, so a trial could not go back to them",
                    )?;
                    let (ingress, egress) = (previous.ingress.fd()?, previous.egress.fd()?);
                    gate.set(trial::PREVIOUS, ingress, egress)?;
                }
            }
        }
        Ok(())
    }

    /// Loads and pins as what is next.
    fn load(&mut self, policy: &Policy, prepared: &Prepared) -> anyhow::Result<Loaded> {
        let compiled = &prepared.compiled;
        let interfaces = &self.settings.interfaces;
        for note in &compiled.notes {
            tracing::warn!("{note}");
        }

        let started = Instant::now();
        let looks_at_vlans = policy.rules.iter().any(|rule| !rule.vlans.is_empty());
        if looks_at_vlans {
            let there =
                |wanted: &&InterfaceSettings| interface::ethernet_index(&wanted.name).is_ok();
            for wanted in interfaces.iter().filter(there) {
                interface::show_vlan_tags(&wanted.name)?;
            }
        }
        let mut programs = self.load_compiled(compiled)?;
        for (wanted, programs) in interfaces.iter().zip(&mut programs) {
            self.pins.forget_next(&wanted.name)?;
            programs.pin(self.pins, Shelf::Next, &wanted.name)?;
        }
        self.state.remember(&compiled.counters);
        Ok(Loaded {
            compile: prepared.took,
            load: started.elapsed(),
        })
    }

    fn load_compiled(&self, compiled: &Compiled) -> anyhow::Result<Vec<Programs>> {
        let purposes: Vec<Purpose> = (0..self.settings.interfaces.len() as u32)
            .map(|interface| Purpose {
                interface,
                source_seed: self.state.source_seed,
                replay: false,
                cookies: self.settings.cookies,
                signatures: self.settings.signatures,
                sources: self.settings.source_size(),
            })
            .collect();
        object::load(compiled, &purposes, Some(self.pins))
    }

    /// Puts the programs of a shelf on every interface that has a device. If one refuses, all are left as
    /// they were.
    pub(super) fn put_all(
        &mut self,
        shelf: Shelf,
        current: &[Attachment],
    ) -> anyhow::Result<Vec<Attachment>> {
        let mut attachments = Vec::new();
        for wanted in &self.settings.interfaces {
            let name = &wanted.name;
            // One that has gone must not stop a swap halfway, with two policies in force: it is fenced
            // once it comes.
            let stood = current.iter().any(|known| known.interface == *name);
            match interface::find(name) {
                Ok(Some(_)) => {}
                Err(error) if stood => {
                    self.take_back(&attachments, wanted, current);
                    return Err(error);
                }
                Ok(None) | Err(_) => {
                    self.state.attached.remove(name);
                    continue;
                }
            }
            match self.put(shelf, wanted, current) {
                Ok(attachment) => attachments.push(attachment),
                Err(_) if matches!(interface::find(name), Ok(None)) => {
                    self.state.attached.remove(name);
                }
                Err(error)
                    if self
                        .waiting
                        .iter()
                        .any(|waiting| waiting.interface == *name) =>
                {
                    tracing::error!(interface = name, "still not fenced: {error:#}");
                }
                Err(error) => {
                    self.take_back(&attachments, wanted, current);
                    return Err(error);
                }
            }
        }
        Ok(attachments)
    }

    /// Puts back what was in force where something else has been put, and takes the fence off
    /// where it did not stand before.
    fn take_back(
        &mut self,
        attachments: &[Attachment],
        failed: &InterfaceSettings,
        current: &[Attachment],
    ) {
        let names = self.names();
        let touched = names.iter().filter(|name| {
            **name == failed.name || attachments.iter().any(|fresh| fresh.interface == **name)
        });
        for name in touched {
            let stood = current.iter().any(|known| known.interface == *name)
                || attachments
                    .iter()
                    .any(|fresh| fresh.interface == *name && fresh.taken_over);
            let undone = if stood {
                self.put_back(name, current)
            } else if *name != failed.name {
                let before = self.state.attached.remove(name);
                attach::take_off(name, self.pins, before.as_ref()).map(drop)
            } else {
                // What failed there has cleaned up after itself.
                Ok(())
            };
            if let Err(error) = undone {
                self.stuck = true;
                tracing::error!(
                    interface = name.as_str(),
                    "not put back as it was: {error:#}"
                );
            }
        }
    }

    fn put_back(&mut self, name: &str, current: &[Attachment]) -> anyhow::Result<()> {
        let wanted = self.wanted(name)?;
        self.put(Shelf::InForce, wanted, current).map(drop)
    }

    /// Puts the programs of a shelf on one interface that had none.
    pub(super) fn put_one(&mut self, shelf: Shelf, name: &str) -> anyhow::Result<Attachment> {
        let wanted = self.wanted(name)?;
        self.put(shelf, wanted, &[])
    }

    fn put(
        &mut self,
        shelf: Shelf,
        wanted: &InterfaceSettings,
        current: &[Attachment],
    ) -> anyhow::Result<Attachment> {
        let index = interface::ethernet_index(&wanted.name)?;
        let before = self.state.attached.get(&wanted.name);
        let mut programs = Pair::open(self.pins, shelf, &wanted.name)?;
        let outcome = attach::put(&mut programs, wanted, index, self.pins, before)?;
        let taken_over = match current.iter().find(|known| known.interface == wanted.name) {
            Some(known) => known.taken_over,
            None => outcome.taken_over,
        };
        let attachment = Attachment::new(&wanted.name, index, &outcome.attached, taken_over);
        if let Some(why) = &attachment.fallback
            && !outcome.taken_over
        {
            tracing::warn!(
                interface = wanted.name,
                why,
                "native XDP is refused; generic mode it is"
            );
        }
        self.state
            .attached
            .insert(wanted.name.clone(), outcome.attached);
        Ok(attachment)
    }

    /// What was next is in force: the links run it.
    pub(super) fn promote(&self) {
        for name in self.names() {
            if let Err(error) = self.pins.promote(&name) {
                tracing::error!(
                    interface = name,
                    "in force, but a trial could not go back to it: {error:#}"
                );
            }
        }
    }

    fn wanted(&self, name: &str) -> anyhow::Result<&'a InterfaceSettings> {
        let mut interfaces = self.settings.interfaces.iter();
        let wanted = interfaces.find(|wanted| wanted.name == name);
        wanted.context("no such interface in the settings")
    }

    fn names(&self) -> Vec<String> {
        let interfaces = self.settings.interfaces.iter();
        interfaces.map(|wanted| wanted.name.clone()).collect()
    }
}

impl Loaded {
    fn applied(&self, generation: u64, swap: Duration) -> Applied {
        Applied {
            generation,
            compile: self.compile,
            load: self.load,
            swap,
            anew: false,
        }
    }
}

/// What stands for "no fence" behind a gate.
fn open_door() -> Policy {
    Policy {
        defaults: Defaults {
            inbound: DefaultAction::Accept,
            outbound: DefaultAction::Accept,
            mode: Mode::Observe,
        },
        sets: Vec::new(),
        never_block: Vec::new(),
        rules: Vec::new(),
    }
}
