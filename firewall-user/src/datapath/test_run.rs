//! The loaded kernel programs judging frames that are handed to them (BPF_PROG_TEST_RUN): the
//! kernel engine of `replay`, and what the host engine is compared with.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::Context;
use aya::TestRun as _;
use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use aya::programs::TestRunOptions;
use firewall_common::decide::{Judgement, Scratch};
use firewall_common::layout::{Connection, Counter, FlowKey, total_index};
use firewall_common::limit::Limit;
use firewall_common::signature::{Signature, SignatureTable};
use firewall_common::{Direction, Reason, Verdict};
use ipnet::IpNet;
use memmap2::MmapMut;

use super::maps::Maps;
use super::object::{self, Programs, Purpose, SourceSize};
use crate::detect::{HostCounts, SourceSample, Time};
use crate::engine::builtin_name;
use crate::policy::Compiled;

/// The programs with maps of their own, attached to nothing.
pub struct TestRun {
    programs: Programs,
    maps: Maps,
    connections: HashMap<MapData, FlowKey, Connection>,
    clock: MmapMut,
    scratch: PerCpuArray<MapData, RawScratch>,
    cpu: usize,
    compiled: Compiled,
}

impl std::fmt::Debug for TestRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestRun")
            .field("cpu", &self.cpu)
            .finish_non_exhaustive()
    }
}

/// The kernel's test run does not take a frame: it is too short, or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cannot;

/// A [`Scratch`] as bytes: what the kernel wrote is looked at before it is believed.
type RawScratch = [u8; size_of::<Scratch>()];

impl TestRun {
    /// Loads a compiled policy for a replay: time is what [`Self::judge`] is told, and no sockets
    /// are asked. The calling thread is bound to its CPU, because results are read from there.
    pub fn new(compiled: Compiled) -> anyhow::Result<Self> {
        Self::load(compiled, true, false, SourceSize::default())
    }

    /// As [`Self::new`], with these signatures in force.
    pub fn with_signatures(compiled: Compiled, table: &SignatureTable) -> anyhow::Result<Self> {
        let mut run = Self::load(compiled, true, true, SourceSize::default())?;
        for (slot, signature) in table.slots.iter().enumerate() {
            let Signature {
                until,
                id,
                conditions,
            } = *signature;
            run.maps.signatures().put(slot, id, conditions, until);
        }
        Ok(run)
    }

    /// Loads a compiled policy as it is loaded in service, to be timed: the clock is the kernel's
    /// own, and sockets are asked.
    pub fn live(compiled: Compiled) -> anyhow::Result<Self> {
        Self::load(compiled, false, false, SourceSize::default())
    }

    /// As [`Self::live`], with room for signatures: all that the programs can be asked to do.
    pub fn live_and_signing(compiled: Compiled) -> anyhow::Result<Self> {
        Self::load(compiled, false, true, SourceSize::default())
    }

    /// As [`Self::live`], with places for so many sources on each CPU.
    pub fn live_with_sources(compiled: Compiled, sources: u32) -> anyhow::Result<Self> {
        Self::load(compiled, false, false, SourceSize::of(sources))
    }

    fn load(
        compiled: Compiled,
        replay: bool,
        signatures: bool,
        sources: SourceSize,
    ) -> anyhow::Result<Self> {
        let purpose = Purpose {
            interface: 0,
            source_seed: crate::engine::SOURCE_SEED,
            replay,
            cookies: !replay,
            signatures,
            sources,
        };
        let mut programs = object::load(&compiled, &[purpose], None)?
            .pop()
            .context("no programs were loaded")?;
        let Map::Array(clock) = programs.take_map("REPLAY_CLOCK")? else {
            anyhow::bail!("map REPLAY_CLOCK is no array");
        };
        let clock = object::map_memory(&clock, 8)?;
        let scratch = programs.take_map("SCRATCH")?.try_into()?;
        let mut maps = Maps::open(|name| programs.take_map(name))?;
        maps.sources().begin_new();
        let cpu = bind_to_cpu()?;
        Ok(Self {
            programs,
            connections: maps.connections()?,
            maps,
            clock,
            scratch,
            cpu,
            compiled,
        })
    }

    /// Judges a frame at `now` on the clock that the policy was compiled for.
    pub fn judge(
        &mut self,
        frame: &[u8],
        direction: Direction,
        now: u64,
    ) -> anyhow::Result<Result<Judgement, Cannot>> {
        self.clock[..8].copy_from_slice(&now.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(frame),
            ..TestRunOptions::new()
        };
        let run = match direction {
            Direction::Inbound => self.programs.ingress()?.test_run(options),
            Direction::Outbound => self.programs.egress()?.test_run(options),
        };
        if let Err(error) = run {
            let too = |errno| object::is_errno(&error, errno);
            if too(libc::EINVAL) || too(libc::E2BIG) || too(libc::ENOMEM) {
                return Ok(Err(Cannot));
            }
            return Err(error).context("the kernel's test run");
        }
        let scratch = self.scratch.get(&(direction as u32), 0)?;
        judgement(&scratch[self.cpu]).map(Ok)
    }

