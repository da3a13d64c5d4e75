//! Palisade's programs as they are loaded in service, one copy for each policy, each case checked
//! for the reason of its verdict before it is timed.

use std::path::Path;

use anyhow::{Context, Result, bail};
use firewall_common::{Direction, Reason, Verdict};
use firewall_user::datapath::{KERNEL_SOURCES, TestRun, clock};
use firewall_user::policy::{Environment, Policy};
use serde::Serialize;

use super::contender::{Answer, Contender, Heat, Label};
use super::kernel::{self, Hook, Size};
use super::prologue::{TC_DROP, TC_NEXT, XDP_DROP, XDP_PASS};

/// Contenders that are timed in turn, with the maps that they stand on.
#[derive(Default)]
pub struct Group {
    pub contenders: Vec<Contender>,
    pub programs: Vec<Program>,
    /// What could not be measured, and why.
    pub missing: Vec<String>,
    runs: Vec<TestRun>,
}

/// A loaded program's size.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    pub policy: String,
    pub program: &'static str,
    /// After the verifier.
    pub instructions: u32,
    pub machine_bytes: u32,
    /// How many the verifier followed.
    pub verified_instructions: u32,
    /// Words of the compiled policy.
    pub image_bytes: u64,
}

/// A loaded policy whose cases are being added.
pub struct Subject<'g> {
    group: &'g mut Group,
    name: String,
    pub run: TestRun,
}

impl Group {
    /// Loads a policy and lets `add` add its cases. What cannot be measured is a result, too.
    pub fn subject(
        &mut self,
        name: &str,
        policy: &str,
        add: impl FnOnce(&mut Subject<'_>) -> Result<()>,
    ) {
        self.subject_with_sources(name, policy, KERNEL_SOURCES, add);
    }

    /// The same with this many places for sources on each CPU.
    pub fn subject_with_sources(
        &mut self,
        name: &str,
        policy: &str,
        sources: u32,
        add: impl FnOnce(&mut Subject<'_>) -> Result<()>,
    ) {
        let added = self
            .load(name, policy, sources)
            .and_then(|mut subject| add(&mut subject).map(|()| subject.run));
        match added {
            Ok(run) => self.runs.push(run),
            Err(error) => {
                // A case that is not what it says it is must not be timed, nor those beside it.
                self.contenders.retain(|other| other.label.subject != name);
                self.missing.push(format!("{name}: {}", brief(&error)));
            }
        }
    }

    fn load(&mut self, name: &str, policy: &str, sources: u32) -> Result<Subject<'_>> {
        let compiled = policy_of(policy)?.compile(&Environment::default())?;
        let image_bytes = size_of_val(&compiled.image[..]) as u64;
        let mut run = TestRun::live_with_sources(compiled, sources)?;
        for (direction, program) in [
            (Direction::Inbound, "ingress"),
            (Direction::Outbound, "egress"),
        ] {
            let size = kernel::size(run.program(direction)?)?;
            self.programs
                .push(Program::new(name, program, size, image_bytes));
        }
        Ok(Subject {
            group: self,
            name: name.to_owned(),
            run,
        })
    }
}

impl Program {
    pub fn new(policy: &str, program: &'static str, size: Size, image_bytes: u64) -> Self {
        Self {
            policy: policy.to_owned(),
            program,
            instructions: size.translated / 8,
            machine_bytes: size.machine,
            verified_instructions: size.verified,
            image_bytes,
        }
    }
}

/// Reads a policy; only errors matter here.
pub fn policy_of(text: &str) -> Result<Policy> {
    let read = Policy::parse(text, "bench.toml", Path::new("/"));
    let (policy, _) = read.map_err(|errors| anyhow::anyhow!("{errors}"))?;
    Ok(policy)
}

/// The beginning of a message: a verifier's, a policy's or a tool's can have thousands of lines, and
/// long ones.
pub fn brief(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let lines = text.lines().take(3);
    let lines = lines.map(|line| line.chars().take(200).collect::<String>());
    lines.collect::<Vec<_>>().join(" ")
}

impl Subject<'_> {
    /// One frame, hot and cold.
    pub fn both(&mut self, case: &str, frame: &[u8], reason: Reason) -> Result<()> {
        self.hot(case, frame, reason)?;
        self.cold(case, frame, reason)
    }

