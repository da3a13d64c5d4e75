//! How long to wait before a peer is tried again: ever longer, and never in step with other hosts.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);

/// Grows with each failure in a row.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    at_most: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(at_most: Duration) -> Self {
        Self {
            at_most,
            failures: 0,
        }
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure.
    pub fn next(&mut self) -> Duration {
        let exponent = self.failures.min(20);
        self.failures = self.failures.saturating_add(1);
        let full = FIRST.saturating_mul(1 << exponent).min(self.at_most);
        full.mul_f64(0.5 + 0.5 * share())
    }
}

/// Somewhere from 0 to 1. The standard library's hashers are seeded at random, which is random enough to
/// keep hosts apart.
fn share() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound_with_up_to_half_of_it_taken_off_at_random() {
        let mut backoff = Backoff::new(Duration::from_secs(60));
        for full in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let (full, wait) = (Duration::from_secs(full), backoff.next());
            assert!(wait >= full / 2 && wait <= full, "{full:?}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
        let waits: std::collections::BTreeSet<_> = (0..20)
            .map(|_| Backoff::new(Duration::from_secs(60)).next())
            .collect();
        assert!(waits.len() > 10, "{waits:?}");
    }
}
