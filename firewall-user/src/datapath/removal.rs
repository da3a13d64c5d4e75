//! Takes down what a daemon that is gone left standing: links and filters, programs and maps.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;

use super::pins::Pins;
use super::state::State;
use super::{Datapath, attach};

impl Datapath {
    /// Takes down the fence pinned under `pin_dir`, without opening its maps: they may be of another
    /// version. The interfaces that are open now. Whoever calls this has seen to it that no daemon
    /// keeps the fence.
    pub fn take_down(pin_dir: &Path, state_dir: &Path) -> anyhow::Result<Vec<String>> {
        match pin_dir.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(Vec::new()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| pin_dir.display().to_string()),
        }
        let pins = Pins::open(pin_dir)?;
        let mut state = State::load(state_dir)?;
        let mut names = pins.linked()?;
        names.extend(state.attached.keys().cloned());
        names.sort_unstable();
        names.dedup();
        let mut open = Vec::new();
        for name in names {
            let before = state.attached.remove(&name);
            if attach::take_off(&name, &pins, before.as_ref())
                .with_context(|| format!("interface {name}"))?
            {
                open.push(name);
            }
        }
        state.trial = None;
        state.note();
        pins.remove_if_unused()?;
        Ok(open)
    }
}
