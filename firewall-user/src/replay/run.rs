//! The replay itself: capture in, report out.

use std::io::{Read, Write};
use std::time::Duration;

use anyhow::Context;
use firewall_common::layout::NO_RULE;

use super::capture::{CaptureReader, pad_to_original, to_ethernet};
use super::clock::ReplayClock;
use super::direction::Inside;
use super::judges::Judges;
use super::outcome::Outcome;
use super::report::{EngineKind, Report, Rules};
use crate::detect::{Config, Detector, Pacer, Time};
use crate::policy::{Environment, Policy};

/// How often the detector looks, on the capture's clock.
const TICK: Duration = Duration::from_millis(250);

/// How a capture is replayed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Who judges; `None` is the kernel when permitted, the host engine otherwise.
    pub engine: Option<EngineKind>,
    pub inside: Inside,
    /// The interface that the capture stands for.
    pub interface: Option<String>,
    pub detection: Config,
}

/// A replay under way.
#[derive(Debug)]
pub struct Replay<W> {
    judges: Judges,
    inside: Inside,
    clock: ReplayClock,
    pacer: Pacer,
    detector: Option<Detector>,
    detection: Config,
    report: Report,
    /// Where each packet's verdict goes.
    verdicts: Option<W>,
    first: Option<Time>,
    now: Time,
    fallback: Option<String>,
}

impl<W: Write> Replay<W> {
    /// A replay under `policy`. Each packet's verdict is written to `verdicts`, which should be
    /// buffered.
    pub fn new(policy: &Policy, options: Options, verdicts: Option<W>) -> anyhow::Result<Self> {
        let environment = Environment {
            interfaces: options.interface.into_iter().collect(),
            ..Environment::default()
        };
        let compiled = policy.compile(&environment)?;
        let (judges, fallback) = Judges::choose(options.engine, policy, compiled)?;
        Ok(Self {
            report: Report::new(judges.kind()),
            judges,
            inside: options.inside,
            clock: ReplayClock::default(),
            pacer: Pacer::new(TICK),
            detector: None,
            detection: options.detection,
            verdicts,
            first: None,
            now: 0,
            fallback,
        })
    }

    /// Why the kernel does not judge although it was not ruled out.
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// Judges a whole capture. Damage in it ends it early and is in the report; an error is one
    /// of the engine or of writing the verdicts.
    pub fn judge(&mut self, mut capture: CaptureReader<impl Read>) -> anyhow::Result<()> {
        let mut frame = Vec::new();
        let mut index = 0;
        loop {
            let record = match capture.next(&mut frame) {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(()),
                Err(damage) => {
                    self.report.damage = Some(damage.to_string());
                    return Ok(());
                }
            };
            index += 1;
            match to_ethernet(&record, &mut frame) {
                Some(original) => {
                    pad_to_original(&mut frame, original);
                    self.packet(index, record.time, &frame)
                        .with_context(|| format!("packet {index}"))?;
                }
                None => {
                    self.report.skipped += 1;
                    self.report.skipped_link.get_or_insert(record.link);
                }
            }
        }
    }

    /// Ends the replay.
    pub fn finish(mut self) -> anyhow::Result<Report> {
        self.tick(self.pacer.end())?;
        if let Some(verdicts) = &mut self.verdicts {
            verdicts.flush().context("the verdicts cannot be written")?;
        }
        let mut report = self.report;
        report.started = self.first.map(|first| first as f64 / 1e9);
        report.seconds = self
            .first
            .map_or(0.0, |first| (self.now - first) as f64 / 1e9);
        report.host_judged = self.judges.host_judged();
        report.mismatches = self.judges.mismatches();
        report.rules = Rules(self.judges.rules());
        report.differences = self.judges.differences().to_vec();
        Ok(report)
    }

    #[inline]
    fn packet(&mut self, index: u64, time: Time, frame: &[u8]) -> anyhow::Result<()> {
        self.now = self.clock.advance(time);
        if self.first.is_none() {
            self.first = Some(self.now);
            self.detector = Some(Detector::from_zero(self.detection.clone(), time));
        }
        for due in self.pacer.due(time) {
            self.tick(due)?;
        }
        let direction = self.inside.direction(frame);
        let outcome = self.judges.judge(index, frame, direction, self.now)?;
        self.report.count(outcome);
        self.write_verdict(index, outcome)
    }

    fn write_verdict(&mut self, index: u64, outcome: Outcome) -> anyhow::Result<()> {
        let Some(verdicts) = &mut self.verdicts else {
            return Ok(());
        };
        let rule = match outcome.rule {
            NO_RULE => "null",
            counter => self.judges.quoted_name(counter),
        };
        writeln!(
            verdicts,
            r#"{{"packet":{index},"verdict":"{}","reason":"{}","rule":{rule}}}"#,
            outcome.verdict.name(),
            outcome.reason.name(),
        )
        .context("the verdicts cannot be written")
    }

    fn tick(&mut self, time: Time) -> anyhow::Result<()> {
        if let Some(detector) = &mut self.detector {
            let snapshot = self.judges.snapshot(self.clock.to_engine(time), time)?;
            self.report.see(time, &snapshot.sightings);
            self.report.note(time, detector.tick(&snapshot));
            self.judges.give_back(snapshot);
        }
        Ok(())
    }
}
