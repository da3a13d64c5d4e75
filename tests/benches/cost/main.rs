//! What a packet costs: Palisade beside an empty program and what people would use instead, in one
//! run. Started by `cargo xtask bench`; docs/performance.md has results and says how to read them.

mod cases;
mod contender;
mod daemon;
mod data;
mod load;
mod machine;
mod operations;
mod policies;
mod prologue;
mod reaction;
mod report;
mod subject;
mod targets;
mod wire;
mod xdp_filter;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;

use contender::{Contender, Line};
use machine::Machine;
use palisade_tests::bpf::calls as kernel;
use palisade_tests::document;
use policies::{OPEN_PORT, STRANGER, syn};
use report::{Report, merge, plots};
use subject::Group;

#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    /// Only these parts: cost, lines, features, classbench, egress, loading, wire, goodput, daemon, reaction, operations
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<String>,
    /// Where the report goes; the project's docs after a whole run, target/bench otherwise
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Fewer and shorter rounds: for trying out, not for figures
    #[arg(long)]
    quick: bool,
    /// cargo gives this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const PARTS: [&str; 11] = [
    "cost",
    "lines",
    "features",
    "classbench",
    "egress",
    "loading",
    "wire",
    "goodput",
    "daemon",
    "reaction",
    "operations",
];

// Few and long: for each call of the kernel's test run it waits for all other processors, and that is
// not part of the figure.
const ROUNDS: u32 = 5;
const RUNS: u32 = 100_000;
const QUICK_ROUNDS: u32 = 3;
const QUICK_RUNS: u32 = 20_000;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let arguments = Arguments::parse();
    if !rustix::process::geteuid().is_root() {
        bail!("measuring loads kernel programs: run `sudo -E cargo xtask bench`");
    }
    if let Some(unknown) = arguments
        .only
        .iter()
        .find(|part| !PARTS.contains(&&***part))
    {
        bail!("no part \"{unknown}\": the parts are {}", PARTS.join(", "));
    }
    machine::prefer(0)?;
    let _session = machine::PreferredSession::of(std::process::id())?;
    let mut run = Run::new(&arguments)?;
    run.programs()?;
    run.loading()?;
    run.wire()?;
    run.daemon()?;
    run.reaction()?;
    run.operations()?;
    let report = &mut run.report;
    report.machine.load_average[1] = machine::load_average();
    report.targets = targets::judge(report);
    // The folder's name says nothing to anybody, and is another each time.
    let folder = format!("{}/", run.folder.path().display());
    for missing in &mut report.not_measured {
        *missing = missing.replace(&folder, "");
    }
    report.print();
    let part = !arguments.only.is_empty();
    let whole = !arguments.quick && !part;
    let output = arguments.output.unwrap_or_else(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        root.join(if whole { "docs" } else { "target/bench" })
    });
    write(report, &output, part)
}

/// The document, its figures, and the same for programs. After a part of a run only the tables of that
/// part are replaced.
fn write(report: &Report, folder: &Path, part: bool) -> Result<()> {
    let figures = folder.join("figures");
    std::fs::create_dir_all(&figures).with_context(|| figures.display().to_string())?;
    let file = folder.join("performance.md");
    let mut sections = report.sections();
    if part {
        let general = ["machine", "targets", "missing"];
        let empty = |text: &str| text.lines().count() <= 2;
        sections.retain(|section| !general.contains(&section.id) && !empty(&section.text));
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        sections = sections
            .into_iter()
            .map(|section| {
                let old = document::between(&before, section.id);
                merge::merged(section, old)
            })
            .collect();
    }
    document::write(&file, &sections)?;
    plots::draw(report, &figures)?;
    let name = if part {
        "part.json"
    } else {
        "performance.json"
    };
    let file = figures.join(name);
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(&file, text + "\n").with_context(|| file.display().to_string())?;
    eprintln!("the report is in {}", folder.display());
    Ok(())
}

/// A measurement under way.
struct Run<'a> {
    arguments: &'a Arguments,
    started: Instant,
    report: Report,
    /// Lists that policies name; gone afterwards.
    folder: tempfile::TempDir,
}

impl<'a> Run<'a> {
    fn new(arguments: &'a Arguments) -> Result<Self> {
        let (rounds, runs_per_round) = if arguments.quick {
            (QUICK_ROUNDS, QUICK_RUNS)
        } else {
            (ROUNDS, RUNS)
        };
        Ok(Self {
            arguments,
            started: Instant::now(),
            report: Report {
                machine: Machine::this(),
                quick: arguments.quick,
                rounds,
                runs_per_round,
                targets: Vec::new(),
                packets: Vec::new(),
                lines: Vec::new(),
                programs: Vec::new(),
                loading: Vec::new(),
                throughput: Vec::new(),
                goodput: Vec::new(),
                daemon: Vec::new(),
                reaction: Vec::new(),
                operations: Vec::new(),
                not_measured: Vec::new(),
            },
            folder: tempfile::tempdir()?,
        })
    }

