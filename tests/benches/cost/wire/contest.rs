//! Filters side by side on wires of their own, generator and filter on one core.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::filters::{Filter, Kind, Meaning};
use super::generator::Generator;
use super::peers::{Form, Listed};
use crate::contender::quantile;
use crate::data;
use crate::policies::{CLOSED_PORT, DROPPED_PORT, STRANGER, syn};
use crate::prologue::Sources;
use crate::subject::brief;

/// What one filter reached under one policy.
#[derive(Clone, Debug, Serialize)]
pub struct Throughput {
    pub filter: &'static str,
    pub rules: usize,
    pub entries: usize,
    /// What the set lists: "addresses", or "prefixes" among them.
    pub listed: &'static str,
    /// Whether each frame had another source.
    pub random_sources: bool,
    /// Frames a second that generator and filter did together on one core: the median, and the least
    /// and the most of the rounds.
    pub per_second: f64,
    pub range: (f64, f64),
}

pub const ADDRESSES: &str = "addresses";
pub const PREFIXES: &str = "prefixes";

const ROUNDS: usize = 3;
const QUICK_ROUNDS: usize = 2;
const SLICE: Duration = Duration::from_millis(300);
const QUICK_SLICE: Duration = Duration::from_millis(120);
/// Frames that a filter has dropped for the intended reason, of those that it took: sources at random
/// are now and then impossible, which Palisade drops before any rule.
const PROPER: f64 = 0.97;

/// The policies of the sweep, and the one that the targets are about.
fn meanings(quick: bool) -> Vec<(Meaning, &'static str)> {
    let addresses = |count| match count {
        0 => Listed::Nothing,
        count => Listed::Addresses(strings(&data::addresses(count))),
    };
    let mut list = Vec::new();
    let rules: &[usize] = if quick {
        &[1, 1_000]
    } else {
        &[1, 100, 1_000, 10_000]
    };
    let entries: &[usize] = if quick {
        &[10_000]
    } else {
        &[1, 10_000, 1_000_000]
    };
    for &rules in rules {
        list.push((rules, addresses(0), ADDRESSES));
    }
    for &entries in entries {
        list.push((1, addresses(entries), ADDRESSES));
    }
    let prefixes = strings(&data::prefixes(10_000));
    list.push((1_000, addresses(10_000), ADDRESSES));
    list.push((1_000, Listed::Prefixes(prefixes), PREFIXES));
    list.into_iter()
        .map(|(rules, listed, name)| (Meaning { rules, listed }, name))
        .collect()
}

fn strings<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// Every policy with every filter.
pub fn measure(folder: &Path, quick: bool, missing: &mut Vec<String>) -> Result<Vec<Throughput>> {
    let cpu = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let mut all = Vec::new();
    for (meaning, listed) in meanings(quick) {
        let filters = standing(&meaning, folder, missing);
        all.extend(contest(&filters, &meaning, listed, cpu, quick)?);
    }
    Ok(all)
}

fn standing(meaning: &Meaning, folder: &Path, missing: &mut Vec<String>) -> Vec<Filter> {
    let mut kinds = vec![
        Kind::Empty,
        Kind::XdpFilter,
        Kind::Palisade,
        Kind::Nftables(Form::Maps),
        Kind::Iptables,
    ];
    if meaning.rules > 1 {
        kinds.push(Kind::Nftables(Form::Plain));
    }
    let mut filters = Vec::new();
    for kind in kinds {
        match Filter::stand(kind, meaning, folder, 1) {
            Ok(filter) => filters.push(filter),
            Err(error) => {
                missing.push(format!(
                    "{}, {} rules, {} entries: {}",
                    kind.name(),
                    meaning.rules,
                    meaning.listed.items().len(),
                    brief(&error)
                ));
            }
        }
    }
    filters
}

fn contest(
    filters: &[Filter],
    meaning: &Meaning,
    listed: &'static str,
    cpu: usize,
    quick: bool,
) -> Result<Vec<Throughput>> {
    let (rounds, slice) = if quick {
        (QUICK_ROUNDS, QUICK_SLICE)
    } else {
        (ROUNDS, SLICE)
    };
    let mut results = Vec::new();
    for sources in [Sources::Random, Sources::One] {
        let generators: Vec<Generator> = filters
            .iter()
            .map(|filter| {
                // xdp-filter passes what it does not list: its way to drop a stranger is the port.
                let port = match filter.kind {
                    Kind::XdpFilter => DROPPED_PORT,
                    _ => CLOSED_PORT,
                };
                Generator::new(syn(STRANGER[0], port)?, sources)
            })
            .collect::<Result<_>>()?;
        let mut rates = vec![Vec::new(); filters.len()];
        for round in 0..=rounds {
            for ((filter, generator), rates) in filters.iter().zip(&generators).zip(&mut rates) {
                // The first round only warms up, and shows that the filter does what it should.
                if round > 0 {
                    rates.push(generator.rate(&filter.wire, cpu, slice)?.per_second());
                } else {
                    verify(filter, generator, cpu)?;
                }
            }
        }
        for (filter, mut rates) in filters.iter().zip(rates) {
            rates.sort_unstable_by(f64::total_cmp);
            results.push(Throughput {
                filter: filter.kind.name(),
                rules: meaning.rules,
                entries: meaning.listed.items().len(),
                listed,
                random_sources: sources == Sources::Random,
                per_second: quantile(&rates, 2),
                range: (quantile(&rates, 0), quantile(&rates, 4)),
            });
        }
    }
    Ok(results)
}

/// What the filter takes, it drops, and by the rule that is meant.
fn verify(filter: &Filter, generator: &Generator, cpu: usize) -> Result<()> {
    let before = filter.dropped()?;
    let rate = generator.rate(&filter.wire, cpu, Duration::from_millis(20))?;
    // What was under way is there by then.
    std::thread::sleep(Duration::from_millis(20));
    let dropped = filter.dropped()?.saturating_sub(before);
    ensure!(
        rate.received > 0 && dropped as f64 >= rate.received as f64 * PROPER,
        "{}: of {} frames sent it took {} and dropped {dropped} by the rule that is meant",
        filter.kind.name(),
        rate.sent,
        rate.received
    );
    Ok(())
}
