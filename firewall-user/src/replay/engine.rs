//! The two engines behind one face: what a replay asks of whoever judges its packets.

use firewall_common::decide::Judgement;
use firewall_common::layout::Counter;
use firewall_common::{Direction, Reason, Verdict};

use crate::datapath::TestRun;
use crate::detect::{Snapshot, Time};
use crate::engine::{HostEngine, Judged};

/// Judges frames under one policy and keeps the counts.
pub trait Engine {
    /// Judges a frame; `None` if this engine cannot take it. `now` never goes back.
    fn judge(
        &mut self,
        frame: &[u8],
        direction: Direction,
        now: Time,
    ) -> anyhow::Result<Option<Outcome>>;

    /// The hits of these counters so far, in their order.
    fn hits(&mut self, counters: &[u32]) -> anyhow::Result<Vec<Counter>>;

    /// All counts as of `now`, which is `time` on the capture's clock. The bitmaps of the sources
    /// start anew.
    fn snapshot(&mut self, now: Time, time: Time) -> anyhow::Result<Snapshot>;
}

/// What was decided about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    pub reason: Reason,
    /// Counter of the rule that decided, or [`firewall_common::layout::NO_RULE`].
    pub rule: u32,
}

impl Outcome {
    /// What the host engine decided.
    #[inline]
    pub fn of(judged: &Judged) -> Self {
        judged.judgement.into()
    }
}

impl From<Judgement> for Outcome {
    #[inline]
    fn from(judgement: Judgement) -> Self {
        Self {
            verdict: judgement.verdict,
            reason: judgement.reason,
            rule: judgement.rule,
        }
    }
}

impl Engine for HostEngine {
    #[inline]
    fn judge(
        &mut self,
        frame: &[u8],
        direction: Direction,
        now: Time,
    ) -> anyhow::Result<Option<Outcome>> {
        Ok(Some(Outcome::of(&HostEngine::judge(
            self, frame, direction, now,
        ))))
    }

    fn hits(&mut self, counters: &[u32]) -> anyhow::Result<Vec<Counter>> {
        Ok(counters
            .iter()
            .map(|&counter| HostEngine::hits(self, counter))
            .collect())
    }

    fn snapshot(&mut self, now: Time, time: Time) -> anyhow::Result<Snapshot> {
        Ok(Snapshot {
            time,
            host: self.host_counts(),
            sources: self.sources(now, time),
        })
    }
}

impl Engine for TestRun {
    fn judge(
        &mut self,
        frame: &[u8],
        direction: Direction,
        now: Time,
    ) -> anyhow::Result<Option<Outcome>> {
        Ok(TestRun::judge(self, frame, direction, now)?
            .ok()
            .map(Outcome::from))
    }

    fn hits(&mut self, counters: &[u32]) -> anyhow::Result<Vec<Counter>> {
        counters
            .iter()
            .map(|&counter| TestRun::hits(self, counter))
            .collect()
    }

    fn snapshot(&mut self, now: Time, time: Time) -> anyhow::Result<Snapshot> {
        Ok(Snapshot {
            time,
            host: self.host_counts()?,
            sources: self.sources(now, time),
        })
    }
}
