//! How long tests wait: on an emulated or crowded machine everything takes a multiple of its time.

use std::sync::OnceLock;
use std::time::Duration;

const VARIABLE: &str = "PALISADE_PATIENCE";

/// A time limit, times what `PALISADE_PATIENCE` says (1 without it). Only for how long to wait for
/// something; never for when something must not have happened yet.
pub fn stretched(limit: Duration) -> Duration {
    limit * factor()
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
