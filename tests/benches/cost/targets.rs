//! What the packet path must reach, and whether it did in this run.

use serde::Serialize;

use crate::cases::{classbench, rules, sets, whole};
use crate::contender::Heat;
use crate::daemon::{RATE, SOURCES, Watching};
use crate::report::Report;
use crate::wire::contest::{ADDRESSES, PREFIXES};
use crate::wire::filters::Kind;
use crate::wire::goodput::{Clients, Layout};
use crate::wire::peers::Form;
use crate::xdp_filter;

/// One goal, judged.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    pub what: String,
    pub wanted: String,
    pub measured: String,
    pub reached: Option<bool>,
}

/// A goal with a figure that must not be more than a bound.
fn at_most(what: &str, wanted: String, measured: Option<(f64, f64)>, unit: &str) -> Target {
    let said = |(value, bound): (f64, f64)| {
        let ratio = if bound > 0.0 { value / bound } else { f64::NAN };
        format!("{value:.0}{unit}, {ratio:.2} of the bound {bound:.0}{unit}")
    };
    Target {
        what: what.to_owned(),
        wanted,
        measured: measured.map_or_else(|| "-".to_owned(), said),
        reached: measured.map(|(value, bound)| value <= bound),
    }
}

/// A goal with a figure that must be at least a multiple of another.
fn at_least(
    what: String,
    wanted: String,
    own: Option<f64>,
    other: Option<f64>,
    times: f64,
) -> Target {
    let ratio = own.zip(other).map(|(own, other)| own / other.max(1.0));
    Target {
        what,
        wanted,
        measured: own.zip(other).zip(ratio).map_or_else(
            || "-".to_owned(),
            |((own, other), ratio)| {
                format!(
                    "{:.3} to {:.3} million, {ratio:.2} times",
                    own / 1e6,
                    other / 1e6
                )
            },
        ),
        reached: ratio.map(|ratio| ratio >= times),
    }
}

/// Every goal, from what was measured.
pub fn judge(report: &Report) -> Vec<Target> {
    let mut targets = Vec::new();
    cost(report, &mut targets);
    classification(report, &mut targets);
    wire(report, &mut targets);
    goodput(report, &mut targets);
    loading(report, &mut targets);
    watching(report, &mut targets);
    reaction(report, &mut targets);
    operations(report, &mut targets);
    targets
}

fn cost(report: &Report, targets: &mut Vec<Target>) {
    let over = |subject: &str, case: &str, heat| report.over(subject, case, heat);
    let other = over(xdp_filter::SUBJECT, xdp_filter::PASS, Heat::Hot);
    let beside = |own: Option<i64>, part: f64| Some((own? as f64, other? as f64 * part));
    for case in [rules::PASS, whole::ESTABLISHED] {
        targets.push(at_most(
            &format!("A whole policy, hot, {case}"),
            "what xdp-filter with five addresses costs over the empty program".to_owned(),
            beside(over(whole::SUBJECT, case, Heat::Hot), 1.0),
            " ns",
        ));
    }
    let million = sets::subject(1_000_000);
    targets.push(at_most(
        "Drop from a blocklist of a million, hot",
        "half of what xdp-filter costs".to_owned(),
        beside(over(&million, sets::LISTED, Heat::Hot), 0.5),
        " ns",
    ));
    // What the set adds to the same policy without it.
    let added = |subject: &str, case: &str, heat, v6| {
        let with = report.line(subject, case, heat, v6)?.over_empty_ns;
        let without = report
            .line(&rules::subject(1), rules::DEFAULT, heat, v6)?
            .over_empty_ns;
        Some((with - without) as f64)
    };
    for (subject, case, v6, bound, what) in [
        (
            million.as_str(),
            rules::DEFAULT,
            false,
            150.0,
            "A set of a million addresses, cold",
        ),
        (
            sets::INTERNET,
            "any source",
            false,
            150.0,
            "The Internet table, cold, IPv4",
        ),
        (
            sets::INTERNET,
            "any source",
            true,
            250.0,
            "The Internet table, cold, IPv6",
        ),
    ] {
        targets.push(at_most(
            what,
            format!("at most {bound} ns more than the same policy without it"),
            added(subject, case, Heat::Cold, v6).map(|added| (added, bound)),
            " ns",
        ));
    }
    targets.push(at_most(
        "A set of a million addresses, hot",
        "at most 40 ns more than the same policy without it".to_owned(),
        added(&million, rules::DEFAULT, Heat::Hot, false).map(|added| (added, 40.0)),
        " ns",
    ));
    let flat = |small: &str, large: &str, case: &str, heat| {
        Some((over(large, case, heat)? - over(small, case, heat)?) as f64)
    };
    for heat in [Heat::Hot, Heat::Cold] {
        let bound = if heat == Heat::Hot { 40.0 } else { 200.0 };
        let (small, large) = (rules::subject(10), rules::subject(10_000));
        targets.push(at_most(
            &format!("From 10 to 10,000 rules, {}", name_of(heat)),
            format!("at most {bound} ns more"),
            flat(&small, &large, rules::PASS, heat).map(|more| (more, bound)),
            " ns",
        ));
    }
    targets.push(at_most(
        "Accounting with every source new",
        "at most 100 ns over the empty program".to_owned(),
        over(
            crate::cases::features::NOTHING,
            crate::cases::features::CASE,
            Heat::Cold,
        )
        .map(|cold| (cold as f64, 100.0)),
        " ns",
    ));
}

