//! One policy and its packets, judged by everybody.

use std::fmt::{self, Write as _};
use std::time::Duration;

use firewall_common::decide::Judgement;
use firewall_common::layout::{Counter, FIRST_POLICY_COUNTER, NO_RULE};
use firewall_common::{Direction, Reason, Verdict};
use firewall_user::datapath::{TestRun, clock};
use firewall_user::engine::{HostEngine, builtin_name};
use firewall_user::policy::{Environment, Policy};

use crate::generate::policy::{Size, policy};
use crate::generate::random::Random;
use crate::generate::traffic::{Event, Traffic};
use crate::oracle::{Answer, INTERFACE, Oracle};
use crate::tally::Tally;

/// Who judges beside the host engine and the oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judges {
    WithoutKernel,
    WithKernel,
}

/// Where judges differ, with all that repeats it.
#[derive(Debug)]
pub struct Disagreement(String);

impl fmt::Display for Disagreement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

pub struct Contest {
    /// What repeats it: a seed, or a set.
    name: String,
    policy: Policy,
    oracle: Oracle,
    host: HostEngine,
    kernel: Option<TestRun>,
    /// Names of the rules by counter.
    names: Vec<Option<String>>,
    /// The packets' clock when the contest began.
    start: u64,
    tally: Tally,
}

/// A contest in random traffic, whose policy follows from a seed, too; with `large` it may have as many
/// rules as fit.
pub fn random(seed: u64, judges: Judges, large: bool, packets: u64) -> Result<Tally, Disagreement> {
    let mut random = Random::new(seed);
    let start = start(judges);
    let size = Size::random(&mut random, large);
    let policy = policy(&mut random, size, start);
    let mut contest = Contest::new(format!("seed {seed}"), policy, judges, start)?;
    contest.traffic(random, packets)?;
    contest.end("random policies and traffic")
}

/// When the packets' clock begins: the kernel ends bans by its own.
pub fn start(judges: Judges) -> u64 {
    match judges {
        Judges::WithKernel => clock::monotonic(),
        Judges::WithoutKernel => 10_000_000_000_000,
    }
}

impl Contest {
    pub fn new(
        name: String,
        policy: Policy,
        judges: Judges,
        start: u64,
    ) -> Result<Self, Disagreement> {
        let failed = |what: &str, why: &dyn fmt::Display| {
            let rules = policy.rules.len();
            let file = written(&name, &policy);
            Disagreement(format!(
                "{name}: a policy of {rules} rules is not {what}: {why}\n{file}"
            ))
        };
        let environment = Environment {
            interfaces: vec![INTERFACE.to_owned(), "edge1".to_owned()],
            ..Environment::default()
        };
        let compiled = policy
            .compile(&environment)
            .map_err(|error| failed("compiled", &error))?;
        let mut names = vec![None; FIRST_POLICY_COUNTER as usize + policy.rules.len()];
        for (counter, name) in names.iter_mut().enumerate() {
            *name = builtin_name(counter as u32).map(str::to_owned);
        }
        for (name, counter) in compiled.counters.iter() {
            names[counter as usize] = Some(name.to_owned());
        }
        let kernel = match judges {
            Judges::WithoutKernel => None,
            Judges::WithKernel => {
                let loaded = TestRun::new(compiled.clone());
                Some(loaded.map_err(|error| failed("loaded", &format!("{error:?}")))?)
            }
        };
        let prefixes = policy.sets.iter().map(|set| set.prefixes.len()).sum();
        Ok(Self {
            oracle: Oracle::new(policy.clone()),
            host: HostEngine::new(compiled),
            tally: Tally::of_policy(policy.rules.len(), prefixes),
            name,
            policy,
            kernel,
            names,
            start,
        })
    }

    /// Judges `packets` random packets, made for the policy.
    pub fn traffic(&mut self, random: Random, packets: u64) -> Result<(), Disagreement> {
        let mut traffic = Traffic::new(random, &self.policy, self.start);
        for _ in 0..packets {
            match traffic.next() {
                Event::Ban { prefix, until } => {
                    // Whatever is refused is refused by both alike.
                    let taken = self.host.ban(prefix, until).is_ok();
                    if taken {
                        self.oracle.ban(prefix, until);
                    }
                    if let Some(kernel) = &self.kernel {
                        let duration = until.saturating_sub(clock::monotonic());
                        let ban = kernel.ban(prefix, Some(Duration::from_nanos(duration)));
                        if ban.is_ok() != taken {
                            let told = format!("ban of {prefix}: kernel {ban:?}, host {taken}\n");
                            return Err(self.failure(traffic.now, &told));
                        }
                    }
                }
                Event::Packet { frame, direction } => self.judge(&frame, direction, traffic.now)?,
            }
        }
        Ok(())
    }

