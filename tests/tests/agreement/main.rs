//! The kernel programs, the host engine and a naive oracle must agree on every packet.
//!
//! Random policies are compiled and loaded; random traffic in both directions, with time passing
//! and bans coming and going, is judged by all of them; verdict, reason, rule and the counts of
//! every rule have to be the same. `PALISADE_AGREEMENT_PAIRS` sets how many pairs of policy and
//! packet each test judges, `PALISADE_AGREEMENT_SEED` where it begins: a failure prints the seed
//! that repeats it at once.

#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod contest;
mod generate;
mod oracle;

use contest::{Contest, Kernel};

/// Pairs judged by an ordinary run of the tests.
const HOST_PAIRS: u64 = 160_000;
const KERNEL_PAIRS: u64 = 60_000;
/// Packets per policy. Loading programs costs more than compiling a policy.
const PER_POLICY: u64 = 1_000;
const PER_LOADED_POLICY: u64 = 3_000;
const SEED: u64 = 20_260_501;

#[test]
fn the_host_engine_judges_and_counts_as_the_oracle_does() {
    let mut pairs = 0;
    let mut seed = setting("PALISADE_AGREEMENT_SEED").unwrap_or(SEED);
    while pairs < setting("PALISADE_AGREEMENT_PAIRS").unwrap_or(HOST_PAIRS) {
        pairs += Contest::new(seed, None).run(PER_POLICY);
        seed += 1;
    }
    println!("{pairs} pairs of policy and packet");
}

#[test]
fn the_kernel_programs_judge_and_count_as_the_host_engine_and_the_oracle_do() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: loading programs needs root");
        return;
    }
    let mut pairs = 0;
    let mut seed = setting("PALISADE_AGREEMENT_SEED").unwrap_or(SEED) + 1_000_000_000;
    while pairs < setting("PALISADE_AGREEMENT_PAIRS").unwrap_or(KERNEL_PAIRS) {
        pairs += Contest::new(seed, Some(Kernel)).run(PER_LOADED_POLICY);
        seed += 1;
    }
    println!("{pairs} pairs of policy and packet");
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}