const fn name_of(heat: Heat) -> &'static str {
    match heat {
        Heat::Hot => "hot",
        Heat::Cold => "cold",
        Heat::Few => "few headers",
        Heat::Many => "many headers",
    }
}

fn classification(report: &Report, targets: &mut Vec<Target>) {
    let sets = report.packets.iter().filter_map(|line| {
        let set = line.label.subject.strip_prefix("ClassBench ")?;
        (line.label.heat == Heat::Few && !set.contains(' ')).then_some(set)
    });
    for set in sets {
        let over = |whole| {
            report.over(
                &classbench::subject(set, whole),
                classbench::TRACE,
                Heat::Few,
            )
        };
        let more = over(true).zip(over(false));
        targets.push(at_most(
            &format!("ClassBench {set}, ten rules to all, hot"),
            "at most 40 ns more".to_owned(),
            more.map(|(all, ten)| ((all - ten) as f64, 40.0)),
            " ns",
        ));
    }
    for all in &report.lines {
        let Some(set) = all.policy.strip_prefix("ClassBench ") else {
            continue;
        };
        let ten = classbench::subject(set, false);
        let Some(ten) = report.lines.iter().find(|lines| lines.policy == ten) else {
            continue;
        };
        let misses = all.misses.zip(ten.misses);
        let measured = misses.map(|(all, ten)| (ten.second, all.second));
        targets.push(Target {
            what: format!("ClassBench {set}, ten rules to all, cold"),
            wanted: "at most two more misses of the second cache".to_owned(),
            measured: measured.map_or_else(
                || "-".to_owned(),
                |(ten, all)| format!("{all:.1} after {ten:.1}, {:+.1}", all - ten),
            ),
            reached: measured.map(|(ten, all)| all - ten <= 2.0),
        });
        let mebibytes = all.bytes as f64 / f64::from(1 << 20);
        targets.push(Target {
            what: format!("ClassBench {set}, memory"),
            wanted: "at most 64 MiB".to_owned(),
            measured: format!("{mebibytes:.1} MiB"),
            reached: Some(mebibytes <= 64.0),
        });
    }
}

/// A thousand rules and a set of ten thousand, over a wire, on one core.
fn wire(report: &Report, targets: &mut Vec<Target>) {
    for (listed, random) in [
        (PREFIXES, true),
        (PREFIXES, false),
        (ADDRESSES, true),
        (ADDRESSES, false),
    ] {
        let rate = |kind| report.rate(kind, (1_000, 10_000, listed), random);
        let sources = if random {
            "every source new"
        } else {
            "one source"
        };
        for (kind, times) in [
            (Kind::Nftables(Form::Maps), 3.0),
            (Kind::Nftables(Form::Plain), 100.0),
            (Kind::Iptables, 10.0),
            (Kind::XdpFilter, 1.0),
        ] {
            targets.push(at_least(
                format!(
                    "1,000 rules and 10,000 {listed}, {sources}, beside {}",
                    kind.name()
                ),
                format!("at least {times} times its packets a second"),
                rate(Kind::Palisade),
                rate(kind),
                times,
            ));
        }
    }
}