    /// Whether a part is wanted; says that it begins.
    fn wants(&self, part: &str) -> bool {
        let only = &self.arguments.only;
        let wanted = only.is_empty() || only.iter().any(|wanted| wanted == part);
        if wanted {
            eprintln!("{:6.1} s: {part} ...", self.started.elapsed().as_secs_f64());
            if let Err(error) = machine::unbind(self.report.machine.cpus) {
                eprintln!("{part} runs on one CPU only: {error:#}");
            }
        }
        wanted
    }

    /// What the programs cost by themselves, under the kernel's test run.
    fn programs(&mut self) -> Result<()> {
        let folder = self.folder.path().to_owned();
        if self.wants("cost") {
            let mut group = self.group()?;
            let filter = xdp_filter::add(&mut group)?;
            cases::rules::add(&mut group);
            cases::sets::add(&mut group, &folder)?;
            cases::whole::add(&mut group, &folder)?;
            cases::bans::add(&mut group);
            self.time(group)?;
            drop(filter);
        }
        if self.wants("lines") {
            let missing = &mut self.report.not_measured;
            self.report.lines = cases::lines::measure(&folder, missing)?;
        }
        if self.wants("features") {
            let mut group = self.group()?;
            cases::features::add(&mut group, &folder)?;
            self.time(group)?;
        }
        if self.wants("classbench") {
            for set in cases::classbench::sets(&mut self.report.not_measured) {
                let mut group = self.group()?;
                cases::classbench::add(&mut group, set)?;
                self.time(group)?;
            }
        }
        if self.wants("egress") {
            let mut group = self.group()?;
            cases::egress::add(&mut group);
            self.time(group)?;
        }
        Ok(())
    }

    fn loading(&mut self) -> Result<()> {
        if self.wants("loading") {
            let missing = &mut self.report.not_measured;
            self.report.loading = load::measure(self.folder.path(), missing)?;
        }
        Ok(())
    }

    fn wire(&mut self) -> Result<()> {
        if self.wants("wire") {
            let (quick, missing) = (self.arguments.quick, &mut self.report.not_measured);
            self.report.throughput = wire::contest::measure(self.folder.path(), quick, missing)?;
        }
        if self.wants("goodput") {
            let (quick, missing) = (self.arguments.quick, &mut self.report.not_measured);
            self.report.goodput = wire::goodput::measure(self.folder.path(), quick, missing)?;
        }
        Ok(())
    }

    fn daemon(&mut self) -> Result<()> {
        if self.wants("daemon") {
            let report = &mut self.report;
            let (cpus, missing) = (report.machine.cpus, &mut report.not_measured);
            report.daemon = daemon::measure(cpus, self.arguments.quick, missing)?;
        }
        Ok(())
    }

    fn reaction(&mut self) -> Result<()> {
        if self.wants("reaction") {
            let (quick, missing) = (self.arguments.quick, &mut self.report.not_measured);
            self.report.reaction = reaction::measure(self.folder.path(), quick, missing)?;
        }
        Ok(())
    }

    fn operations(&mut self) -> Result<()> {
        if self.wants("operations") {
            let quick = self.arguments.quick;
            self.report.operations = operations::measure(self.folder.path(), quick)?;
        }
        Ok(())
    }

    /// A group with its floors.
    fn group(&self) -> Result<Group> {
        let [v4, v6] = [syn(STRANGER[0], OPEN_PORT)?, syn(STRANGER[1], OPEN_PORT)?];
        let mut group = Group::default();
        group.contenders = Contender::floors(&v4, &v6)?;
        Ok(group)
    }

    fn time(&mut self, group: Group) -> Result<()> {
        let report = &mut self.report;
        let lines: Vec<Line> =
            contender::time(&group.contenders, report.rounds, report.runs_per_round)?;
        // The floors of the first group stand for all in the tables; each group has its own.
        let first = report.packets.is_empty();
        let floor = |line: &Line| line.label.subject == contender::EMPTY;
        report
            .packets
            .extend(lines.into_iter().filter(|line| first || !floor(line)));
        report.programs.extend(group.programs);
        report.not_measured.extend(group.missing);
        Ok(())
    }
}
