//! How long tests wait and how much they send: on an emulated or crowded machine everything takes a
//! multiple of its time.

use std::sync::OnceLock;
use std::time::Duration;

const VARIABLE: &str = "PALISADE_PATIENCE";

/// A time limit, times what `PALISADE_PATIENCE` says (1 without it). Only for how long to wait for
/// something; never for when something must not have happened yet.
pub fn stretched(limit: Duration) -> Duration {
    limit * factor()
}

/// A rate or a number of packets, divided by what `PALISADE_PATIENCE` says: what an emulated machine
/// can send in the time that others take for all of it.
pub fn eased(load: u64) -> u64 {
    (load / u64::from(factor())).max(1)
}

/// Whether this machine is said to be slower than others.
pub fn is_slow() -> bool {
    factor() > 1
}

fn factor() -> u32 {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    *FACTOR.get_or_init(|| {
        std::env::var(VARIABLE)
            .ok()
            .and_then(|factor| factor.parse().ok())
            .filter(|&factor| factor > 0)
            .unwrap_or(1)
    })
}
