//! Palisade's programs as they are loaded in service, one copy for each policy, each case checked
//! for the reason of its verdict before it is timed.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use firewall_common::{Direction, Reason, Verdict};
use firewall_user::datapath::{TestRun, clock};
use firewall_user::policy::{Environment, Policy};
use ipnet::IpNet;

use super::contender::{Contender, Heat};
use super::kernel::{self, Size};
use super::policies::{
    self, BANNED, CLOSED_PORT, DROPPED_PORT, LISTED, OPEN_PORT, STRANGER, ack, opening_and_answer,
    syn,
};
use super::prologue::{XDP_DROP, XDP_PASS};

/// Sizes of the policies of nothing but rules.
pub const RULES: [usize; 4] = [1, 10, 100, 1_000];

/// The contenders and the sizes of the programs, by subject.
#[derive(Default)]
pub struct Field {
    pub contenders: Vec<Contender>,
    pub sizes: Vec<(String, &'static str, Size)>,
    /// What could not be measured, and why.
    pub missing: Vec<String>,
    // They keep the maps.
    runs: Vec<TestRun>,
}

/// A loaded policy whose cases are being added.
struct Subject<'f> {
    field: &'f mut Field,
    name: String,
    run: TestRun,
}

impl Field {
    /// Everything that is timed of Palisade. `list` is the large blocklist's file.
    pub fn fill(&mut self, list: Option<&Path>) -> Result<()> {
        self.like_xdp_filter()?;
        for count in RULES {
            // A policy that the kernel refuses is a result, too.
            if let Err(error) = self.of_rules(count) {
                self.missing.push(format!("{count} rules: {error:#}"));
            }
        }
        self.connections()?;
        self.bans()?;
        match list {
            Some(file) => self.of_list(file)?,
            None => self.missing.push(
                "no blocklists/ipsum/ipsum.txt in ../shared/data or in PALISADE_DATA".to_owned(),
            ),
        }
        Ok(())
    }

    fn like_xdp_filter(&mut self) -> Result<()> {
        let mut subject = self.subject(
            "Palisade, five addresses and a port",
            &policies::like_xdp_filter(),
        )?;
        for family in [0, 1] {
            let (listed, stranger) = (LISTED[family], STRANGER[family]);
            subject.hot("drop by address", syn(listed, OPEN_PORT)?, Reason::Rule)?;
            let port = syn(stranger, DROPPED_PORT)?;
            subject.hot("drop by port", port.clone(), Reason::Rule)?;
            subject.cold("drop by port", port, Reason::Rule)?;
            let other = syn(stranger, OPEN_PORT)?;
            subject.hot("pass, nothing matches", other.clone(), Reason::Default)?;
            subject.cold("pass, nothing matches", other, Reason::Default)?;
        }
        subject.done()
    }

    fn of_rules(&mut self, count: usize) -> Result<()> {
        let plural = if count == 1 { "rule" } else { "rules" };
        let mut subject = self.subject(
            &format!("Palisade, {count} {plural}"),
            &policies::of_rules(count),
        )?;
        for stranger in STRANGER {
            let mut both = |case, frame: Vec<u8>, reason| {
                subject.hot(case, frame.clone(), reason)?;
                subject.cold(case, frame, reason)
            };
            both("pass by rule", syn(stranger, OPEN_PORT)?, Reason::Rule)?;
            both(
                "drop by default",
                syn(stranger, CLOSED_PORT)?,
                Reason::Default,
            )?;
            if count > 1 {
                both("drop by rule", syn(stranger, DROPPED_PORT)?, Reason::Rule)?;
            }
        }
        subject.done()
    }

    /// Packets of connections, and packets that only claim to be.
    fn connections(&mut self) -> Result<()> {
        let mut subject =
            self.subject("Palisade, 10 rules, a connection", &policies::of_rules(10))?;
        for stranger in STRANGER {
            let (opening, answer) = opening_and_answer(stranger)?;
            subject.judge(&opening, Direction::Outbound)?;
            subject.hot("pass established", answer, Reason::Established)?;
            let claim = ack(stranger, CLOSED_PORT)?;
            subject.hot(
                "drop, ACK without connection",
                claim.clone(),
                Reason::Default,
            )?;
            subject.cold("drop, ACK without connection", claim, Reason::Default)?;
        }
        subject.done()
    }

