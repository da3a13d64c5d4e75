//! Ctrl-C ends the show at the next step, so that everything is taken down on the way out.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on a signal is only noted.
pub fn listen() -> Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(asked))
            .context("signals cannot be listened to")?;
    }
    Ok(())
}

/// Whether somebody wants an end.
pub fn asked() -> bool {
    ASKED
        .get()
        .is_some_and(|asked| asked.load(Ordering::Relaxed))
}

/// An error if somebody wants an end.
pub fn check() -> Result<()> {
    if asked() {
        bail!("interrupted; what was set up is taken down");
    }
    Ok(())
}

/// Waits until somebody wants an end.
pub fn wait() {
    while !asked() {
        thread::sleep(Duration::from_millis(50));
    }
}
