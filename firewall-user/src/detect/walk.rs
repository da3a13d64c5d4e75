//! Sequential hypothesis testing of one source against one neighbourhood of hosts: does it know whom it
//! talks to, or does it try around? (J. Jung, V. Paxson, A. W. Berger, H. Balakrishnan: Fast portscan
//! detection using sequential hypothesis testing, IEEE S&P 2004: the threshold random walk.)

use super::Time;
use super::learned::Sensitivity;

/// How long what was tried counts.
pub(super) const MEMORY: Time = 3_600_000_000_000;
/// Things tried that a walk remembers.
const ENTRIES: usize = 40;
/// Successes that count in favour of a source: who can reach two services may still look for others.
const CREDIT: f64 = 2.0;

/// What one thing tried says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// It was there. A scanner succeeds with one try in five, others with four (Jung et al., 4.3).
    Success,
    /// It was not, and clients seldom try such things in vain.
    Failure,
    /// A datagram that was refused or dropped: some come damaged, or too late.
    LostDatagram,
    /// It was not, but that happens to clients too: datagrams to ports that were open a moment ago,
    /// data connections of FTP, segments of connections that are over.
    WeakFailure,
    /// No client sends this.
    Impossible,
}

impl Evidence {
    /// The logarithm of how much likelier this is from a scanner than from anybody else.
    fn weight(self) -> f64 {
        match self {
            Self::Success => -(4.0_f64.ln()),
            Self::Failure => 4.0_f64.ln(),
            Self::LostDatagram => 2.5_f64.ln(),
            Self::WeakFailure => 1.5_f64.ln(),
            Self::Impossible => 8.0_f64.ln(),
        }
    }

    /// Whether it counts against the source.
    pub fn is_failure(self) -> bool {
        self != Self::Success
    }
}

/// The decision's threshold: 99 % of scanners are found, and of others one in a thousand is taken for
/// one (Jung et al., eq. 5). Five failures reach it; with other sensitivities seven, or four.
pub(super) fn threshold(sensitivity: Sensitivity) -> f64 {
    (0.99_f64 / sensitivity.false_scanners()).ln()
}

/// Something tried: a port or protocol of a host.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Time,
    host: u32,
    target: u32,
    evidence: Evidence,
}

/// What a source tried in a neighbourhood within the last hour, each thing once.
#[derive(Clone, Debug, Default)]
pub(super) struct Walk {
    entries: Vec<Entry>,
    /// It completed a handshake, so it is who it says.
    pub proven: bool,
}

/// What a walk amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Position {
    /// The logarithm of the likelihood ratio; [`threshold`] decides.
    pub likelihood: f64,
    pub failures: usize,
    pub successes: usize,
    /// Among the failures.
    pub hosts: usize,
    pub targets: usize,
    /// When the first and the latest failure came.
    pub began: Time,
    pub latest: Time,
}

impl Walk {
    /// Notes what was tried. What is tried again counts as it did the first time, but for a failure
    /// that proves to be possible after all.
    ///
    /// Gives whether it is new.
    pub fn note(&mut self, at: Time, host: u32, target: u32, evidence: Evidence) -> bool {
        self.forget(at);
        let same = |entry: &&mut Entry| entry.host == host && entry.target == target;
        if let Some(entry) = self.entries.iter_mut().find(same) {
            if evidence == Evidence::Success {
                entry.evidence = Evidence::Success;
            }
            return false;
        }
        if self.entries.len() >= ENTRIES {
            // The oldest goes; a success, if there is one.
            let success = self
                .entries
                .iter()
                .position(|entry| !entry.evidence.is_failure());
            self.entries.remove(success.unwrap_or(0));
        }
        self.entries.push(Entry {
            at,
            host,
            target,
            evidence,
        });
        true
    }

