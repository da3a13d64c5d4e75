//! What was decided about a recorded packet, whichever engine decided it.

use firewall_common::decide::Judgement;
use firewall_common::{Reason, Verdict};

/// A judgement without what only concerns a live host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    pub reason: Reason,
    /// Counter of the rule that decided, or [`firewall_common::layout::NO_RULE`].
    pub rule: u32,
}

impl From<Judgement> for Outcome {
    #[inline]
    fn from(judgement: Judgement) -> Self {
        Self {
            verdict: judgement.verdict,
            reason: judgement.reason,
            rule: judgement.rule,
        }
    }
}