    /// Judges one frame, `after` nanoseconds after the beginning.
    pub fn frame(&mut self, frame: &[u8], after: u64) -> Result<(), Disagreement> {
        self.judge(frame, Direction::Inbound, self.start + after)
    }

    /// Compares what the rules have counted.
    pub fn end(mut self, source: &str) -> Result<Tally, Disagreement> {
        for (counter, name) in self.names.iter().enumerate() {
            let Some(name) = name else { continue };
            let pair = |counter: Counter| (counter.packets, counter.bytes);
            let counter = counter as u32;
            let mut kernel = [self.oracle.hits.of(name), self.oracle.limits.over(name)];
            let oracle = kernel;
            let host = [self.host.hits(counter), self.host.limited(counter)].map(pair);
            if let Some(programs) = &self.kernel {
                kernel = [programs.hits(counter), programs.limited(counter)].map(pair);
            }
            if host != oracle || kernel != oracle {
                let told = format!(
                    "packets and bytes of {name}, and over its limit: host engine {host:?}, kernel {kernel:?}, \
                     oracle {oracle:?}\n"
                );
                return Err(self.failure(0, &told));
            }
        }
        self.tally.came_from(source, self.tally.pairs);
        Ok(self.tally)
    }

    fn judge(&mut self, frame: &[u8], direction: Direction, now: u64) -> Result<(), Disagreement> {
        let mut in_kernel = None;
        if let Some(kernel) = &mut self.kernel {
            match kernel.judge(frame, direction, now) {
                Ok(Ok(judgement)) => in_kernel = Some(judgement),
                Ok(Err(_)) => {
                    self.tally.not_taken += 1;
                    return Ok(());
                }
                Err(error) => return Err(self.failure(now, &format!("{error:?}\n"))),
            }
        }
        let host = self.host.judge(frame, direction, now);
        let expected = self.oracle.judge(frame, direction, now);
        let right = |judgement: &Judgement| self.same(judgement, &expected);
        if right(&host.judgement) && in_kernel.as_ref().is_none_or(right) {
            self.tally.count(&host.packet, &host.judgement, direction);
            return Ok(());
        }
        let mut told = format!("{} packet {}\n", direction.name(), hexadecimal(frame));
        for (who, judgement) in [("kernel", in_kernel), ("host engine", Some(host.judgement))] {
            if let Some(Judgement {
                verdict,
                reason,
                rule,
                ..
            }) = judgement
            {
                told += &line(who, verdict, reason, self.name(rule));
            }
        }
        let rule = expected.rule.as_deref();
        told += &line("oracle", expected.verdict, expected.reason, rule);
        Err(self.failure(now, &told))
    }

    fn same(&self, judgement: &Judgement, expected: &Answer) -> bool {
        judgement.verdict == expected.verdict
            && judgement.reason == expected.reason
            && self.name(judgement.rule) == expected.rule.as_deref()
    }

    fn name(&self, counter: u32) -> Option<&str> {
        if counter == NO_RULE {
            return None;
        }
        let name = self.names.get(counter as usize).and_then(Option::as_deref);
        Some(name.unwrap_or("a counter that no rule has"))
    }

    fn failure(&self, now: u64, told: &str) -> Disagreement {
        let file = written(&self.name, &self.policy);
        let pairs = self.tally.pairs;
        Disagreement(format!(
            "{} at {now} ns, after {pairs} packets judged alike: {told}{file}",
            self.name
        ))
    }
}

/// Writes down a policy about which judges differ; says where it is.
fn written(name: &str, policy: &Policy) -> String {
    let file = format!(
        "{}/policy-{}.txt",
        env!("CARGO_TARGET_TMPDIR"),
        name.replace(' ', "-")
    );
    match std::fs::write(&file, format!("{policy:#?}")) {
        Ok(()) => format!("policy in {file}"),
        Err(error) => format!("policy not in {file}: {error}\n{policy:#?}"),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn line(who: &str, verdict: Verdict, reason: Reason, rule: Option<&str>) -> String {
    format!(
        "  {who}: {} {} {}\n",
        verdict.name(),
        reason.name(),
        rule.unwrap_or("-")
    )
}
