//! What the packet path counts by rule, read through shared memory: a scrape shows thousands of rules, and a system
//! call for each would be most of what it takes.

use std::ptr;

use anyhow::{Context, bail, ensure};
use aya::maps::Map;
use firewall_common::layout::{Counter, RULE_COUNTERS, Uses};
use memmap2::MmapMut;

use super::object;

/// Two counts for each rule, in a stripe for each CPU.
pub(super) struct RuleCounts {
    memory: MmapMut,
    stripes: usize,
}

/// What a map has for a rule on one CPU: two words.
const ENTRY: usize = size_of::<[u64; 2]>();
const STRIPE: usize = RULE_COUNTERS as usize * ENTRY;

const _: () = assert!(size_of::<Counter>() == ENTRY && size_of::<Uses>() == ENTRY);

impl RuleCounts {
    /// Takes one of the maps of rules by its name.
    pub(super) fn open(
        name: &str,
        open: &mut impl FnMut(&str) -> anyhow::Result<Map>,
    ) -> anyhow::Result<Self> {
        let Map::Array(map) = open(name)? else {
            bail!("map {name} is no array");
        };
        let entries = map.info()?.max_entries();
        ensure!(
            entries.is_multiple_of(RULE_COUNTERS),
            "map {name} is cut off: it has {entries} entries"
        );
        let stripes = (entries / RULE_COUNTERS) as usize;
        let memory = object::map_memory(&map, stripes * STRIPE).context(name.to_owned())?;
        Ok(Self { memory, stripes })
    }

    /// Packets and bytes of a rule, on all CPUs.
    pub(super) fn counter(&self, rule: u32) -> Counter {
        let [packets, bytes] = self.sum(rule);
        Counter { packets, bytes }
    }

    /// Connections and requests of a rule, on all CPUs.
    pub(super) fn uses(&self, rule: u32) -> Uses {
        let [connections, requests] = self.sum(rule);
        Uses {
            connections,
            requests,
        }
    }

    fn sum(&self, rule: u32) -> [u64; 2] {
        let mut sum = [0; 2];
        if rule >= RULE_COUNTERS {
            return sum;
        }
        for stripe in 0..self.stripes {
            let at = stripe * STRIPE + rule as usize * ENTRY;
            let [first, second] = self.read(at);
            sum = [sum[0].wrapping_add(first), sum[1].wrapping_add(second)];
        }
        sum
    }

    #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
    fn read(&self, at: usize) -> [u64; 2] {
        let entry: *const u64 = ptr::from_ref(&self.memory[at..at + ENTRY]).cast();
        // SAFETY: two aligned words within the slice. The kernel may write meanwhile: each is then that of a moment
        // before or after.
        unsafe { [entry.read_volatile(), entry.add(1).read_volatile()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRIPES: usize = 3;

    #[test]
    fn a_rule_has_what_all_processors_counted_for_it_and_a_number_that_is_none_has_nothing() {
        let mut memory = MmapMut::map_anon(STRIPES * STRIPE).unwrap();
        let mut count = |stripe: usize, rule: u32, words: [u64; 2]| {
            let at = stripe * STRIPE + rule as usize * ENTRY;
            for (word, to) in words.iter().zip(memory[at..at + ENTRY].chunks_mut(8)) {
                to.copy_from_slice(&word.to_ne_bytes());
            }
        };
        let last = RULE_COUNTERS - 1;
        count(0, 40, [1, 100]);
        count(2, 40, [3, 500]);
        count(1, 41, [7, 7]);
        count(STRIPES - 1, last, [9, 90]);
        let counts = RuleCounts {
            memory,
            stripes: STRIPES,
        };
        let told = |rule| {
            let Counter { packets, bytes } = counts.counter(rule);
            (packets, bytes)
        };
        assert_eq!(told(39), (0, 0));
        assert_eq!(told(40), (4, 600));
        assert_eq!(told(41), (7, 7));
        assert_eq!(told(last), (9, 90));
        assert_eq!(told(RULE_COUNTERS), (0, 0));
        assert_eq!(counts.uses(40).requests, 600);
    }
}
