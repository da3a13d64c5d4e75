//! Who judges a replay's packets: the host engine alone, or the kernel with the host engine
//! beside it.
//!
//! Beside the kernel, the host engine sees every packet, so that its connections, bans and counts
//! are the kernel's. It judges the frames that the kernel's test run cannot take, and on all
//! others the two must agree.

use std::collections::HashMap;
use std::fmt;

use firewall_common::Direction;
use firewall_common::layout::{Counter, FIRST_POLICY_COUNTER, NO_RULE};

use ipnet::IpNet;

use super::outcome::Outcome;
use super::report::EngineKind;
use super::supplement::Supplement;
use crate::datapath::TestRun;
use crate::detect::{Snapshot, Time};
use crate::engine::{HostEngine, builtin_name};
use crate::policy::{Compiled, Policy};

/// Differences between the engines that are told in full.
const TOLD_DIFFERENCES: usize = 20;

/// The engines of one replay.
pub struct Judges {
    host: HostEngine,
    /// The policy's services by name and counter, in its order.
    services: Vec<(String, u32)>,
    kernel: Option<Kernel>,
    /// Names of the rules in the order of the report, with their counters.
    rules: Vec<(String, u32)>,
    /// The same names as JSON strings, by counter.
    quoted: HashMap<u32, String>,
}

/// The kernel's side, and what must be added to it.
struct Kernel {
    programs: TestRun,
    /// What the host engine counted for the frames that the kernel could not take.
    supplement: Supplement,
    differences: Vec<String>,
    mismatched: u64,
}

impl Judges {
    /// The judges that were asked for, and why the kernel is not among them if that was left open.
    pub fn choose(
        wanted: Option<EngineKind>,
        policy: &Policy,
        compiled: Compiled,
    ) -> anyhow::Result<(Self, Option<String>)> {
        let host_alone = |compiled| Self::new(policy, compiled, None);
        if wanted == Some(EngineKind::Host) {
            return Ok((host_alone(compiled), None));
        }
        match TestRun::new(compiled.clone()) {
            Ok(programs) => Ok((Self::new(policy, compiled, Some(programs)), None)),
            Err(error) if wanted.is_none() => {
                Ok((host_alone(compiled), Some(format!("{error:#}"))))
            }
            Err(error) => Err(error),
        }
    }

    /// Judges under `policy`, which was compiled to `compiled`.
    fn new(policy: &Policy, compiled: Compiled, programs: Option<TestRun>) -> Self {
        let policy_rules = policy.rules.iter().filter_map(|rule| {
            let counter = compiled.counters.of(&rule.name)?;
            Some((rule.name.clone(), counter))
        });
        let builtin = (0..FIRST_POLICY_COUNTER)
            .filter_map(|counter| Some((builtin_name(counter)?.to_owned(), counter)));
        let rules: Vec<(String, u32)> = policy_rules.chain(builtin).collect();
        let quoted = rules
            .iter()
            .map(|(name, counter)| (*counter, serde_json::Value::from(name.as_str()).to_string()))
            .collect();
        let counters = rules.iter().map(|(_, counter)| *counter).collect();
        let services = policy.services(&compiled.counters);
        let services = services.map(|(name, rule)| (name.to_owned(), rule));
        let services = services.collect();
        let mut host = HostEngine::new(compiled);
        host.watch();
        Self {
            host,
            services,
            kernel: programs.map(|programs| Kernel {
                programs,
                supplement: Supplement::new(counters),
                differences: Vec::new(),
                mismatched: 0,
            }),
            rules,
            quoted,
        }
    }

    /// Who has the say.
    pub fn kind(&self) -> EngineKind {
        match self.kernel {
            Some(_) => EngineKind::Kernel,
            None => EngineKind::Host,
        }
    }

    /// Bans a prefix for good.
    pub fn ban(&mut self, prefix: IpNet) -> anyhow::Result<()> {
        self.host.ban(prefix, u64::MAX)?;
        match &self.kernel {
            Some(kernel) => kernel.programs.ban(prefix, None),
            None => Ok(()),
        }
    }

