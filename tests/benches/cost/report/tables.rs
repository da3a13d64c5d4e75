//! The report's tables, in Markdown.

use comfy_table::{CellAlignment, Table, presets};

use super::{Report, Section};
use crate::cases::features;
use crate::cases::flood::Misses;
use crate::contender::{EMPTY, Heat, Line};
use crate::subject::Program;
use crate::wire::Throughput;
use crate::xdp_filter;

impl Report {
    /// Everything, in the order in which it is read.
    pub fn sections(&self) -> Vec<Section> {
        let section = |id, title, text: String| Section { id, title, text };
        vec![
            section("machine", "Measured on", self.setting()),
            section("targets", "Targets", self.targets()),
            section(
                "hot",
                "Hot: one frame, again and again",
                self.times(|line| line.label.heat == Heat::Hot && !line.label.egress),
            ),
            section(
                "cold",
                "Cold: a source drawn at random before each run",
                self.times(|line| line.label.heat == Heat::Cold),
            ),
            section(
                "drawn",
                "Many headers: one of them drawn before each run",
                self.times(|line| matches!(line.label.heat, Heat::Few | Heat::Many)),
            ),
            section(
                "lines",
                "Cache lines of the compiled policy that a packet reads",
                self.lines(),
            ),
            section(
                "egress",
                "The way out, hot",
                self.times(|line| line.label.egress),
            ),
            section("features", "Each feature alone", self.features()),
            section("programs", "Programs", self.programs()),
            section("loading", "Putting a policy in force", self.loads()),
            section("wire", "Packets per second over a wire", self.wire()),
            section("goodput", "Goodput under a flood", self.goodput()),
            section("daemon", "What watching costs", self.watching()),
            section(
                "reaction",
                "From a flood to its first packet dropped",
                self.reaction(),
            ),
            section("operations", "What people wait for", self.operations()),
            section("missing", "Not measured in this run", self.missing()),
        ]
    }

    fn setting(&self) -> String {
        let mut text = format!(
            "{}. Each figure is the median of {} rounds of {} runs, all contenders of a table in turn in \
             each round.",
            self.machine.line(),
            self.rounds,
            self.runs_per_round
        );
        if !self.machine.others.is_empty() {
            text += &format!(" Beside it: {}.", self.machine.others.join(", "));
        }
        if self.quick {
            text += " A quick run, for trying out: too few rounds for figures.";
        }
        text
    }

    fn targets(&self) -> String {
        let mut table = table(&["target", "wanted", "measured", "reached"], 4);
        for target in &self.targets {
            let reached = match target.reached {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "not measured",
            };
            table.add_row([&target.what, &target.wanted, &target.measured, reached]);
        }
        table.to_string()
    }

    fn times(&self, wanted: impl Fn(&Line) -> bool) -> String {
        let mut table = table(
            &[
                "program",
                "case",
                "",
                "ns",
                "quartiles",
                "least",
                "over empty",
            ],
            3,
        );
        let feature = |line: &&Line| line.label.case == features::CASE;
        for line in self
            .packets
            .iter()
            .filter(|line| wanted(line) && !feature(line))
        {
            let label = &line.label;
            let family = match (label.heat, label.v6) {
                (Heat::Few, _) => "few",
                (Heat::Many, _) => "many",
                (_, true) => "IPv6",
                (_, false) => "IPv4",
            };
            table.add_row([
                label.subject.clone(),
                label.case.clone(),
                family.to_owned(),
                line.median_ns.to_string(),
                format!("{}-{}", line.quartiles_ns.0, line.quartiles_ns.1),
                line.least_ns.to_string(),
                line.over_empty_ns.to_string(),
            ]);
        }
        table.to_string()
    }

