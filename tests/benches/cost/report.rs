//! The result, for people and for programs.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::contender::{Contender, EMPTY, Heat, Timing};
use super::kernel::Size;
use super::load::LoadTime;

/// All that was measured.
pub struct Report {
    pub machine: Machine,
    pub rounds: u32,
    pub repeat: u32,
    pub contenders: Vec<Contender>,
    pub timings: Vec<Timing>,
    pub sizes: Vec<(String, &'static str, Size)>,
    pub loads: Vec<LoadTime>,
    /// What could not be measured, and why.
    pub missing: Vec<String>,
}

/// What it was measured on.
pub struct Machine {
    pub processor: String,
    pub cpus: usize,
    pub kernel: String,
    /// Load average of one minute, before and after.
    pub load: (String, String),
}

impl Machine {
    pub fn this() -> Self {
        let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = information
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split(':').nth(1))
            .map_or_else(
                || "unknown processor".to_owned(),
                |name| name.trim().to_owned(),
            );
        let kernel = rustix::system::uname();
        Self {
            processor,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.release().to_string_lossy().into_owned(),
            load: (load_average(), String::new()),
        }
    }
}

pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

impl Report {
    pub fn print(&self) {
        let machine = &self.machine;
        println!(
            "{}, {} CPUs, Linux {}; load average {} before, {} after",
            machine.processor, machine.cpus, machine.kernel, machine.load.0, machine.load.1
        );
        println!(
            "Nanoseconds per packet under BPF_PROG_TEST_RUN: median of {} rounds of {} runs, all \
             contenders in turn in each round",
            self.rounds, self.repeat
        );
        for heat in [Heat::Hot, Heat::Cold] {
            println!("\n{}", title(heat));
            println!("{}", self.times(heat));
        }
        println!("\nPrograms\n{}", self.sizes());
        println!(
            "\nPutting a policy in force, milliseconds (medians)\n{}",
            self.loads()
        );
        for missing in &self.missing {
            println!("\nNot measured: {missing}");
        }
    }

    /// What a contender costs over its floor: the empty program, or the empty program behind the
    /// same prologue.
    fn over_floor(&self, index: usize) -> i64 {
        let contender = &self.contenders[index];
        let floor = self.contenders.iter().position(|other| {
            other.subject == EMPTY
                && other.heat == contender.heat
                && (contender.heat == Heat::Hot || other.v6 == contender.v6)
        });
        let floor = floor.map_or(0, |floor| self.timings[floor].median());
        i64::from(self.timings[index].median()) - i64::from(floor)
    }

    fn times(&self, heat: Heat) -> Table {
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
        for (index, contender) in self.contenders.iter().enumerate() {
            if contender.heat != heat {
                continue;
            }
            let timing = &self.timings[index];
            let (lower, upper) = timing.quartiles();
            table.add_row([
                contender.subject.clone(),
                contender.case.to_owned(),
                family(contender.v6).to_owned(),
                timing.median().to_string(),
                format!("{lower}-{upper}"),
                timing.least().to_string(),
                self.over_floor(index).to_string(),
            ]);
        }
        table
    }

    fn sizes(&self) -> Table {
        let mut table = table(
            &[
                "policy",
                "program",
                "instructions",
                "bytes of code",
                "verified",
            ],
            2,
        );
        for (subject, program, size) in &self.sizes {
            table.add_row([
                subject.clone(),
                (*program).to_owned(),
                (size.translated / 8).to_string(),
                size.machine.to_string(),
                size.verified.to_string(),
            ]);
        }
        table
    }

    fn loads(&self) -> Table {
        let mut table = table(&["policy", "read", "compile", "load", "swap", "all"], 1);
        for time in &self.loads {
            let all = time.read + time.compile + time.load + time.swap;
            let times = [time.read, time.compile, time.load, time.swap, all];
            let mut row = vec![time.policy.clone()];
            row.extend(times.map(|time| format!("{:.1}", time.as_secs_f64() * 1e3)));
            table.add_row(row);
        }
        table
    }

    pub fn json(&self) -> Value {
        let machine = &self.machine;
        let timings = self
            .contenders
            .iter()
            .enumerate()
            .map(|(index, contender)| {
                let timing = &self.timings[index];
                let (lower, upper) = timing.quartiles();
                json!({
                    "program": contender.subject,
                    "case": contender.case,
                    "family": family(contender.v6),
                    "sources": if contender.heat == Heat::Hot { "one" } else { "random" },
                    "median_ns": timing.median(),
                    "quartiles_ns": [lower, upper],
                    "least_ns": timing.least(),
                    "over_empty_ns": self.over_floor(index),
                })
            });
        let sizes = self.sizes.iter().map(|(subject, program, size)| {
            json!({
                "policy": subject,
                "program": program,
                "instructions": size.translated / 8,
                "machine_bytes": size.machine,
                "verified_instructions": size.verified,
            })
        });
        let loads = self.loads.iter().map(|time| {
            json!({
                "policy": time.policy,
                "read_seconds": time.read.as_secs_f64(),
                "compile_seconds": time.compile.as_secs_f64(),
                "load_seconds": time.load.as_secs_f64(),
                "swap_seconds": time.swap.as_secs_f64(),
            })
        });
        json!({
            "machine": {
                "processor": machine.processor,
                "cpus": machine.cpus,
                "kernel": machine.kernel,
                "load_average": [machine.load.0, machine.load.1],
            },
            "rounds": self.rounds,
            "runs_per_round": self.repeat,
            "packets": timings.collect::<Vec<_>>(),
            "programs": sizes.collect::<Vec<_>>(),
            "loading": loads.collect::<Vec<_>>(),
            "not_measured": self.missing,
        })
    }
}

const fn title(heat: Heat) -> &'static str {
    match heat {
        Heat::Hot => "Hot: one frame, again and again",
        Heat::Cold => "Cold: a prologue draws the source at random before each run",
    }
}

const fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

/// An empty table, its columns from `numbers` on flush right.
fn table(header: &[&str], numbers: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
