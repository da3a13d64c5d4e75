//! Tells what is new from what goes on. Who has been told of an anomaly need not be told again with each of its rows,
//! nor of each of its echoes: a value is new while it is rarer than what was raised lately. Detectors on
//! streams rest after an alarm for the same reason (contextual anomaly detection: Smirnov, CAD-OSE 2016).

use serde::{Deserialize, Serialize};

const DAY: f64 = 86_400.0;
/// What was raised fades to half within these times: soon at full height, and for long at a share of it.
const SOON: f64 = 0.5 * DAY;
const LATER: f64 = 2.0 * DAY;
const LATER_SHARE: f64 = 0.5;
/// By how much something must be rarer than what fades, when that was much.
const MARGIN: f64 = 0.55;
/// What goes on is reported at this share.
const ECHO: f64 = 0.2;

/// What was raised lately.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Novelty {
    soon: f64,
    later: f64,
}

impl Novelty {
    /// Whether it can be calculated with: what was read from a file may be anything.
    pub fn is_sound(&self) -> bool {
        self.soon.is_finite() && self.later.is_finite()
    }

    /// How much of `rarity` is new, `elapsed` seconds after the last.
    pub fn judge(&mut self, rarity: f64, elapsed: f64) -> f64 {
        self.soon *= 0.5_f64.powf(elapsed / SOON);
        self.later *= 0.5_f64.powf(elapsed / LATER);
        let raised = self.soon.max(LATER_SHARE * self.later);
        let bar = raised + MARGIN * (1.0 - (-raised).exp());
        self.soon = self.soon.max(rarity);
        self.later = self.later.max(rarity);
        if rarity > bar { rarity } else { rarity * ECHO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_raised_once_and_what_is_worse_again() {
        let mut novelty = Novelty::default();
        assert_eq!(novelty.judge(3.0, 300.0), 3.0);
        assert!(novelty.judge(3.0, 300.0) < 1.0);
        assert_eq!(novelty.judge(5.0, 300.0), 5.0);
        assert_eq!(novelty.judge(3.0, 7.0 * DAY), 3.0);
    }
}
