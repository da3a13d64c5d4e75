//! One policy and its traffic, judged by everybody.

use std::fmt::Write as _;
use std::time::Duration;

use firewall_common::decide::Judgement;
use firewall_common::layout::{FIRST_POLICY_COUNTER, NO_RULE};
use firewall_common::{Direction, Reason, Verdict};
use firewall_user::datapath::{TestRun, clock};
use firewall_user::engine::{HostEngine, builtin_name};
use firewall_user::policy::{Environment, Policy};

use crate::generate::policy::policy;
use crate::generate::random::Random;
use crate::generate::traffic::{Event, Traffic};
use crate::oracle::{Answer, INTERFACE, Oracle};

/// How many rules a policy has: none, one word of them, just more than one, many words.
const SIZES: [usize; 12] = [0, 1, 3, 8, 20, 40, 64, 80, 90, 120, 200, 300];
/// As many as a policy may have (`MAX_RULES`).
const LARGE: usize = 4_096;
/// One policy in this many is large.
const LARGE_EVERY: usize = 60;

/// Asks for the kernel programs to be among the judges.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

pub struct Contest {
    seed: u64,
    policy: Policy,
    traffic: Traffic,
    oracle: Oracle,
    host: HostEngine,
    kernel: Option<TestRun>,
    /// Names of the rules by counter.
    names: Vec<Option<String>>,
}

impl Contest {
    pub fn new(seed: u64, kernel: Option<Kernel>) -> Self {
        let mut random = Random::new(seed);
        // The kernel ends bans by its own clock, so the packets' clock begins there.
        let start = kernel.map_or(10_000_000_000_000, |Kernel| clock::monotonic());
        // Thousands of rules of which hundreds expire take the verifier too many steps.
        let rules = if kernel.is_none() && random.below(LARGE_EVERY) == 0 {
            LARGE
        } else {
            random.pick(&SIZES)
        };
        let policy = policy(&mut random, rules, start);
        let environment = Environment {
            interfaces: vec![INTERFACE.to_owned(), "edge1".to_owned()],
            ..Environment::default()
        };
        let compiled = policy
            .compile(&environment)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{policy:#?}"));
        let mut names = vec![None; FIRST_POLICY_COUNTER as usize + rules];
        for (counter, name) in names.iter_mut().enumerate() {
            *name = builtin_name(counter as u32).map(str::to_owned);
        }
        for (name, counter) in compiled.counters.iter() {
            names[counter as usize] = Some(name.to_owned());
        }
        let kernel = kernel.map(|Kernel| {
            TestRun::new(compiled.clone())
                .unwrap_or_else(|error| panic!("seed {seed}, {rules} rules: {error:?}"))
        });
        Self {
            seed,
            traffic: Traffic::new(random, &policy, start),
            oracle: Oracle::new(policy.clone()),
            host: HostEngine::new(compiled),
            policy,
            kernel,
            names,
        }
    }

    /// Judges `packets` packets; returns how many were, which lacks those that the kernel does not
    /// take.
    pub fn run(mut self, packets: u64) -> u64 {
        let mut judged = 0;
        for _ in 0..packets {
            match self.traffic.next() {
                Event::Ban { prefix, until } => {
                    // Bans of too many different lengths are refused, by both alike.
                    let taken = self.host.ban(prefix, until).is_ok();
                    if taken {
                        self.oracle.ban(prefix, until);
                    }
                    if let Some(kernel) = &self.kernel {
                        let duration = until.saturating_sub(clock::monotonic());
                        let ban = kernel.ban(prefix, Some(Duration::from_nanos(duration)));
                        assert_eq!(ban.is_ok(), taken, "seed {}: ban of {prefix}", self.seed);
                    }
                }
                Event::Packet { frame, direction } => {
                    judged += u64::from(self.judge(&frame, direction));
                }
            }
        }
        self.compare_counts();
        judged
    }

    fn judge(&mut self, frame: &[u8], direction: Direction) -> bool {
        let now = self.traffic.now;
        let mut answers = Vec::with_capacity(3);
        if let Some(kernel) = &mut self.kernel {
            let judgement = kernel.judge(frame, direction, now);
            match judgement.unwrap_or_else(|error| panic!("seed {}: {error:?}", self.seed)) {
                Ok(judgement) => answers.push(("kernel", judgement)),
                Err(_) => return false,
            }
        }
        let host = self.host.judge(frame, direction, now).judgement;
        answers.push(("host engine", host));
        let expected = self.oracle.judge(frame, direction, now);
        if answers
            .iter()
            .any(|(_, judgement)| !self.same(judgement, &expected))
        {
            self.complain(frame, direction, &answers, &expected);
        }
        true
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

    fn compare_counts(&self) {
        for (counter, name) in self.names.iter().enumerate() {
            let Some(name) = name else { continue };
            let oracle = self.oracle.hits.of(name);
            let host = self.host.hits(counter as u32);
            let host = (host.packets, host.bytes);
            let kernel = self.kernel.as_ref().map_or(oracle, |kernel| {
                let hits = kernel.hits(counter as u32).expect("hits of a rule");
                (hits.packets, hits.bytes)
            });
            if host != oracle || kernel != oracle {
                self.fail(&format!(
                    "packets and bytes of {name}: host engine {host:?}, kernel {kernel:?}, oracle {oracle:?}\n"
                ));
            }
        }
    }

    fn complain(
        &self,
        frame: &[u8],
        direction: Direction,
        answers: &[(&str, Judgement)],
        expected: &Answer,
    ) -> ! {
        let hex = frame.iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let mut told = format!("{} packet {hex}\n", direction.name());
        for (who, judgement) in answers {
            let rule = self.name(judgement.rule);
            told += &line(who, judgement.verdict, judgement.reason, rule);
        }
        let rule = expected.rule.as_deref();
        told += &line("oracle", expected.verdict, expected.reason, rule);
        self.fail(&told)
    }

    /// Fails the test with all that repeats it.
    fn fail(&self, told: &str) -> ! {
        let (seed, now) = (self.seed, self.traffic.now);
        let file = format!("{}/policy-{seed}.txt", env!("CARGO_TARGET_TMPDIR"));
        match std::fs::write(&file, format!("{:#?}", self.policy)) {
            Ok(()) => panic!("seed {seed} at {now} ns: {told}policy in {file}"),
            Err(error) => panic!(
                "seed {seed} at {now} ns: {told}policy not in {file}: {error}\n{:#?}",
                self.policy
            ),
        }
    }
}

fn line(who: &str, verdict: Verdict, reason: Reason, rule: Option<&str>) -> String {
    format!(
        "  {who}: {} {} {}\n",
        verdict.name(),
        reason.name(),
        rule.unwrap_or("-")
    )
}
