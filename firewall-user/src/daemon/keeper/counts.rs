//! What has to be seen to now and then: that observed counts are kept, and that rules expire when the wall
//! clock says so.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::info;

use super::{Keeper, tick};
use crate::datapath::clock;

/// How often the rules' counters are read for the ledger.
const ROUND: Duration = Duration::from_secs(5);
/// A wall clock that was moved by less than this leaves the rules that expire as they are.
const CLOCK_STEP: i128 = 1_000_000_000;

/// When that was done last.
#[derive(Debug)]
pub(super) struct Chores {
    counted: Instant,
    /// What the policy in force was compiled with: [`clock::offset`].
    pub(super) clock_offset: i128,
}

impl Default for Chores {
    fn default() -> Self {
        Self {
            counted: Instant::now(),
            clock_offset: clock::offset(),
        }
    }
}

impl Keeper {
    /// One round.
    pub(super) fn do_chores(&mut self) -> anyhow::Result<()> {
        if self.chores.counted.elapsed() < ROUND {
            return Ok(());
        }
        self.settle_counts();
        if self.audit.waits() {
            let audit = self.audit.clone();
            drop(tokio::runtime::Handle::current().spawn_blocking(move || audit.retry()));
        }
        self.ledger.save_if_due();
        self.ranges
            .save_if_due(&self.detector, &self.watch, tick::now());
        self.follow_clock()
    }

    /// Has the ledger take in what the rules counted under the policy before, and notes which are
    /// observed under the one in force now.
    pub(super) fn settle_counts(&mut self) {
        self.chores.counted = Instant::now();
        let hits = self.datapath.rule_hits();
        self.ledger.take_in(&hits, &self.policy, Timestamp::now());
    }

    /// Has the counts, and what is known of alerts, kept when the daemon stops.
    pub fn save_counts(&mut self) {
        self.settle_counts();
        self.ledger.save();
        self.chronicle.close();
        self.ranges.save(&self.detector, &self.watch, tick::now());
    }

    /// The kernel knows the moment at which a rule expires by a clock that nobody sets. When the wall
    /// clock is set, the moment moves: the policy is compiled again.
    fn follow_clock(&mut self) -> anyhow::Result<()> {
        let moved = clock::offset() - self.chores.clock_offset;
        // A policy on trial is not put in force anew: that would be for good.
        if moved.abs() <= CLOCK_STEP || self.attached() == 0 || self.datapath.trial().is_some() {
            return Ok(());
        }
        self.chores.clock_offset += moved;
        if self.policy.rules.iter().all(|rule| rule.expires.is_none()) {
            return Ok(());
        }
        let seconds = (moved / CLOCK_STEP) as i64;
        info!(
            seconds,
            "the wall clock was set; rules that expire are put in force anew"
        );
        let applied = self.datapath.apply(&self.policy)?;
        self.restore_state(&applied)
    }

    /// Notes that a policy was compiled just now.
    pub(super) fn compiled_now(&mut self) {
        self.chores.clock_offset = clock::offset();
        self.settle_counts();
    }
}
