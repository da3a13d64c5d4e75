//! What a start needs of the kernel whatever its policy says: the maps that outlive generations. They are made
//! beside, while the policy is compiled, so that a fresh host is fenced the sooner.

use std::path::PathBuf;
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, anyhow};

use super::object::{self, SourceSize};
use super::pins::Pins;
use super::state::State;
use super::{DatapathSettings, cookies, ticks};

/// The maps of a fence that is about to be put up. Unless it is built on ([`Self::build_on`]), what was made is
/// removed again.
#[derive(Debug)]
pub struct Ground {
    pin_dir: PathBuf,
    /// There were no maps before.
    is_new: bool,
    laying: Option<JoinHandle<anyhow::Result<Pins>>>,
}

impl Ground {
    /// Begins to make what is missing. No trial may be under way: its gates use the maps that are there.
    pub fn lay(settings: &DatapathSettings) -> anyhow::Result<Self> {
        let pin_dir = settings.pin_dir.clone();
        let is_new = !Pins::any_map(&pin_dir);
        let counts_are_lost = State::load(&settings.state_dir)?.fresh;
        let sources = settings.source_size();
        let root = pin_dir.clone();
        let laying = Builder::new()
            .name("maps".to_owned())
            .spawn(move || make(&root, sources, counts_are_lost))
            .context("the thread that makes the maps cannot be started")?;
        Ok(Self {
            pin_dir,
            is_new,
            laying: Some(laying),
        })
    }

    /// Waits until all is there, and leaves it to whoever builds on it.
    pub(super) fn build_on(mut self) -> anyhow::Result<Pins> {
        let laid = self.wait();
        if laid.is_ok() {
            self.is_new = false;
        }
        laid
    }

    fn wait(&mut self) -> anyhow::Result<Pins> {
        let laying = self.laying.take().context("waited for already")?;
        laying
            .join()
            .map_err(|_| anyhow!("the thread that makes the maps panicked"))?
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // What went wrong was told to whoever wanted to build on it; or nobody did.
        let _ = self.wait();
        if self.is_new
            && let Err(error) = Pins::clear_if_unused(&self.pin_dir)
        {
            tracing::warn!("pinned maps stay behind: {error:#}");
        }
    }
}

fn make(
    root: &std::path::Path,
    sources: SourceSize,
    counts_are_lost: bool,
) -> anyhow::Result<Pins> {
    let pins = Pins::open(root)?;
    if counts_are_lost {
        pins.forget_counts()?;
    }
    object::check_pins(&pins, sources)?;
    object::make_maps(&pins, sources)?;
    // Found once, and asked for by each load.
    ticks::ticks();
    cookies::unsupported();
    Ok(pins)
}
