//! What the gate programs of a policy on trial and the loader must agree on.

/// Slot of the generation on trial in a gate's program array.
pub const ON_TRIAL: u32 = 0;
/// Slot of the generation that is in force again when the trial fails.
pub const PREVIOUS: u32 = 1;
/// Slots of a gate's program array.
pub const SLOTS: usize = 2;

/// The word of a trial that nobody has decided: the deadline does.
pub const PENDING: u64 = 0;
/// The word of a trial that was confirmed: the deadline means nothing any more.
pub const CONFIRMED: u64 = 1;
/// The word of a trial that was broken off: the previous generation judges at once.
pub const WITHDRAWN: u64 = 2;

/// Which slot judges a packet: `word` is the trial's, the times are of the packet clock.
#[inline(always)]
pub fn slot(word: u64, now: u64, deadline: u64) -> u32 {
    if word == CONFIRMED || (word == PENDING && now < deadline) {
        ON_TRIAL
    } else {
        PREVIOUS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_word_keeps_a_generation_beyond_its_deadline() {
        for (word, now, expected) in [
            (PENDING, 9, ON_TRIAL),
            (PENDING, 10, PREVIOUS),
            (PENDING, u64::MAX, PREVIOUS),
            (CONFIRMED, 9, ON_TRIAL),
            (CONFIRMED, u64::MAX, ON_TRIAL),
            (WITHDRAWN, 0, PREVIOUS),
            // A word that nobody writes is no confirmation.
            (7, 0, PREVIOUS),
        ] {
            assert_eq!(slot(word, now, 10), expected, "{word} at {now}");
        }
    }
}