    /// Where the walk stands at a time.
    pub fn position(&self, now: Time) -> Position {
        let oldest = now.saturating_sub(MEMORY);
        let mut position = Position::default();
        let (mut for_it, mut against) = (0.0_f64, 0.0);
        let (mut hosts, mut targets) = (Vec::new(), Vec::new());
        for entry in self.entries.iter().filter(|entry| entry.at >= oldest) {
            if !entry.evidence.is_failure() {
                position.successes += 1;
                for_it += entry.evidence.weight();
                continue;
            }
            against += entry.evidence.weight();
            if position.failures == 0 {
                position.began = entry.at;
            }
            position.failures += 1;
            position.latest = position.latest.max(entry.at);
            hosts.push(entry.host);
            targets.push(entry.target);
        }
        position.hosts = distinct(hosts);
        position.targets = distinct(targets);
        position.likelihood = against + for_it.max(CREDIT * Evidence::Success.weight());
        position
    }

    /// When the latest of its entries came.
    pub fn latest(&self) -> Time {
        self.entries.iter().map(|entry| entry.at).max().unwrap_or(0)
    }

    /// Forgets what is too old.
    fn forget(&mut self, now: Time) {
        let oldest = now.saturating_sub(MEMORY);
        self.entries.retain(|entry| entry.at >= oldest);
    }
}

impl Position {
    /// How many tries such as these it takes to decide at a [`threshold`].
    pub fn needed(&self, threshold: f64) -> f64 {
        if self.likelihood <= 0.0 {
            return f64::INFINITY;
        }
        (self.failures as f64 * threshold / self.likelihood).ceil()
    }
}

fn distinct(mut items: Vec<u32>) -> usize {
    items.sort_unstable();
    items.dedup();
    items.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Time = 60_000_000_000;

    fn decides(evidence: &[Evidence]) -> bool {
        let mut walk = Walk::default();
        for (target, evidence) in evidence.iter().enumerate() {
            walk.note(MINUTE, 1, target as u32, *evidence);
        }
        walk.position(MINUTE).likelihood >= threshold(Sensitivity::Medium)
    }

    #[test]
    fn five_failures_decide_and_four_do_not() {
        assert!(!decides(&[Evidence::Failure; 4]));
        assert!(decides(&[Evidence::Failure; 5]));
    }

    #[test]
    fn success_speaks_for_a_source_but_does_not_excuse_it_for_good() {
        use Evidence::{Failure, Success};
        assert!(!decides(&[
            Success, Success, Failure, Failure, Failure, Failure, Failure
        ]));
        let mut tries = vec![Success; 20];
        tries.extend([Failure; 7]);
        assert!(decides(&tries));
    }

    #[test]
    fn what_happens_to_clients_too_needs_more_of_it() {
        assert!(!decides(&[Evidence::WeakFailure; 17]));
        assert!(decides(&[Evidence::WeakFailure; 18]));
    }

    #[test]
    fn the_same_thing_again_says_nothing_new() {
        let mut walk = Walk::default();
        for minute in 0..50 {
            walk.note(minute * MINUTE, 1, 25, Evidence::Failure);
        }
        assert_eq!(walk.position(50 * MINUTE).failures, 1);
    }

    #[test]
    fn what_was_out_of_order_and_came_back_is_no_failure() {
        let mut walk = Walk::default();
        walk.note(MINUTE, 1, 25, Evidence::Failure);
        walk.note(2 * MINUTE, 1, 25, Evidence::Success);
        let position = walk.position(2 * MINUTE);
        assert_eq!((position.failures, position.successes), (0, 1));
    }

    #[test]
    fn a_port_a_minute_adds_up_and_is_forgotten_after_an_hour() {
        let mut walk = Walk::default();
        for port in 0..4_u32 {
            walk.note(u64::from(port) * 14 * MINUTE, 1, port, Evidence::Failure);
        }
        walk.note(56 * MINUTE, 1, 99, Evidence::Failure);
        assert!(walk.position(56 * MINUTE).likelihood >= threshold(Sensitivity::Medium));
        assert_eq!(walk.position(80 * MINUTE).failures, 3);
        assert_eq!(walk.position(200 * MINUTE), Position::default());
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_failures() {
        let mut walk = Walk::default();
        for port in 0..1_000 {
            let evidence = if port % 2 == 0 {
                Evidence::Failure
            } else {
                Evidence::Success
            };
            walk.note(MINUTE, 1, port, evidence);
            assert!(walk.entries.len() <= ENTRIES);
        }
        assert!(walk.position(MINUTE).failures >= ENTRIES - 1);
    }
}
