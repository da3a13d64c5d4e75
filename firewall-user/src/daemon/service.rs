//! Tells the service manager how it goes; does nothing where there is none.

use sd_notify::NotifyState;
use tracing::warn;

pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The manager pairs this with the next [`ready`] by the time in it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!("the service manager is not told of the reload: {error}"),
    }
}

pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Feeds the watchdog, if there is one.
pub fn alive() {
    if sd_notify::watchdog_enabled().is_some() {
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("the service manager cannot be told: {error}");
    }
}
