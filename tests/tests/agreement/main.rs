//! The kernel programs, the host engine and a naive oracle must agree on every packet.
//!
//! Random policies are compiled and loaded; random traffic in both directions, with time passing
//! and bans coming and going, is judged by all of them; verdict, reason, rule and the counts of
//! every rule have to be the same. So is each header of ClassBench's traces under its set of rules,
//! where they are there. `PALISADE_AGREEMENT_PAIRS` sets how many pairs of policy and packet each
//! test judges, `PALISADE_AGREEMENT_SEED` where it begins: a failure prints the seed that repeats
//! it at once. `cargo xtask agree` starts the long campaign.

#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod campaign;
mod classbench;
mod contest;
mod differences;
mod generate;
mod oracle;
mod tally;

use contest::Judges;
use firewall_common::Verdict;
use tally::Tally;

/// Pairs judged by an ordinary run of the tests.
const HOST_PAIRS: u64 = 160_000;
const KERNEL_PAIRS: u64 = 60_000;
/// Pairs judged by a campaign.
const CAMPAIGN_PAIRS: u64 = 10_000_000;
/// Packets per policy. Loading programs costs more than compiling a policy.
const PER_POLICY: u64 = 1_000;
const PER_LOADED_POLICY: u64 = 3_000;
/// An ordinary run judges one in this many headers of a trace, of sets with 1,000 rules.
const HEADER_STEP: usize = 20;
/// Packets that pairs of policies are compared by, in all and each.
const DIFFERENCE_PAIRS: u64 = 36_000;
const PER_DIFFERENCE: u64 = 600;
const SEED: u64 = 20_260_501;

#[test]
fn the_host_engine_judges_and_counts_as_the_oracle_does() {
    let tally = judged(Judges::WithoutKernel, HOST_PAIRS, SEED, PER_POLICY);
    assert_covers(&tally);
}

#[test]
fn the_kernel_programs_judge_and_count_as_the_host_engine_and_the_oracle_do() {
    if palisade_tests::skip_unless_root() {
        return;
    }
    let seed = SEED + 1_000_000_000;
    let tally = judged(Judges::WithKernel, KERNEL_PAIRS, seed, PER_LOADED_POLICY);
    assert_covers(&tally);
}

#[test]
fn classbench_traces_are_judged_alike_under_their_sets() {
    if palisade_tests::skip_unless_root() {
        return;
    }
    let sets = classbench::sets();
    let mut tally = Tally::default();
    for set in sets.iter().filter(|set| set.name.ends_with("_1k")) {
        match set.judge(Judges::WithKernel, HEADER_STEP) {
            Ok(judged) => tally.add(&judged),
            Err(disagreement) => panic!("{disagreement}"),
        }
    }
    if sets.is_empty() {
        palisade_tests::skipped(
            "no ClassBench sets in rules/classbench (PALISADE_DATA names another folder)",
        );
    } else {
        println!("{tally}");
    }
}

#[test]
fn what_two_policies_decide_differently_is_told_and_nothing_else() {
    let seed = setting("PALISADE_AGREEMENT_SEED").unwrap_or(SEED);
    let pairs = setting("PALISADE_AGREEMENT_PAIRS").unwrap_or(DIFFERENCE_PAIRS);
    let mut seen = differences::Seen::default();
    for seed in seed..seed + pairs.div_ceil(PER_DIFFERENCE) {
        differences::judge(seed, PER_DIFFERENCE, &mut seen);
    }
    println!("{seen:?}");
    assert!(seen.differing_packets > 100, "{seen:?}");
    assert!(seen.equal_pairs > 0, "{seen:?}");
    assert!(seen.shown * 10 >= seen.changes * 6, "{seen:?}");
}

#[test]
#[ignore = "takes minutes: `cargo xtask agree` runs it"]
fn millions_of_pairs_are_judged_alike() {
    if palisade_tests::skip_unless_root() {
        return;
    }
    let pairs = setting("PALISADE_AGREEMENT_PAIRS").unwrap_or(CAMPAIGN_PAIRS);
    let seed = setting("PALISADE_AGREEMENT_SEED").unwrap_or(SEED);
    let found = campaign::run(pairs, seed);
    assert!(
        found.disagreements.is_empty(),
        "{} disagreements, told above",
        found.disagreements.len()
    );
    assert_covers(&found.tally);
}

fn judged(judges: Judges, pairs: u64, seed: u64, per_policy: u64) -> Tally {
    let pairs = setting("PALISADE_AGREEMENT_PAIRS").unwrap_or(pairs);
    let mut seed = setting("PALISADE_AGREEMENT_SEED").unwrap_or(seed);
    let mut tally = Tally::default();
    while tally.pairs < pairs {
        match contest::random(seed, judges, judges == Judges::WithoutKernel, per_policy) {
            Ok(judged) => tally.add(&judged),
            Err(disagreement) => panic!("{disagreement}"),
        }
        seed += 1;
    }
    println!("{tally}");
    tally
}

/// Judges that say the same to everything agree, too.
fn assert_covers(tally: &Tally) {
    for verdict in [Verdict::Pass, Verdict::Drop] {
        let share = tally.with_verdict(verdict) * 100 / tally.pairs.max(1);
        assert!(share >= 5, "only {share}% {}", verdict.name());
    }
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}