    fn bans(&mut self) -> Result<()> {
        let mut subject = self.subject("Palisade, 10 rules, bans", &policies::of_rules(10))?;
        for banned in BANNED {
            subject.run.ban(IpNet::from(banned), None)?;
        }
        for family in [0, 1] {
            subject.hot("drop by ban", syn(BANNED[family], OPEN_PORT)?, Reason::Ban)?;
            let other = syn(STRANGER[family], OPEN_PORT)?;
            subject.hot("pass by rule", other.clone(), Reason::Rule)?;
            subject.cold("pass by rule", other, Reason::Rule)?;
        }
        subject.done()
    }

    fn of_list(&mut self, file: &Path) -> Result<()> {
        let listed = policies::an_address_of(file)?;
        let mut subject = self.subject("Palisade, set of 120,430", &policies::of_list(file))?;
        subject.hot("drop by set", syn(listed, OPEN_PORT)?, Reason::Rule)?;
        let other = syn(STRANGER[0], OPEN_PORT)?;
        subject.hot("pass by rule", other.clone(), Reason::Rule)?;
        subject.cold("pass by rule", other, Reason::Rule)?;
        let closed = syn(STRANGER[0], CLOSED_PORT)?;
        subject.hot("drop by default", closed.clone(), Reason::Default)?;
        subject.cold("drop by default", closed, Reason::Default)?;
        subject.done()
    }

    fn subject(&mut self, name: &str, policy: &str) -> Result<Subject<'_>> {
        let compiled = policy_of(policy)?.compile(&Environment::default())?;
        let mut run = TestRun::live(compiled).with_context(|| name.to_owned())?;
        for (direction, program) in [
            (Direction::Inbound, "ingress"),
            (Direction::Outbound, "egress"),
        ] {
            let size = kernel::size(run.program(direction)?)?;
            self.sizes.push((name.to_owned(), program, size));
        }
        Ok(Subject {
            field: self,
            name: name.to_owned(),
            run,
        })
    }
}

/// Reads a policy; only errors matter here.
pub fn policy_of(text: &str) -> Result<Policy> {
    let read = Policy::parse(text, "bench.toml", Path::new("/"));
    let (policy, _) = read.map_err(|errors| anyhow::anyhow!("{errors}"))?;
    Ok(policy)
}

impl Subject<'_> {
    fn hot(&mut self, case: &'static str, frame: Vec<u8>, reason: Reason) -> Result<()> {
        self.add(case, frame, reason, Heat::Hot)
    }

    fn cold(&mut self, case: &'static str, frame: Vec<u8>, reason: Reason) -> Result<()> {
        self.add(case, frame, reason, Heat::Cold)
    }

    fn add(
        &mut self,
        case: &'static str,
        frame: Vec<u8>,
        reason: Reason,
        heat: Heat,
    ) -> Result<()> {
        let (verdict, found) = self.judge(&frame, Direction::Inbound)?;
        if found != reason {
            bail!(
                "{}, {case}: decided by {}, not by {}",
                self.name,
                found.name(),
                reason.name()
            );
        }
        let verdict = match verdict {
            Verdict::Pass => XDP_PASS,
            Verdict::Drop => XDP_DROP,
        };
        let program = self.run.program(Direction::Inbound)?;
        let program = program.as_fd();
        self.field.contenders.push(match heat {
            Heat::Hot => Contender::hot(&self.name, case, program, frame, verdict)?,
            Heat::Cold => Contender::cold(&self.name, case, program, frame, verdict, true)?,
        });
        Ok(())
    }

    fn judge(&mut self, frame: &[u8], direction: Direction) -> Result<(Verdict, Reason)> {
        let judged = self.run.judge(frame, direction, clock::monotonic())?;
        let judgement = judged
            .ok()
            .context("the kernel does not take a plain frame")?;
        Ok((judgement.verdict, judgement.reason))
    }

    fn done(self) -> Result<()> {
        self.field.runs.push(self.run);
        Ok(())
    }
}
