//! What two policies are said to decide differently, against packets: each packet that they judge
//! differently belongs to a change that was told, and each change has the packet that it names.

use std::collections::HashSet;
use std::path::Path;

use firewall_common::decide::Circumstances;
use firewall_common::layout::NO_RULE;
use firewall_common::packet::{NO_VLAN, mark};
use firewall_common::{Reason, Verdict};
use firewall_user::engine::{HostEngine, Judged};
use firewall_user::policy::difference::{Change, Decision, compare};
use firewall_user::policy::{Action, Compiled, DefaultAction, Environment, Mode, Policy};
use jiff::Timestamp;

use crate::generate::policy::{Size, policy};
use crate::generate::random::Random;
use crate::generate::traffic::{Event, Traffic};
use crate::oracle::INTERFACE;

const START: u64 = 10_000_000_000_000;
/// Slots of the interfaces; no rule names the last.
const INTERFACES: [&str; 4] = [INTERFACE, "edge1", "nowhere", "elsewhere"];

/// What was seen of some pairs of policies.
#[derive(Debug, Default)]
pub struct Seen {
    pub differing_packets: u64,
    pub changes: u64,
    /// Changes whose example was judged as they say.
    pub shown: u64,
    pub equal_pairs: u64,
}

/// Compares a random policy with one made from it, and with `packets` packets.
pub fn judge(seed: u64, packets: u64, seen: &mut Seen) {
    let mut random = Random::new(seed);
    let size = Size::random(&mut random, false);
    let old = policy(&mut random, size, START);
    let new = altered(&mut random, &old);
    let now = Timestamp::from_nanosecond(i128::from(START)).expect("a time");
    let difference = compare(&old, &new, now);
    assert!(difference.complete, "seed {seed}");
    let fail = |told: &str| -> ! {
        let file = |name: &str, policy: &Policy| {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{seed}.txt"));
            std::fs::write(&path, format!("{policy:#?}")).expect("a file");
            path.display().to_string()
        };
        let (old, new) = (file("old", &old), file("new", &new));
        panic!("seed {seed}: {told}\n{old}\n{new}");
    };
    let known: HashSet<_> = difference
        .changes
        .iter()
        .map(|change| (change.direction as u32, &change.old.rule, &change.new.rule))
        .collect();
    // Compiling takes far longer than judging: once for all examples.
    let compiled = [compile(&old), compile(&new)];
    let [mut before, mut after] = compiled.clone().map(HostEngine::new);
    let mut traffic = Traffic::new(random, &old, START);
    for _ in 0..packets {
        let Event::Packet { frame, direction } = traffic.next() else {
            continue;
        };
        let one = before.judge(&frame, direction, traffic.now);
        let two = after.judge(&frame, direction, traffic.now);
        // What an error quotes is judged; bans and connections are no part of the rules.
        if one.packet.is(mark::ICMP_ERROR) || !by_rules(&one) || !by_rules(&two) {
            continue;
        }
        if one.judgement.verdict != two.judgement.verdict && is_ip(&one) {
            seen.differing_packets += 1;
            let (old, new) = (decider(&before, &one), decider(&after, &two));
            if !known.contains(&(direction as u32, &old, &new)) {
                fail(&format!(
                    "{direction:?} {frame:02x?} from {old:?} to {new:?} is not told"
                ));
            }
        }
    }
    seen.changes += difference.changes.len() as u64;
    seen.equal_pairs += u64::from(difference.changes.is_empty());
    for change in &difference.changes {
        match shown(&compiled, change) {
            Ok(shown) => seen.shown += u64::from(shown),
            Err(told) => fail(&told),
        }
    }
}

/// Whether a change's example is judged as the change says; not where something else than rules decides
/// about it, or where it takes a payload.
fn shown(compiled: &[Compiled; 2], change: &Change) -> Result<bool, String> {
    let Some(example) = &change.example else {
        return Ok(false);
    };
    let Some(frame) = example.frame() else {
        return Ok(false);
    };
    let slot = match &example.interface {
        Some(name) => INTERFACES.iter().position(|known| known == name),
        None => None,
    };
    let at = Circumstances {
        now: u64::try_from(example.at.as_nanosecond()).expect("a time after 1970"),
        interface: slot.unwrap_or(INTERFACES.len() - 1) as u32,
    };
    for (compiled, decision) in compiled.iter().zip([&change.old, &change.new]) {
        let mut engine = HostEngine::new(compiled.clone());
        let judged = engine.judge_at(&frame, NO_VLAN, change.direction, at);
        if !by_rules(&judged) {
            return Ok(false);
        }
        if decider(&engine, &judged) != decision.rule
            || judged.judgement.verdict != verdict(decision)
        {
            let told = judged.judgement;
            return Err(format!(
                "{change:#?}\nexample {frame:02x?} is judged {told:?}"
            ));
        }
    }
    Ok(true)
}

fn verdict(decision: &Decision) -> Verdict {
    decision.outcome.verdict
}

fn by_rules(judged: &Judged) -> bool {
    matches!(judged.judgement.reason, Reason::Rule | Reason::Default)
}

fn is_ip(judged: &Judged) -> bool {
    judged.packet.kind == firewall_common::packet::Kind::Ip
}

fn decider(engine: &HostEngine, judged: &Judged) -> Option<String> {
    match judged.judgement.rule {
        NO_RULE => None,
        counter => engine.rule_name(counter).map(str::to_owned),
    }
}

fn compile(policy: &Policy) -> Compiled {
    let environment = Environment {
        interfaces: INTERFACES.map(str::to_owned).to_vec(),
        ..Environment::default()
    };
    policy
        .compile(&environment)
        .expect("a policy that compiles")
}

/// The policy with a few things done to it that people do.
fn altered(random: &mut Random, policy: &Policy) -> Policy {
    let mut new = policy.clone();
    for _ in 0..random.below(4) {
        let count = new.rules.len();
        match random.below(8) {
            0 if count > 0 => {
                new.rules.remove(random.below(count));
            }
            1 if count > 1 => {
                let (from, to) = (random.below(count), random.below(count));
                let rule = new.rules.remove(from);
                new.rules.insert(to, rule);
            }
            2 if count > 0 => {
                let rule = &mut new.rules[random.below(count)];
                rule.action = match rule.action {
                    Action::Accept => Action::Drop,
                    Action::Drop | Action::Count => Action::Accept,
                };
                rule.limit = None;
            }
            3 if count > 0 => {
                let rule = &mut new.rules[random.below(count)];
                rule.ports = vec![(random.port() / 2, 40_000)];
            }
            4 if count > 0 => {
                let copied = new.rules[random.below(count)].from.clone();
                new.rules[random.below(count)].from = copied;
            }
            5 if !new.sets.is_empty() => {
                let index = random.below(new.sets.len());
                new.sets[index].prefixes.truncate(1);
            }
            6 => new.never_block.truncate(random.below(3)),
            7 => {
                new.defaults.inbound = match new.defaults.inbound {
                    DefaultAction::Accept => DefaultAction::Drop,
                    DefaultAction::Drop => DefaultAction::Accept,
                };
            }
            _ => {
                new.defaults.mode = match new.defaults.mode {
                    Mode::Enforce => Mode::Observe,
                    Mode::Observe => Mode::Enforce,
                };
            }
        }
    }
    new
}