    pub fn hot(&mut self, case: &str, frame: &[u8], reason: Reason) -> Result<()> {
        let answer = self.verified(case, frame, Direction::Inbound, reason)?;
        let label = self.label(case, frame, Heat::Hot, false);
        let program = self.run.program(Direction::Inbound)?;
        let contender = Contender::hot(label, program, frame.to_vec(), answer)?;
        self.group.contenders.push(contender);
        Ok(())
    }

    pub fn cold(&mut self, case: &str, frame: &[u8], reason: Reason) -> Result<()> {
        let answer = self.verified(case, frame, Direction::Inbound, reason)?;
        self.cold_with(case, frame, Answer::OrDrop(answer))
    }

    /// Cold, with sources that may meet any rule.
    pub fn cold_any(&mut self, case: &str, frame: &[u8]) -> Result<()> {
        self.cold_with(case, frame, Answer::Verdict)
    }

    fn cold_with(&mut self, case: &str, frame: &[u8], answer: Answer) -> Result<()> {
        let label = self.label(case, frame, Heat::Cold, false);
        let program = self.run.program(Direction::Inbound)?;
        let contender = Contender::cold(label, program, frame.to_vec(), answer, Hook::XdpFrags)?;
        self.group.contenders.push(contender);
        Ok(())
    }

    /// One of many frames in each run. With a `reason`, each of them is checked for it.
    pub fn drawn(
        &mut self,
        case: &str,
        frames: &[Vec<u8>],
        heat: Heat,
        reason: Option<Reason>,
    ) -> Result<()> {
        let mut answer = Answer::Verdict;
        if let Some(reason) = reason {
            for frame in frames {
                answer = Answer::Only(self.verified(case, frame, Direction::Inbound, reason)?);
            }
        }
        let frame = frames.first().context("no frames")?;
        let label = self.label(case, frame, heat, false);
        let program = self.run.program(Direction::Inbound)?;
        let contender = Contender::drawn(label, program, frames, answer, Hook::XdpFrags)?;
        self.group.contenders.push(contender);
        Ok(())
    }

    /// The way out.
    pub fn egress(&mut self, case: &str, frame: &[u8], reason: Reason) -> Result<()> {
        let answer = self.verified(case, frame, Direction::Outbound, reason)?;
        let label = self.label(case, frame, Heat::Hot, true);
        let program = self.run.program(Direction::Outbound)?;
        let contender = Contender::hot(label, program, frame.to_vec(), answer)?;
        self.group.contenders.push(contender);
        Ok(())
    }

    pub fn judge(&mut self, frame: &[u8], direction: Direction) -> Result<(Verdict, Reason)> {
        let judged = self.run.judge(frame, direction, clock::monotonic())?;
        let judgement = judged
            .ok()
            .context("the kernel does not take a plain frame")?;
        Ok((judgement.verdict, judgement.reason))
    }

    /// What the program answers to a frame, once it is for the right reason.
    fn verified(
        &mut self,
        case: &str,
        frame: &[u8],
        direction: Direction,
        reason: Reason,
    ) -> Result<u32> {
        let (verdict, found) = self.judge(frame, direction)?;
        if found != reason {
            bail!(
                "{case}: decided by {}, not by {}",
                found.name(),
                reason.name()
            );
        }
        Ok(match (direction, verdict) {
            (Direction::Inbound, Verdict::Pass) => XDP_PASS,
            (Direction::Inbound, Verdict::Drop) => XDP_DROP,
            (Direction::Outbound, Verdict::Pass) => TC_NEXT,
            (Direction::Outbound, Verdict::Drop) => TC_DROP,
        })
    }

    fn label(&self, case: &str, frame: &[u8], heat: Heat, egress: bool) -> Label {
        Label {
            subject: self.name.clone(),
            case: case.to_owned(),
            v6: frame.get(12..14) == Some(&[0x86, 0xdd]),
            egress,
            heat,
        }
    }
}
