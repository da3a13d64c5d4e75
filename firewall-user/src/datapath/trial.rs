//! A generation on trial: confirmed, gone back, or found by the next daemon.
//!
//! While a trial lasts, the links run gates (`firewall-ebpf/src/trial.rs`) that choose between two
//! generations by a deadline and a word, without user space. Whatever decides the trial, afterwards
//! the links run one generation's programs directly.

use std::time::Duration;

use anyhow::{Context, bail};
use aya::maps::{Array, Map, MapData};
use firewall_common::layout::LAYOUT_VERSION;
use firewall_common::trial::{CONFIRMED, PENDING, WITHDRAWN};

use super::attach::Pair;
use super::pins::{Pins, Shelf, Side};
use super::state::{State, Trial};
use super::swap::Swap;
use super::{Attachment, Datapath, DatapathSettings, attach, clock, interface};

/// A trial as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialView {
    pub generation: u64,
    /// The generation that is in force again if it fails.
    pub previous: u64,
    /// Until the kernel goes back; zero once it has.
    pub remaining: Duration,
}

/// What the daemon before left.
#[derive(Debug)]
pub enum Resumed {
    /// No trial.
    Nothing,
    /// A trial that goes on, or was confirmed.
    OnTrial(Box<Datapath>),
    /// A trial that has failed, or cannot go on under this daemon.
    Failed(Failed),
}

/// A trial that is over.
#[derive(Clone, Debug)]
pub struct Failed {
    pub generation: u64,
    pub why: String,
}

impl Datapath {
    /// The trial that has not been brought to its end.
    pub fn trial(&self) -> Option<TrialView> {
        let trial = self.state.trial.as_ref()?;
        Some(TrialView {
            generation: trial.generation,
            previous: trial.previous,
            remaining: Duration::from_nanos(trial.deadline.saturating_sub(clock::monotonic())),
        })
    }

    /// Whether the trial was confirmed and its gates stand still.
    pub fn is_confirmed(&self) -> bool {
        let word = || -> anyhow::Result<u64> { Ok(self.pins.open_word()?.get(&0, 0)?) };
        self.state.trial.is_some() && word().is_ok_and(|word| word == CONFIRMED)
    }

    /// Keeps the generation on trial. Refused when the deadline has passed.
    pub fn confirm(&mut self) -> anyhow::Result<()> {
        let trial = self.state.trial.as_ref().context("no policy is on trial")?;
        let mut word = self.pins.open_word()?;
        match word.get(&0, 0)? {
            CONFIRMED => {}
            PENDING if clock::monotonic() < trial.deadline => word.set(0, CONFIRMED, 0)?,
            _ => bail!("the trial is over: the generation before is in force again"),
        }
        // Decided, whatever happens from here on.
        self.state.trial = None;
        // Those without a device, too: they are fenced by it when they come.
        let mut interfaces = self.settings.interfaces.iter();
        let promoted = interfaces.try_for_each(|wanted| self.pins.promote(&wanted.name));
        let relinked = promoted.and_then(|()| self.relink());
        self.state.note();
        if let Err(error) = relinked {
            tracing::error!("confirmed, but the gates stay in the links: {error:#}");
        }
        Ok(())
    }

    /// Puts the generation before the trial in force again, at once.
    pub fn go_back(&mut self) -> anyhow::Result<()> {
        let trial = self.state.trial.clone().context("no policy is on trial")?;
        self.pins.open_word()?.set(0, WITHDRAWN, 0)?;
        for name in &trial.opened {
            let before = self.state.attached.remove(name);
            attach::take_off(name, &self.pins, before.as_ref())?;
            self.attachments.retain(|known| known.interface != *name);
            self.waiting.retain(|known| known.interface != *name);
        }
        self.relink()?;
        self.state.trial = None;
        self.state.generation = trial.previous;
        self.state.note();
        self.remove_if_unused()
    }

