//! What came of a kernel: read from what the guest's script and the tests said.

use std::fmt::Write;

use super::guest::MARK;
use crate::test::{Counts, SKIPPED};

/// How tests/tests/verifier/ says what the verifier took.
const VERIFIED: &str = "verified: ";

/// The results of one kernel, as far as they have come.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub release: Option<String>,
    pub programs: Vec<Program>,
    /// The verifier's own words about a policy.
    pub verified: Vec<String>,
    /// The guest's script came to its end.
    pub finished: bool,
    /// Of the guest's own clock.
    pub seconds: f64,
}

/// One test program.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: String,
    pub counts: Counts,
    pub seconds: f64,
    pub output: String,
}

impl Program {
    /// Why tests of it returned without having proved anything.
    pub fn reasons(&self) -> impl Iterator<Item = &str> {
        self.output
            .lines()
            .filter_map(|line| line.strip_prefix(SKIPPED))
    }
}

impl Outcome {
    /// Reads as much as there is; a test program still under way is left out.
    pub fn read(text: &str) -> Self {
        let mut outcome = Self::default();
        let mut output = String::new();
        let mut began = 0.0;
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            let words: Vec<&str> = match line.strip_prefix(MARK) {
                Some(words) => words.split_whitespace().collect(),
                None => {
                    if let Some(said) = line.strip_prefix(VERIFIED) {
                        outcome.verified.push(said.to_owned());
                    }
                    // A string takes everything.
                    let _ = writeln!(output, "{line}");
                    continue;
                }
            };
            let time = words.last().and_then(|word| word.parse().ok());
            outcome.seconds = time.unwrap_or(outcome.seconds);
            match words.as_slice() {
                ["up", release, ..] => outcome.release = Some((*release).to_owned()),
                ["begin", ..] => {
                    output.clear();
                    began = outcome.seconds;
                }
                ["end", name, code, _] => outcome.programs.push(Program {
                    name: (*name).to_owned(),
                    counts: counts(&output, *code == "0"),
                    seconds: outcome.seconds - began,
                    output: std::mem::take(&mut output),
                }),
                ["done", ..] => outcome.finished = true,
                _ => {}
            }
        }
        outcome
    }

    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for program in &self.programs {
            sum.add(program.counts);
        }
        sum
    }

    /// Everything ran, something passed and nothing failed.
    pub fn is_good(&self) -> bool {
        let counts = self.counts();
        self.finished && counts.failed == 0 && counts.passed > 0
    }

    /// The verified instructions of the largest policy on the way in and out.
    pub fn most_verified(&self) -> Option<(u64, u64)> {
        let numbers = |said: &String| {
            let mut numbers = said.rsplit(' ').filter_map(|word| word.parse::<u64>().ok());
            let out = numbers.next()?;
            Some((numbers.next()?, out))
        };
        self.verified.iter().filter_map(numbers).max()
    }
}

/// A runner that ended without its summary has failed, whatever it came to.
fn counts(output: &str, succeeded: bool) -> Counts {
    let mut counts = Counts::read(output).unwrap_or_default();
    if !succeeded && counts.failed == 0 {
        counts.failed = 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "@@ up 6.1.0-56-cloud-amd64 5.50\r\n\
        @@ begin verifier 6.00\r\n\
        verified: the smallest policy: 4000 5000\r\n\
        verified: all fields: 70000 80000\r\n\
        test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\r\n\
        @@ end verifier 0 10.50\r\n\
        @@ begin fence 10.60\r\n\
        running 2 tests\r\n\
        @@ end fence 124 70.60\r\n";

    #[test]
    fn what_the_guest_said_is_added_up() {
        let outcome = Outcome::read(&format!("{TEXT}@@ done 71.00\r\n"));
        assert_eq!(outcome.release.as_deref(), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(
            outcome.counts().to_string(),
            "2 passed, 1 failed, 1 skipped"
        );
        assert_eq!(outcome.most_verified(), Some((70_000, 80_000)));
        assert!((outcome.programs[0].seconds - 4.5).abs() < 1e-9);
        assert!(outcome.programs[1].output.contains("running 2 tests"));
        assert!(outcome.finished && !outcome.is_good());
    }

    #[test]
    fn a_guest_that_did_not_come_to_its_end_is_no_success() {
        let text: String = TEXT.split_inclusive('\n').take(6).collect();
        let outcome = Outcome::read(&text);
        assert_eq!(outcome.counts().failed, 0);
        assert!(!outcome.is_good());
        assert!(Outcome::read(&format!("{text}@@ done 20.00\r\n")).is_good());
    }
}
