//! The long campaign: as many pairs as one asks for, on every processor.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::classbench::{self, FilterSet};
use crate::contest::{self, Judges};
use crate::tally::Tally;

/// Packets per policy: loading programs takes as long as judging some thousands.
const PER_POLICY: u64 = 20_000;
/// Disagreements after which a campaign ends.
const ENOUGH: usize = 10;
const PROGRESS: Duration = Duration::from_secs(30);

/// What a campaign found.
#[derive(Debug, Default)]
pub struct Found {
    pub tally: Tally,
    /// What repeats each disagreement.
    pub disagreements: Vec<String>,
}

/// Judges every ClassBench set with its whole trace, then random policies from `seed` on, until
/// `pairs` pairs are judged.
pub fn run(pairs: u64, seed: u64) -> Found {
    let sets = classbench::sets();
    let found = Mutex::new(Found::default());
    let next = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let began = Instant::now();
    let processors = processors();
    std::thread::scope(|scope| {
        for processor in &processors {
            scope.spawn(|| {
                // A program's results are read from the processor that it ran on.
                let mut own = CpuSet::new();
                own.set(*processor);
                sched_setaffinity(None, &own).expect("a processor of ours");
                while !over.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let judged = contest(&sets, index, seed);
                    let mut found = found.lock().expect("no thread panics while it holds this");
                    match judged {
                        Ok(tally) => found.tally.add(&tally),
                        Err(told) => {
                            println!("DISAGREEMENT {told}\n");
                            found.disagreements.push(told);
                        }
                    }
                    if found.tally.pairs >= pairs || found.disagreements.len() >= ENOUGH {
                        over.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        let mut told = began;
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(200));
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                let found = found.lock().expect("no thread panics while it holds this");
                println!(
                    "{} pairs, {} policies, {} s",
                    found.tally.pairs,
                    found.tally.policies,
                    began.elapsed().as_secs()
                );
            }
        }
    });
    let found = found.into_inner().expect("no thread panicked");
    println!("\n{}", found.tally);
    println!(
        "disagreements: {}\nseeds from {seed}, {} processors, {:.0} s",
        found.disagreements.len(),
        processors.len(),
        began.elapsed().as_secs_f64()
    );
    if sets.is_empty() {
        palisade_tests::skipped(
            "no ClassBench sets in rules/classbench (PALISADE_DATA names another folder): random policies only",
        );
    }
    found
}

/// Contest number `index`: `seed`'s own is the first, so that it can be repeated alone. Whatever
/// panics is a failure of that one.
fn contest(sets: &[FilterSet], index: usize, seed: u64) -> Result<Tally, String> {
    let set = index.checked_sub(1).and_then(|index| sets.get(index));
    let seed = seed + index.saturating_sub(sets.len()) as u64;
    let judged = catch_unwind(AssertUnwindSafe(|| match set {
        Some(set) => set.judge(Judges::WithKernel, 1),
        None => contest::random(seed, Judges::WithKernel, true, PER_POLICY),
    }));
    match (judged, set) {
        (Ok(judged), _) => judged.map_err(|disagreement| disagreement.to_string()),
        (Err(_), Some(set)) => Err(format!("set {}: a panic, told above", set.name)),
        (Err(_), None) => Err(format!("seed {seed}: a panic, told above")),
    }
}

fn processors() -> Vec<usize> {
    let ours = sched_getaffinity(None).expect("the processors that we may use");
    (0..CpuSet::MAX_CPU)
        .filter(|&processor| ours.is_set(processor))
        .collect()
}
