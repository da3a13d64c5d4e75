//! A program and what it is timed on, and timing many of them side by side.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Result, bail};
use serde::Serialize;

use super::kernel::{self, Hook};
use super::prologue::{self, Drawn, Header, TC_DROP, XDP_DROP};

/// What changes from run to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Heat {
    /// Nothing: one frame.
    Hot,
    /// The source is drawn at random.
    Cold,
    /// One of [`FEW`] headers at random: what a program reads stays in the nearest caches.
    Few,
    /// One of [`MANY`] headers at random: more than the nearest caches hold.
    Many,
}

pub const FEW: usize = 64;
pub const MANY: usize = 16_384;

/// What is timed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Label {
    pub subject: String,
    pub case: String,
    pub v6: bool,
    pub egress: bool,
    pub heat: Heat,
}

/// What a run may answer, so that nothing else than the case is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Only(u32),
    /// The source may have been one of the few that are impossible, which every firewall may drop.
    OrDrop(u32),
    /// The headers meet different rules.
    Verdict,
}

/// One line of the result, before it is timed.
pub struct Contender {
    pub label: Label,
    program: OwnedFd,
    frame: Vec<u8>,
    answer: Answer,
    /// The program that a prologue goes on to, with its tables.
    _kept: Vec<OwnedFd>,
}

/// One line of the result. Times are nanoseconds of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    #[serde(flatten)]
    pub label: Label,
    pub median_ns: u32,
    pub quartiles_ns: (u32, u32),
    pub least_ns: u32,
    /// What it costs over the empty program behind the same prologue: the middle of the rounds'
    /// differences.
    pub over_empty_ns: i64,
}

pub const EMPTY: &str = "empty program";

impl Contender {
    /// `program` on one frame, again and again.
    pub fn hot(
        label: Label,
        program: BorrowedFd<'_>,
        frame: Vec<u8>,
        verdict: u32,
    ) -> Result<Self> {
        Ok(Self {
            label,
            program: program.try_clone_to_owned()?,
            frame,
            answer: Answer::Only(verdict),
            _kept: Vec::new(),
        })
    }

    /// `program` on a frame whose source is drawn at random before each run.
    pub fn cold(
        label: Label,
        program: BorrowedFd<'_>,
        frame: Vec<u8>,
        answer: Answer,
        hook: Hook,
    ) -> Result<Self> {
        let drawn = if label.v6 {
            Drawn::V6Source
        } else {
            Drawn::V4Source
        };
        let kept = prologue::before(program, drawn, hook)?;
        Self::behind(label, kept, frame, answer)
    }

    /// `program` on one of these frames, drawn at random before each run. They are repeated until
    /// they are as many as the label's heat wants.
    pub fn drawn(
        label: Label,
        program: BorrowedFd<'_>,
        frames: &[Vec<u8>],
        answer: Answer,
        hook: Hook,
    ) -> Result<Self> {
        let Some(first) = frames.first() else {
            bail!("{}, {}: no headers", label.subject, label.case);
        };
        let count = if label.heat == Heat::Many { MANY } else { FEW };
        let headers: Vec<Header> = frames
            .iter()
            .cycle()
            .take(count)
            .map(|frame| prologue::header_of(frame))
            .collect::<Result<_>>()?;
        let kept = prologue::before_headers(program, &headers, hook)?;
        Self::behind(label, kept, prologue::padded(first), answer)
    }

    fn behind(
        label: Label,
        mut kept: Vec<OwnedFd>,
        frame: Vec<u8>,
        answer: Answer,
    ) -> Result<Self> {
        let program = kept.remove(0);
        Ok(Self {
            label,
            program,
            frame,
            answer,
            _kept: kept,
        })
    }

