//! The limits of a direction's rules, as `firewall_common::limit` lays them out.

use firewall_common::image::LINE_WORDS;
use firewall_common::layout::FIRST_POLICY_COUNTER;
use firewall_common::limit::limits_at;

use super::{CompileError, Counters};
use crate::policy::Rule;

/// Most different limits of one direction: what a 16-bit entry can number.
const MOST: usize = 0xffff;

/// Adds the limits of these rules to the image; gives where, or 0 when there are none.
pub(super) fn place(
    rules: &[&Rule],
    counters: &Counters,
    image: &mut Vec<u64>,
) -> Result<u32, CompileError> {
    // (counter, words), by counter: every rule was given a counter before.
    let mut limits = Vec::new();
    for rule in rules {
        if let (Some(limit), Some(counter)) = (rule.limit, counters.of(&rule.name)) {
            let limit = limit.compiled().map_err(|unfit| CompileError::Limit {
                rule: rule.name.clone(),
                unfit,
            })?;
            limits.push((counter.saturating_sub(FIRST_POLICY_COUNTER), limit.words()));
        }
    }
    let Some(last) = limits.iter().map(|(index, _)| *index).max() else {
        return Ok(0);
    };
    // Rules share what is the same: buckets are told apart by the rule's counter.
    let mut different: Vec<[u64; 4]> = limits.iter().map(|(_, words)| *words).collect();
    different.sort_unstable();
    different.dedup();
    if different.len() > MOST {
        return Err(CompileError::TooManyLimits {
            count: different.len(),
        });
    }
    let entries = last as usize + 1;
    let mut numbers = vec![0_u64; entries.div_ceil(4)];
    for (index, words) in &limits {
        let number = different.partition_point(|known| known < words) as u64 + 1;
        let index = *index as usize;
        numbers[index / 4] |= number << (index % 4 * 16);
    }
    let base = image.len() as u32;
    image.push(entries as u64);
    image.extend(numbers);
    image.resize(limits_at(base, entries as u32) as usize, 0);
    image.extend(different.iter().flatten());
    // The last line is read as a whole.
    image.resize(image.len().next_multiple_of(LINE_WORDS), 0);
    Ok(base)
}