    /// Has the links run the generation in force directly, and removes the gates.
    fn relink(&mut self) -> anyhow::Result<()> {
        let mut settings = self.settings.clone();
        settings.interfaces.retain(|wanted| {
            self.attachments
                .iter()
                .any(|known| known.interface == wanted.name)
        });
        let mut swap = Swap {
            settings: &settings,
            pins: &self.pins,
            state: std::mem::take(&mut self.state),
            waiting: &[],
            stuck: false,
        };
        let put = swap.put_all(Shelf::InForce, &self.attachments);
        self.state = swap.state;
        let fenced = std::mem::replace(&mut self.attachments, put?);
        let fenced: Vec<String> = fenced.into_iter().map(|known| known.interface).collect();
        self.wait_for(&fenced);
        self.pins.clear_trial()
    }

    /// Takes over a trial that an earlier daemon began.
    pub fn resume(settings: &DatapathSettings) -> anyhow::Result<Resumed> {
        let state = State::load(&settings.state_dir)?;
        let Some(trial) = state.trial.clone() else {
            return Ok(Resumed::Nothing);
        };
        let generation = trial.generation;
        Ok(match Self::take_over_trial(settings, state, &trial) {
            Ok(datapath) => Resumed::OnTrial(Box::new(datapath)),
            Err(why) => Resumed::Failed(Failed {
                generation,
                why: format!("{why:#}"),
            }),
        })
    }

    fn take_over_trial(
        settings: &DatapathSettings,
        state: State,
        trial: &Trial,
    ) -> anyhow::Result<Self> {
        if trial.boot != boot() {
            bail!("the host was started anew");
        }
        if !state.attached.is_empty() && !Pins::any_link(&settings.pin_dir) {
            bail!("the fence was taken down");
        }
        let names = settings.interfaces.iter().map(|wanted| &wanted.name);
        if trial.layout != LAYOUT_VERSION || !names.eq(&trial.interfaces) {
            bail!("this daemon has other interfaces or is of another version");
        }
        let pins = Pins::open(&settings.pin_dir)?;
        let word = pins.open_word()?.get(&0, 0)?;
        match word {
            CONFIRMED => {}
            PENDING if clock::monotonic() < trial.deadline => {}
            PENDING => bail!("it was not confirmed in time"),
            _ => bail!("it was broken off"),
        }
        let attachments = standing(&pins, &state, trial).context("its gates do not stand")?;
        Self::open(settings.clone(), pins, state, attachments)
    }
}

/// The attachments, if each interface that had a device has its gate.
fn standing(pins: &Pins, state: &State, trial: &Trial) -> Option<Vec<Attachment>> {
    let stands = |name: &String| {
        let index = interface::ethernet_index(name).ok()?;
        let attached = state.attached.get(name)?;
        let gate = Pair::open(pins, Shelf::Gate, name).ok()?;
        let link = pins.link(name, Side::In);
        let there = attach::is_linked_to(&link, index)
            && attach::runs(&link, &gate.ingress)
            && pins.can_choose(name);
        there.then(|| Attachment::new(name, index, attached, true))
    };
    let fenced = trial.interfaces.iter();
    let fenced = fenced.filter(|name| state.attached.contains_key(*name));
    fenced.map(stands).collect()
}

impl Pins {
    /// Breaks a trial off, if there is one: the generation before judges from here on.
    pub(super) fn withdraw(&self) {
        if let Err(error) = self
            .open_word()
            .and_then(|mut word| Ok(word.set(0, WITHDRAWN, 0)?))
        {
            tracing::warn!("a trial's word cannot be written: {error:#}");
        }
    }

    /// Opens the word of a trial.
    fn open_word(&self) -> anyhow::Result<Array<MapData, u64>> {
        let path = self.word();
        let data =
            MapData::from_pin(&path).with_context(|| format!("pinned map {}", path.display()))?;
        Ok(Array::try_from(Map::from_map_data(data)?)?)
    }
}

/// Which start of the machine this is: the packet clock begins anew with each.
pub(super) fn boot() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.unwrap_or_default().trim().to_owned()
}