/// Under the heaviest flood, beside the calm and beside nftables.
fn goodput(report: &Report, targets: &mut Vec<Target>) {
    let Some(heaviest) = report.goodput.iter().map(|line| line.strength).max() else {
        return;
    };
    for layout in [Layout::Own, Layout::One] {
        let at = |kind: Kind, strength| {
            report.goodput.iter().find(|line| {
                line.filter == kind.name()
                    && line.queues == layout.name()
                    && line.clients == Clients::Steady.name()
                    && line.strength == strength
            })
        };
        let requests = |kind, strength| at(kind, strength).map(|line| line.requests);
        let own = requests(Kind::Palisade, heaviest);
        let flood = at(Kind::Palisade, heaviest).map_or(0.0, |line| line.flood / 1e6);
        let name = format!(
            "Goodput under {flood:.1} million a second, queues: {}",
            layout.name()
        );
        for (beside, other, times) in [
            ("without a flood", requests(Kind::Palisade, 0), 0.8),
            (
                "of nftables",
                requests(Kind::Nftables(Form::Maps), heaviest),
                1.0,
            ),
        ] {
            let ratio = own.zip(other).map(|(own, other)| own / other.max(1.0));
            targets.push(Target {
                what: name.clone(),
                wanted: format!("at least {times} of that {beside}"),
                measured: own.zip(other).zip(ratio).map_or_else(
                    || "-".to_owned(),
                    |((own, other), ratio)| {
                        format!("{own:.0} to {other:.0} requests a second, {ratio:.2}")
                    },
                ),
                reached: ratio.map(|ratio| ratio >= times),
            });
        }
    }
}

/// A flood until its first packet is dropped.
fn reaction(report: &Report, targets: &mut Vec<Target>) {
    for line in &report.reaction {
        let most = line.seconds.iter().copied().fold(0.0, f64::max);
        targets.push(at_most(
            &format!(
                "{:.0} forged {} a second, {}",
                line.rate, line.flood, line.policy
            ),
            "first packet dropped within 1 s".to_owned(),
            Some((most * 1e3, 1_000.0)),
            " ms",
        ));
    }
}

/// What people wait for.
fn operations(report: &Report, targets: &mut Vec<Target>) {
    for line in &report.operations {
        let most = line.seconds.iter().copied().fold(0.0, f64::max);
        targets.push(at_most(
            &line.what,
            format!("at most {:.0} ms", line.bound * 1e3),
            Some((most * 1e3, line.bound * 1e3)),
            " ms",
        ));
    }
}

/// The daemon beside a million sources.
fn watching(report: &Report, targets: &mut Vec<Target>) {
    if report.daemon.is_empty() {
        return;
    }
    for services in [1, 4] {
        let of_these = report
            .daemon
            .iter()
            .filter(|line| line.services == services);
        let most = of_these.map(|line| line.sources).max();
        targets.push(Target {
            what: format!("Sources that the daemon tracks, services: {services}"),
            wanted: format!("at least {SOURCES}"),
            measured: most.map_or_else(|| "-".to_owned(), |most| most.to_string()),
            reached: most.map(|most| most >= u64::from(SOURCES)),
        });
    }
    let crowd = |line: &&Watching| line.sources >= u64::from(SOURCES) * 9 / 10;
    for line in report.daemon.iter().filter(crowd) {
        let under = format!(
            "The daemon with {} sources in {} places on each CPU, {} a second to {}",
            line.sources,
            line.places,
            RATE,
            match line.services {
                1 => "one service".to_owned(),
                services => format!("each of {services} services"),
            }
        );
        let mebibytes = line.memory as f64 / f64::from(1 << 20);
        for (what, wanted, value, bound, unit) in [
            (
                "processor",
                "10% of one core",
                line.processor_share * 100.0,
                10.0,
                "%",
            ),
            ("memory of its own", "200 MiB", mebibytes, 200.0, " MiB"),
            ("longest round", "50 ms", line.round[2] * 1e3, 50.0, " ms"),
            (
                "longest look at all sources",
                "20 ms",
                line.look[2] * 1e3,
                20.0,
                " ms",
            ),
        ] {
            targets.push(at_most(
                &format!("{under}: {what}"),
                format!("at most {wanted}"),
                Some((value, bound)),
                unit,
            ));
        }
    }
}

fn loading(report: &Report, targets: &mut Vec<Target>) {
    let Some(largest) = report.loading.iter().rfind(|time| time.traffic) else {
        return;
    };
    targets.push(at_most(
        &format!("Compile {}", largest.policy),
        "at most 2 s".to_owned(),
        Some((largest.compile * 1e3, 2_000.0)),
        " ms",
    ));
    targets.push(at_most(
        &format!("Change the generation under traffic, {}", largest.policy),
        "at most 500 ms".to_owned(),
        Some(((largest.load + largest.swap) * 1e3, 500.0)),
        " ms",
    ));
}
