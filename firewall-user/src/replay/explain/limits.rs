//! The step that holds a packet to a rule's limit, in words.

use std::time::Duration;

use firewall_common::decide::Limited;
use firewall_common::limit::TICK_SHIFT;

use super::{StepResult, Told};
use crate::policy::limit::unit_name;
use crate::policy::{Limit, Mode, Policy, Rule};

/// Tells what the limit of `rule` said.
pub(super) fn told(policy: &Policy, rule: &Rule, limit: &Limit, limited: Limited) -> Told {
    let unit = unit_name(limit.unit);
    let (result, detail) = match limited {
        Limited::Unmeasured => (
            StepResult::Passed,
            format!("the limit of {limit} counts {unit}, and this is none"),
        ),
        Limited::Within { amount, owed } => (
            StepResult::Passed,
            format!(
                "it takes {amount} from the limit of {limit}, {}",
                lacking(owed)
            ),
        ),
        Limited::Over { amount, owed } => {
            let over = format!(
                "{amount} are more than is left of the limit of {limit}, {}",
                lacking(owed)
            );
            if policy.defaults.mode == Mode::Observe {
                let detail = format!("{over}; the policy is only observed");
                (StepResult::Counted, detail)
            } else if rule.mode == Mode::Observe {
                let detail = format!("{over}; the rule is only observed");
                (StepResult::Counted, detail)
            } else {
                (StepResult::Decided, over)
            }
        }
    };
    Told::new("limit", result, detail).of_rule(&rule.name)
}

/// How far a bucket was from full.
fn lacking(ticks: u64) -> String {
    if ticks == 0 {
        return "of which nothing was used".to_owned();
    }
    let time = Duration::from_nanos(ticks >> TICK_SHIFT);
    format!("which was {:.3} s from being unused", time.as_secs_f64())
}
