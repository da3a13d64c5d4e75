//! How many tests passed, failed and were skipped, added up from the runners' own lines.

use std::fmt::{self, Display, Formatter};

/// How a test says that it returned without having proved anything (`palisade_tests::skipped`).
pub const SKIPPED: &str = "skipped: ";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Counts {
    /// From a whole output; nothing when no runner has summed up in it.
    pub fn read(output: &str) -> Option<Self> {
        let mut summaries = output.lines().filter_map(summary).peekable();
        summaries.peek()?;
        let mut counts = summaries.fold(Self::default(), |mut sum, counts| {
            sum.add(counts);
            sum
        });
        // The runner takes a test that found its ground missing for one that passed.
        let returned = output.lines().filter(|line| line.starts_with(SKIPPED));
        let returned = (returned.count() as u64).min(counts.passed);
        counts.passed -= returned;
        counts.skipped += returned;
        Some(counts)
    }

    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// A line like `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; ...`.
fn summary(line: &str) -> Option<Counts> {
    let (_, parts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for part in parts.split("; ") {
        let Some((number, what)) = part.split_once(' ') else {
            continue;
        };
        match what {
            "passed" => counts.passed = number.parse().ok()?,
            "failed" => counts.failed = number.parse().ok()?,
            "ignored" => counts.skipped = number.parse().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

impl Display for Counts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn the_runners_summaries_are_added_up() {
        let output = "running 2 tests\ntest a ... ok\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            \n\
            test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 7 filtered out; finished in 2.00s\n";
        let counts = Counts::read(output).expect("there are two summaries");
        assert_eq!(counts.to_string(), "5 passed, 4 failed, 1 skipped");
    }

    #[test]
    fn a_test_that_says_it_was_skipped_has_not_passed() {
        let output = "running 2 tests\n\nskipped: no captures\ntest a ... ok\ntest b ... ok\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        let counts = Counts::read(output).expect("there is a summary");
        assert_eq!(counts.to_string(), "1 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn an_output_without_a_summary_counts_as_no_answer() {
        assert_eq!(Counts::read("running 2 tests\ntest a ... ok\n"), None);
    }
}