    /// What each feature adds to a policy without a rule.
    fn features(&self) -> String {
        let mut table = table(&["feature", "ns added, hot", "ns added, cold"], 1);
        let over = |subject: &str, heat| self.over(subject, features::CASE, heat);
        let nothing = [Heat::Hot, Heat::Cold].map(|heat| over(features::NOTHING, heat));
        let features = self
            .packets
            .iter()
            .filter(|line| line.label.case == features::CASE && line.label.heat == Heat::Hot);
        for line in features {
            let subject = &line.label.subject;
            let mut row = vec![subject.clone()];
            for (heat, nothing) in [Heat::Hot, Heat::Cold].into_iter().zip(nothing) {
                let own = over(subject, heat);
                let first = *subject == features::NOTHING;
                row.push(match (own, nothing) {
                    (Some(own), _) if first => format!("{own} over the {EMPTY}"),
                    (Some(own), Some(nothing)) => format!("{:+}", own - nothing),
                    _ => "-".to_owned(),
                });
            }
            table.add_row(row);
        }
        table.to_string()
    }

    fn lines(&self) -> String {
        let header = [
            "policy",
            "packets",
            "lines, mean",
            "most",
            "L1 misses",
            "L2 misses",
            "KiB of tables",
        ];
        let mut table = table(&header, 1);
        for lines in &self.lines {
            let misses = |of: fn(&Misses) -> f64| {
                let misses = lines.misses.as_ref();
                misses.map_or_else(|| "-".to_owned(), |misses| format!("{:.1}", of(misses)))
            };
            table.add_row([
                lines.policy.clone(),
                lines.packets.to_string(),
                format!("{:.1}", lines.mean),
                lines.most.to_string(),
                misses(|misses| misses.first),
                misses(|misses| misses.second),
                lines.bytes.div_ceil(1024).to_string(),
            ]);
        }
        table.to_string()
    }

    fn programs(&self) -> String {
        let mut table = table(
            &[
                "policy",
                "program",
                "instructions",
                "bytes of code",
                "verified",
                "KiB of tables",
            ],
            2,
        );
        let named = |program: &&Program| {
            program.policy.starts_with("Palisade")
                || program.policy.starts_with(xdp_filter::SUBJECT)
        };
        for program in self.programs.iter().filter(named) {
            table.add_row([
                program.policy.clone(),
                program.program.to_owned(),
                program.instructions.to_string(),
                program.machine_bytes.to_string(),
                program.verified_instructions.to_string(),
                program.image_bytes.div_ceil(1024).to_string(),
            ]);
        }
        table.to_string()
    }

    fn loads(&self) -> String {
        let mut table = table(
            &[
                "policy", "traffic", "read", "compile", "load", "swap", "all",
            ],
            2,
        );
        for time in &self.loading {
            let all = time.read + time.compile + time.load + time.swap;
            let times = [time.read, time.compile, time.load, time.swap, all];
            let traffic = if time.traffic { "yes" } else { "no" };
            let mut row = vec![time.policy.clone(), traffic.to_owned()];
            row.extend(times.map(|seconds| format!("{:.1}", seconds * 1e3)));
            table.add_row(row);
        }
        table.to_string()
    }

    /// A row for each policy, a column for each filter; millions a second.
    fn wire(&self) -> String {
        let mut filters: Vec<&str> = Vec::new();
        for line in &self.throughput {
            if !filters.contains(&line.filter) {
                filters.push(line.filter);
            }
        }
        let header: Vec<&str> = ["rules", "set entries", "sources"]
            .into_iter()
            .chain(filters.iter().copied())
            .collect();
        let mut table = table(&header, 3);
        let mut done = Vec::new();
        for line in &self.throughput {
            let meaning =
                |line: &Throughput| (line.rules, line.entries, line.listed, line.random_sources);
            if done.contains(&meaning(line)) {
                continue;
            }
            done.push(meaning(line));
            let entries = match line.entries {
                0 => "none".to_owned(),
                entries => format!("{entries} {}", line.listed),
            };
            let sources = if line.random_sources { "random" } else { "one" };
            let mut row = vec![line.rules.to_string(), entries, sources.to_owned()];
            for filter in &filters {
                let found = self
                    .throughput
                    .iter()
                    .find(|other| other.filter == *filter && meaning(other) == meaning(line));
                row.push(found.map_or_else(|| "-".to_owned(), |found| millions(found.per_second)));
            }
            table.add_row(row);
        }
        table.to_string()
    }

