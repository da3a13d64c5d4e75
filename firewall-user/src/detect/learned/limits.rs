//! How far a departure from what was learned must go. One knob: nobody should need to set a threshold.

use serde::{Deserialize, Serialize};

/// `[detect] sensitivity`. At medium, no more than one false alarm a week is meant for a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    Low,
    #[default]
    Medium,
    High,
}

/// What a sensitivity means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A rate must be so many times the upper end of the expected range.
    pub above: f64,
    /// And so many times what it was in the last half hour, the last five minutes apart: an attack begins at once, a sale
    /// grows.
    pub jump: f64,
    /// Minutes for which a rate must be too high; bursts of seconds have a range of their own.
    pub minutes_above: u32,
    /// A rate is lost below this share of what is usual.
    pub below: f64,
    /// Minutes for which it must have been lost, after it was there.
    pub minutes_below: u32,
    /// Minutes for which it must have been lost, if it did not break off but never came.
    pub minutes_absent: u32,
}

impl Sensitivity {
    pub(super) const fn limits(self) -> Limits {
        match self {
            Self::Low => Limits {
                above: 3.0,
                jump: 4.0,
                minutes_above: 3,
                below: 0.15,
                minutes_below: 10,
                minutes_absent: 60,
            },
            Self::Medium => Limits {
                above: 2.0,
                jump: 3.0,
                minutes_above: 2,
                below: 0.25,
                minutes_below: 5,
                minutes_absent: 30,
            },
            Self::High => Limits {
                above: 1.3,
                jump: 2.0,
                minutes_above: 1,
                below: 0.4,
                minutes_below: 3,
                minutes_absent: 15,
            },
        }
    }
}