    /// The floors: an empty program, and one behind each prologue; they come first in each group.
    pub fn floors(v4: &[u8], v6: &[u8]) -> Result<Vec<Self>> {
        let (empty, tc) = (prologue::empty(Hook::XdpFrags)?, prologue::empty(Hook::Tc)?);
        let label = |heat, v6, egress| Label {
            subject: EMPTY.to_owned(),
            case: "drop".to_owned(),
            v6,
            egress,
            heat,
        };
        let (fd, drop, hook) = (empty.as_fd(), Answer::Only(XDP_DROP), Hook::XdpFrags);
        let frames = [v4.to_vec()];
        Ok(vec![
            Self::hot(label(Heat::Hot, false, false), fd, v4.to_vec(), XDP_DROP)?,
            Self::hot(
                label(Heat::Hot, false, true),
                tc.as_fd(),
                v4.to_vec(),
                TC_DROP,
            )?,
            Self::cold(label(Heat::Cold, false, false), fd, v4.to_vec(), drop, hook)?,
            Self::cold(label(Heat::Cold, true, false), fd, v6.to_vec(), drop, hook)?,
            Self::drawn(label(Heat::Few, false, false), fd, &frames, drop, hook)?,
            Self::drawn(label(Heat::Many, false, false), fd, &frames, drop, hook)?,
        ])
    }

    fn run(&self, repeat: u32) -> Result<u32> {
        let run = kernel::run(self.program.as_fd(), &self.frame, repeat)?;
        // The verdict is that of the last run.
        let right = match self.answer {
            Answer::Only(verdict) => run.verdict == verdict,
            Answer::OrDrop(verdict) => run.verdict == verdict || run.verdict == XDP_DROP,
            Answer::Verdict => [XDP_DROP, prologue::XDP_PASS].contains(&run.verdict),
        };
        if !right {
            bail!(
                "{}, {}: answered {} where {:?} was expected",
                self.label.subject,
                self.label.case,
                run.verdict,
                self.answer
            );
        }
        Ok(run.nanoseconds)
    }
}

/// Times every contender in turn, `rounds` times over, so that what else the machine does falls on
/// all of them alike.
pub fn time(contenders: &[Contender], rounds: u32, repeat: u32) -> Result<Vec<Line>> {
    let mut samples = vec![Vec::new(); contenders.len()];
    for round in 0..=rounds {
        for (contender, samples) in contenders.iter().zip(&mut samples) {
            let nanoseconds = contender.run(repeat)?;
            // The first round only warms up.
            if round > 0 {
                samples.push(nanoseconds);
            }
        }
    }
    Ok(contenders
        .iter()
        .zip(&samples)
        .map(|(contender, own)| {
            let floor = floor_of(&contender.label, contenders).map(|floor| &samples[floor]);
            line(&contender.label, own, floor)
        })
        .collect())
}

fn floor_of(label: &Label, contenders: &[Contender]) -> Option<usize> {
    let fits = |floor: &Label| {
        floor.subject == EMPTY
            && floor.heat == label.heat
            && floor.egress == label.egress
            && (label.heat != Heat::Cold || floor.v6 == label.v6)
    };
    contenders.iter().position(|other| fits(&other.label))
}

fn line(label: &Label, own: &[u32], floor: Option<&Vec<u32>>) -> Line {
    let sorted = ascending(own.to_vec());
    let over = floor.map(|floor| {
        let pairs = own.iter().zip(floor);
        ascending(
            pairs
                .map(|(own, floor)| i64::from(*own) - i64::from(*floor))
                .collect(),
        )
    });
    Line {
        label: label.clone(),
        median_ns: quantile(&sorted, 2),
        quartiles_ns: (quantile(&sorted, 1), quantile(&sorted, 3)),
        least_ns: quantile(&sorted, 0),
        over_empty_ns: over.map_or(0, |over| quantile(&over, 2)),
    }
}

fn ascending<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values
}

/// The value that `quarters` quarters of the sorted values lie below.
pub fn quantile<T: Copy + Default>(sorted: &[T], quarters: usize) -> T {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * quarters / 4).copied().unwrap_or_default()
}
