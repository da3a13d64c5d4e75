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
        return "taken to be full".to_owned();
    }
    let time = Duration::from_nanos(ticks >> TICK_SHIFT);
    format!("which was {:.3} s from being unused", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use firewall_common::Direction;
    use firewall_common::packet::flag;

    use crate::packet_build::PacketBuilder;
    use crate::policy::Policy;
    use crate::replay::explain::{Question, explain};

    #[test]
    fn a_limit_is_a_step_that_tells_what_it_counts_and_for_whom() {
        let text = "version = 1\n[[rule]]\nname = \"shop\"\naction = \"accept\"\n\
                    limit = { rate = \"2/s\", burst = 5, unit = \"connections\" }\n";
        let (policy, _) = Policy::parse(text, "p", Path::new("")).unwrap();
        let between = ["198.51.100.7", "203.0.113.1"].map(|address| address.parse().unwrap());
        for (flags, detail) in [
            (
                flag::SYN,
                "it takes 1 from the limit of 2/s connections per source, burst 5, taken to be full",
            ),
            (
                flag::ACK,
                "the limit of 2/s connections per source, burst 5 counts connections, and this is none",
            ),
        ] {
            let builder = PacketBuilder::new(between[0], between[1]).unwrap();
            let question = Question {
                frame: &builder.tcp(40_000, 443, flags).build(),
                direction: Direction::Inbound,
                interface: None,
                now: 1_900_000_000_000_000_000,
                bans: &[],
                connection: None,
                signatures: &[],
            };
            let explanation = explain(&policy, &question).unwrap();
            let last = explanation.steps.last().unwrap();
            assert_eq!((last.step, last.rule.as_deref()), ("limit", Some("shop")));
            assert_eq!(last.detail, detail);
        }
    }
}