    fn goodput(&self) -> String {
        let header = [
            "queues",
            "clients",
            "filter",
            "flood sent",
            "frames taken",
            "requests a second",
            "of those without a flood",
            "errors",
        ];
        let mut table = table(&header, 3);
        for line in &self.goodput {
            let share = self.goodput_share(line);
            table.add_row([
                line.queues.to_owned(),
                line.clients.to_owned(),
                line.filter.to_owned(),
                millions(line.flood),
                millions(line.taken),
                format!("{:.0}", line.requests),
                share.map_or_else(|| "-".to_owned(), |share| format!("{:.0}%", share * 100.0)),
                line.errors.to_string(),
            ]);
        }
        table.to_string()
    }

    fn watching(&self) -> String {
        let header = [
            "places on each CPU",
            "MiB of table",
            "services",
            "packets a second",
            "sources",
            "% of a processor",
            "MiB of its own",
            "round, ms: half",
            "99%",
            "most",
            "look at the sources, ms: half",
            "99%",
            "most",
            "alerts",
        ];
        let mut table = table(&header, 0);
        let mebibytes = |bytes: u64| format!("{:.0}", bytes as f64 / f64::from(1 << 20));
        for line in &self.daemon {
            let mut row = vec![
                line.places.to_string(),
                mebibytes(line.table),
                line.services.to_string(),
                format!("{:.0}", line.packets_per_second),
                line.sources.to_string(),
                format!("{:.1}", line.processor_share * 100.0),
                mebibytes(line.memory),
            ];
            let times = line.round.iter().chain(&line.look);
            row.extend(times.map(|time| format!("{:.1}", time * 1e3)));
            row.push(line.alerts.to_string());
            table.add_row(row);
        }
        table.to_string()
    }

    fn reaction(&self) -> String {
        let header = [
            "policy",
            "flood",
            "packets a second",
            "first drop, ms: half",
            "most",
            "% dropped",
        ];
        let mut table = table(&header, 2);
        for line in &self.reaction {
            let mut times = line.seconds.clone();
            times.sort_unstable_by(f64::total_cmp);
            let half = times.get(times.len() / 2).copied().unwrap_or_default();
            let most = times.last().copied().unwrap_or_default();
            table.add_row(vec![
                line.policy.clone(),
                line.flood.to_owned(),
                format!("{:.0}", line.rate),
                format!("{:.0}", half * 1e3),
                format!("{:.0}", most * 1e3),
                format!("{:.1}", line.dropped * 100.0),
            ]);
        }
        table.to_string()
    }

    fn operations(&self) -> String {
        let header = ["operation", "times", "half, ms", "most, ms", "wanted, ms"];
        let mut table = table(&header, 1);
        for line in &self.operations {
            let mut times = line.seconds.clone();
            times.sort_unstable_by(f64::total_cmp);
            let half = times.get(times.len() / 2).copied().unwrap_or_default();
            let most = times.last().copied().unwrap_or_default();
            table.add_row(vec![
                line.what.clone(),
                times.len().to_string(),
                format!("{:.1}", half * 1e3),
                format!("{:.1}", most * 1e3),
                format!("{:.0}", line.bound * 1e3),
            ]);
        }
        table.to_string()
    }

    fn missing(&self) -> String {
        if self.not_measured.is_empty() {
            return "Nothing is left out.".to_owned();
        }
        let items = self.not_measured.iter().map(|item| format!("- {item}\n"));
        items.collect()
    }
}

/// Millions, to three digits.
fn millions(per_second: f64) -> String {
    match per_second / 1e6 {
        value if value >= 1.0 => format!("{value:.2}"),
        value if value >= 0.1 => format!("{value:.3}"),
        value => format!("{value:.4}"),
    }
}

/// An empty table, its columns from `numbers` on flush right.
pub fn table<S: AsRef<str>>(header: &[S], numbers: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_header(header.iter().map(AsRef::as_ref));
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
