//! How far traffic must go to be out of the ordinary. One knob: nobody should need to set a threshold.

use serde::{Deserialize, Serialize};

use crate::detect::Time;

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
    /// Length of the spans by which rates are learned: a minute, unless it is set.
    pub span: Time,
    /// Spans for which a rate must be too high; bursts of seconds have a range of their own.
    pub spans_above: u32,
    /// A rate is lost below this share of what is usual.
    pub below: f64,
    /// Spans for which it must have been lost, after it was there.
    pub spans_below: u32,
    /// Spans for which it must have been lost, if it did not break off but never came.
    pub spans_absent: u32,
}

impl Sensitivity {
    /// How many times its threshold a rate or a count must reach that was not learned.
    pub const fn scale(self) -> f64 {
        match self {
            Self::Low => 2.0,
            Self::Medium => 1.0,
            Self::High => 0.5,
        }
    }

    /// Of sources that try nothing forbidden, this share may be taken for scanners by the sequential test.
    pub const fn false_scanners(self) -> f64 {
        match self {
            Self::Low => 0.0001,
            Self::Medium => 0.001,
            Self::High => 0.01,
        }
    }

    pub(super) const fn limits(self, span: Time) -> Limits {
        match self {
            Self::Low => Limits {
                span,
                above: 3.0,
                jump: 4.0,
                spans_above: 3,
                below: 0.15,
                spans_below: 10,
                spans_absent: 60,
            },
            Self::Medium => Limits {
                span,
                above: 2.0,
                jump: 3.0,
                spans_above: 2,
                below: 0.25,
                spans_below: 5,
                spans_absent: 30,
            },
            Self::High => Limits {
                span,
                above: 1.3,
                jump: 2.0,
                spans_above: 1,
                below: 0.4,
                spans_below: 3,
                spans_absent: 15,
            },
        }
    }
}
