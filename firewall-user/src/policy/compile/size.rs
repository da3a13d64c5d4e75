//! Says what makes a policy too large for the kernel programs.

use super::super::Policy;
use super::CompileError;

/// How many causes are named.
const NAMED: usize = 3;

/// Refuses an image of more than `most` words.
pub(super) fn check(policy: &Policy, words: usize, most: usize) -> Result<(), CompileError> {
    if words <= most {
        return Ok(());
    }
    Err(CompileError::TooLarge {
        mebibytes: words.div_ceil(1 << 17),
        causes: causes(policy),
    })
}

/// The sets and rules with the most prefixes, most first. Sets that no rule looks at take no room.
fn causes(policy: &Policy) -> String {
    let mut used = vec![false; policy.sets.len()];
    let mut causes: Vec<(usize, String)> = Vec::new();
    for rule in &policy.rules {
        for &set in rule.from.sets.iter().chain(&rule.to.sets) {
            used[set] = true;
        }
        let own = rule.from.prefixes.len() + rule.to.prefixes.len();
        causes.push((own, format!("rule \"{}\" ({own})", rule.name)));
    }
    for (set, _) in policy.sets.iter().zip(used).filter(|(_, used)| *used) {
        let count = set.prefixes.len();
        causes.push((count, format!("set \"{}\" ({count})", set.name)));
    }
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.0));
    let named = causes.into_iter().take_while(|cause| cause.0 > 0);
    let named: Vec<String> = named.take(NAMED).map(|cause| cause.1).collect();
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_is_too_large_names_the_sets_and_rules_with_the_most_prefixes() {
        let text = "version = 1\n[sets]\nunused = [\"198.51.100.1\", \"198.51.100.3\", \"198.51.100.5\", \"198.51.100.7\"]\n\
             small = [\"203.0.113.1\"]\nlarge = [\"203.0.113.1\", \"203.0.113.3\", \"203.0.113.5\"]\n\
             [[rule]]\nname = \"a\"\naction = \"drop\"\nfrom = [\"large\", \"small\"]\n\
             [[rule]]\nname = \"b\"\naction = \"drop\"\nfrom = [\"198.51.100.0/25\", \"2001:db8::/32\"]\n";
        let (policy, _) = Policy::parse(text, "policy.toml", ".".as_ref()).unwrap();
        assert_eq!(check(&policy, 1 << 18, 1 << 18), Ok(()));
        let refused = check(&policy, (1 << 18) + 1, 1 << 18).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the compiled policy takes 3 MiB; at most 256 fit: the most addresses are those of \
             set \"large\" (3), rule \"b\" (2), set \"small\" (1)"
        );
    }
}
