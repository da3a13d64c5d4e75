//! A program and the frame it is timed on, and timing many of them side by side.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Result, bail};

use super::kernel;
use super::prologue::{self, Drawn, XDP_DROP};

/// Whether the source is the same in each run, or drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heat {
    Hot,
    Cold,
}

/// One line of the result.
pub struct Contender {
    pub subject: String,
    pub case: &'static str,
    pub v6: bool,
    pub heat: Heat,
    program: OwnedFd,
    frame: Vec<u8>,
    /// What each run has to answer, so that nothing else than the case is timed.
    verdict: u32,
    /// The program that a prologue goes on to, with its table.
    _kept: Option<OwnedFd>,
}

/// Nanoseconds of one run in each round, in ascending order.
pub struct Timing(Vec<u32>);

impl Contender {
    /// `program` on one frame, again and again.
    pub fn hot(
        subject: &str,
        case: &'static str,
        program: BorrowedFd<'_>,
        frame: Vec<u8>,
        verdict: u32,
    ) -> Result<Self> {
        Ok(Self {
            subject: subject.to_owned(),
            case,
            v6: is_v6(&frame),
            heat: Heat::Hot,
            program: program.try_clone_to_owned()?,
            frame,
            verdict,
            _kept: None,
        })
    }

    /// `program` on a frame whose source is drawn at random before each run.
    pub fn cold(
        subject: &str,
        case: &'static str,
        program: BorrowedFd<'_>,
        frame: Vec<u8>,
        verdict: u32,
        frags: bool,
    ) -> Result<Self> {
        let v6 = is_v6(&frame);
        let drawn = if v6 { Drawn::V6Source } else { Drawn::V4Source };
        let [program, table] = prologue::before(program, drawn, frags)?;
        Ok(Self {
            subject: subject.to_owned(),
            case,
            v6,
            heat: Heat::Cold,
            program,
            frame,
            verdict,
            _kept: Some(table),
        })
    }

    /// The floor: an empty program, and one behind each prologue.
    pub fn floors(v4: &[u8], v6: &[u8]) -> Result<Vec<Self>> {
        let empty = prologue::empty(true)?;
        let (fd, name, case) = (empty.as_fd(), EMPTY, "drop");
        Ok(vec![
            Self::hot(name, case, fd, v4.to_vec(), XDP_DROP)?,
            Self::cold(name, case, fd, v4.to_vec(), XDP_DROP, true)?,
            Self::cold(name, case, fd, v6.to_vec(), XDP_DROP, true)?,
        ])
    }

    fn run(&self, repeat: u32) -> Result<u32> {
        let run = kernel::run(self.program.as_fd(), &self.frame, repeat)?;
        // The verdict is that of the last run. Behind a prologue its source may have been one of
        // the few that are impossible, which every firewall may drop.
        if run.verdict != self.verdict && !(self.heat == Heat::Cold && run.verdict == XDP_DROP) {
            bail!(
                "{}, {}: answered {} where {} was expected",
                self.subject,
                self.case,
                run.verdict,
                self.verdict
            );
        }
        Ok(run.nanoseconds)
    }
}

pub const EMPTY: &str = "empty program";

/// Times every contender in turn, `rounds` times over, so that what else the machine does falls on
/// all of them alike.
pub fn time(contenders: &[Contender], rounds: u32, repeat: u32) -> Result<Vec<Timing>> {
    let mut samples: HashMap<usize, Vec<u32>> = HashMap::new();
    for round in 0..=rounds {
        for (index, contender) in contenders.iter().enumerate() {
            let nanoseconds = contender.run(repeat)?;
            // The first round only warms up.
            if round > 0 {
                samples.entry(index).or_default().push(nanoseconds);
            }
        }
        if round > 0 && (round % 5 == 0 || round == rounds) {
            eprintln!("{round} of {rounds} rounds");
        }
    }
    Ok((0..contenders.len())
        .map(|index| Timing::new(samples.remove(&index).unwrap_or_default()))
        .collect())
}

impl Timing {
    fn new(mut samples: Vec<u32>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    pub fn median(&self) -> u32 {
        self.quantile(2, 4)
    }

    /// The lower and the upper quartile.
    pub fn quartiles(&self) -> (u32, u32) {
        (self.quantile(1, 4), self.quantile(3, 4))
    }

    pub fn least(&self) -> u32 {
        self.quantile(0, 4)
    }

    fn quantile(&self, part: usize, of: usize) -> u32 {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * part / of).copied().unwrap_or(0)
    }
}

fn is_v6(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x86, 0xdd])
}