    /// Nanoseconds per packet over `repeat` runs on one frame.
    pub fn time(
        &mut self,
        frame: &[u8],
        direction: Direction,
        repeat: u32,
    ) -> anyhow::Result<Duration> {
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat,
            ..TestRunOptions::new()
        };
        let run = match direction {
            Direction::Inbound => self.programs.ingress()?.test_run(options)?,
            Direction::Outbound => self.programs.egress()?.test_run(options)?,
        };
        Ok(run.duration)
    }

    /// The program of a direction, to be run or looked at by other means.
    pub fn program(&mut self, direction: Direction) -> anyhow::Result<BorrowedFd<'_>> {
        let program = match direction {
            Direction::Inbound => self.programs.ingress()?.fd(),
            Direction::Outbound => self.programs.egress()?.fd(),
        };
        Ok(program?.as_fd())
    }

    /// How many instructions the verifier walked through to take the program of a direction; 0 where
    /// the kernel does not tell (before 5.16).
    pub fn verified_instructions(&mut self, direction: Direction) -> anyhow::Result<u32> {
        let info = match direction {
            Direction::Inbound => self.programs.ingress()?.info()?,
            Direction::Outbound => self.programs.egress()?.info()?,
        };
        Ok(info.verified_instruction_count().unwrap_or(0))
    }

    /// Bans a prefix for `duration` on the machine's own clock; `None` is without end.
    pub fn ban(&self, prefix: IpNet, duration: Option<Duration>) -> anyhow::Result<()> {
        self.maps.bans().ban(prefix, duration)
    }

    /// Holds a prefix to a limit for `duration`; `None` is without end.
    pub fn limit(
        &self,
        prefix: IpNet,
        duration: Option<Duration>,
        limit: &Limit,
    ) -> anyhow::Result<()> {
        self.maps.bans().set_limit(limit);
        self.maps.bans().limit(prefix, duration)
    }

    /// Enters a connection that a frame opened or changed which the test run did not take.
    pub fn enter(&mut self, key: &FlowKey, connection: Connection) -> anyhow::Result<()> {
        let entered = self.connections.insert(key, connection, 0);
        entered.context("entering a connection")
    }

    /// Packets and bytes by direction, verdict and reason.
    pub fn totals(&self) -> anyhow::Result<Vec<(Direction, Verdict, Reason, Counter)>> {
        let mut totals = Vec::new();
        for direction in [Direction::Inbound, Direction::Outbound] {
            for verdict in [Verdict::Pass, Verdict::Drop] {
                for reason in Reason::ALL {
                    let index = total_index(0, direction as u32, verdict as u32, reason as u32);
                    totals.push((direction, verdict, reason, self.maps.verdict(index)?));
                }
            }
        }
        Ok(totals)
    }

    /// Packets and bytes of a rule, by its counter.
    pub fn hits(&self, counter: u32) -> Counter {
        self.maps.rule_hits(counter)
    }

    /// Packets and bytes over the limit of a rule, by its counter.
    pub fn limited(&self, counter: u32) -> Counter {
        self.maps.limited(counter)
    }

    /// The name of a counter's rule.
    pub fn rule_name(&self, counter: u32) -> Option<&str> {
        builtin_name(counter).or_else(|| self.compiled.counters.name(counter))
    }

    /// Counts of the whole host.
    pub fn host_counts(&self) -> anyhow::Result<HostCounts> {
        let mut host = HostCounts::default();
        for (direction, verdict, _, counter) in self.totals()? {
            host.add(direction, verdict, counter);
        }
        [host.kinds, host.kinds_outbound] = self.maps.kinds()?;
        Ok(host)
    }

    /// The sources that sent something since the last call; their bitmaps start anew.
    pub fn sources(&mut self, now: u64, time: Time) -> Vec<SourceSample> {
        self.maps.sources().active(now, time)
    }

    /// Whether an address is banned, for tests of the ban table itself.
    pub fn is_banned(&self, address: IpAddr) -> bool {
        let bans = self.maps.bans().bans();
        bans.iter().any(|ban| ban.prefix.contains(&address))
    }
}

fn judgement(raw: &RawScratch) -> anyhow::Result<Judgement> {
    use std::mem::offset_of;
    let base = offset_of!(Scratch, judgement);
    let number = |offset: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&raw[base + offset..base + offset + 4]);
        u32::from_ne_bytes(bytes)
    };
    let verdict = Verdict::from_index(number(offset_of!(Judgement, verdict)));
    let reason = Reason::from_index(number(offset_of!(Judgement, reason)));
    Ok(Judgement {
        verdict: verdict.context("the program left an unknown verdict")?,
        reason: reason.context("the program left an unknown reason")?,
        rule: number(offset_of!(Judgement, rule)),
        log: raw[base + offset_of!(Judgement, log)] != 0,
    })
}

/// Binds the calling thread to the CPU that it runs on; returns which.
fn bind_to_cpu() -> anyhow::Result<usize> {
    let cpu = rustix::thread::sched_getcpu();
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).context("binding the thread to a CPU")?;
    Ok(cpu)
}
