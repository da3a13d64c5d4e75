//! Whether the fence is up and looked after: read without asking the fence thread, so that a stuck
//! one cannot hide.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Silence after which the daemon counts as stuck.
const SILENCE: Duration = Duration::from_secs(10);

/// The latest sign of life.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    /// Milliseconds from `start` to the latest round that succeeded.
    latest: AtomicU64,
    attached: AtomicUsize,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            latest: AtomicU64::new(0),
            attached: AtomicUsize::new(0),
        }
    }
}

impl Pulse {
    /// So many interfaces are protected now.
    pub fn attached(&self, number: usize) {
        self.attached.store(number, Ordering::Relaxed);
    }

    /// A round succeeded.
    pub fn beat(&self) {
        let elapsed = self.start.elapsed().as_millis();
        self.latest.store(
            u64::try_from(elapsed).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    /// What is wrong; `None` if nothing is.
    pub fn complaint(&self) -> Option<String> {
        if self.attached.load(Ordering::Relaxed) == 0 {
            return Some("no interface is protected".to_owned());
        }
        let latest = Duration::from_millis(self.latest.load(Ordering::Relaxed));
        let silence = self.start.elapsed().saturating_sub(latest);
        (silence > SILENCE).then(|| {
            format!(
                "the counts were last read {} s ago: the fence stands but nobody watches",
                silence.as_secs()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_host_is_unhealthy_and_says_so() {
        let pulse = Pulse::default();
        pulse.attached(1);
        pulse.beat();
        assert_eq!(pulse.complaint(), None);
        pulse.attached(0);
        assert!(
            pulse
                .complaint()
                .expect("a complaint")
                .contains("no interface")
        );
    }
}