    /// Judges packet `index`.
    #[inline]
    pub fn judge(
        &mut self,
        index: u64,
        frame: &[u8],
        direction: Direction,
        now: Time,
    ) -> anyhow::Result<Outcome> {
        let Some(kernel) = &mut self.kernel else {
            return Ok(self.host.judge(frame, direction, now).judgement.into());
        };
        let Ok(judgement) = kernel.programs.judge(frame, direction, now)? else {
            let (outcome, connection) =
                kernel
                    .supplement
                    .judge(&mut self.host, frame, direction, now);
            if let Some((key, connection)) = connection {
                kernel.programs.enter(&key, connection)?;
            }
            return Ok(outcome);
        };
        let outcome = Outcome::from(judgement);
        let expected = Outcome::from(self.host.judge(frame, direction, now).judgement);
        if outcome != expected {
            self.differs(index, outcome, expected);
        }
        Ok(outcome)
    }

    #[cold]
    fn differs(&mut self, index: u64, outcome: Outcome, expected: Outcome) {
        let (said, would_say) = (self.told(outcome), self.told(expected));
        if let Some(kernel) = &mut self.kernel {
            kernel.mismatched += 1;
            if kernel.differences.len() < TOLD_DIFFERENCES {
                let line = format!("packet {index}: kernel {said}, host {would_say}");
                kernel.differences.push(line);
            }
        }
    }

    /// All counts as of `now`, which is `time` on the capture's clock.
    pub fn snapshot(&mut self, now: Time, time: Time) -> anyhow::Result<Snapshot> {
        // The host engine sees every packet, also beside the kernel.
        let services = self.services.iter();
        let services = services
            .map(|(name, rule)| self.host.service(name, *rule))
            .collect();
        let sightings = self.host.sightings(now, time);
        let clock = now / 1_000_000;
        Ok(match &mut self.kernel {
            None => Snapshot {
                time,
                clock,
                host: self.host.host_counts(),
                sources: self.host.sources(now, time),
                services,
                sightings,
                ..Snapshot::default()
            },
            Some(kernel) => {
                let mut snapshot = Snapshot {
                    time,
                    clock,
                    host: kernel.programs.host_counts()?,
                    sources: kernel.programs.sources(now, time),
                    services,
                    sightings,
                    ..Snapshot::default()
                };
                kernel.supplement.add_to(&mut snapshot, now);
                snapshot
            }
        })
    }

    /// Takes a snapshot back that nobody needs any more.
    pub fn give_back(&mut self, snapshot: Snapshot) {
        self.host.give_back(snapshot.sources, snapshot.sightings);
    }

    /// Hits of the policy's rules in its order, then of the built-in ones that were hit.
    pub fn rules(&mut self) -> Vec<(String, Counter)> {
        let counters = self.rules.iter().map(|(_, counter)| *counter);
        let hits: Vec<Counter> = match &self.kernel {
            None => counters.map(|counter| self.host.hits(counter)).collect(),
            Some(kernel) => {
                let hits = counters.map(|counter| kernel.programs.hits(counter));
                let mut hits: Vec<Counter> = hits.collect();
                kernel.supplement.add_hits(&mut hits);
                hits
            }
        };
        let named = self.rules.iter().zip(hits);
        named
            .filter(|((_, counter), hits)| *counter >= FIRST_POLICY_COUNTER || hits.packets > 0)
            .map(|((name, _), hits)| (name.clone(), hits))
            .collect()
    }

    /// A rule's name as a JSON string.
    pub fn quoted_name(&self, counter: u32) -> &str {
        self.quoted.get(&counter).map_or("null", String::as_str)
    }

    /// Packets that the kernel could not take.
    pub fn host_judged(&self) -> u64 {
        self.kernel
            .as_ref()
            .map_or(0, |kernel| kernel.supplement.packets())
    }

    /// Packets that the engines judged differently, where both judge.
    pub fn mismatches(&self) -> Option<u64> {
        self.kernel.as_ref().map(|kernel| kernel.mismatched)
    }

    /// The first of them, in words.
    pub fn differences(&self) -> &[String] {
        self.kernel
            .as_ref()
            .map_or(&[], |kernel| &kernel.differences)
    }

    fn told(&self, outcome: Outcome) -> String {
        let rule = match outcome.rule {
            NO_RULE => String::new(),
            counter => format!(" {}", self.quoted_name(counter)),
        };
        format!("{} {}{rule}", outcome.verdict.name(), outcome.reason.name())
    }
}

impl fmt::Debug for Judges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Judges")
            .field("kind", &self.kind())
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}
