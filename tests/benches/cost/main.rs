//! What a packet costs: Palisade beside an empty program and xdp-filter, in one run. Started by
//! `cargo xtask bench`; docs/performance.md has results and says how to read them.

mod contender;
mod kernel;
mod load;
mod palisade;
mod policies;
mod prologue;
mod report;
mod xdp_filter;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use palisade_tests::need_tools;

use contender::Contender;
use palisade::Field;
use policies::{DROPPED_PORT, LISTED, OPEN_PORT, STRANGER, syn};
use prologue::{XDP_DROP, XDP_PASS};
use report::{Machine, Report};
use xdp_filter::XdpFilter;

#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    /// Also write the result to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer and shorter rounds: for trying out, not for figures
    #[arg(long)]
    quick: bool,
    /// cargo gives this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const ROUNDS: u32 = 15;
const RUNS: u32 = 200_000;
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
    let (rounds, repeat) = if arguments.quick {
        (QUICK_ROUNDS, QUICK_RUNS)
    } else {
        (ROUNDS, RUNS)
    };
    let mut machine = Machine::this();
    let list = policies::list_file();
    eprintln!("loading the policies ...");
    let mut field = Field::default();
    let [v4, v6] = [syn(STRANGER[0], OPEN_PORT)?, syn(STRANGER[1], OPEN_PORT)?];
    field.contenders = Contender::floors(&v4, &v6)?;
    let filter = other_firewall(&mut field)?;
    field.fill(list.as_deref())?;
    let timings = contender::time(&field.contenders, rounds, repeat)?;
    drop(filter);
    eprintln!("putting policies in force ...");
    let loads = load::measure(list.as_deref(), &mut field.missing)?;
    machine.load.1 = report::load_average();
    let report = Report {
        machine,
        rounds,
        repeat,
        contenders: field.contenders,
        timings,
        sizes: field.sizes,
        loads,
        missing: field.missing,
    };
    report.print();
    if let Some(file) = arguments.json {
        let text = serde_json::to_string_pretty(&report.json())?;
        std::fs::write(&file, text + "\n")
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// xdp-filter, if it is installed and loads.
fn other_firewall(field: &mut Field) -> Result<Option<XdpFilter>> {
    if need_tools(&["xdp-filter", "unshare"]).is_err() {
        field.missing.push(
            "xdp-filter is not installed; `cargo xtask setup --for bench` does it".to_owned(),
        );
        return Ok(None);
    }
    let filter = XdpFilter::load()?;
    let (program, name) = (filter.program.as_fd(), "xdp-filter");
    for family in [0, 1] {
        let (listed, stranger) = (LISTED[family], STRANGER[family]);
        let drop = syn(listed, OPEN_PORT)?;
        let port = syn(stranger, DROPPED_PORT)?;
        let other = syn(stranger, OPEN_PORT)?;
        let contenders = &mut field.contenders;
        let (pass, nothing) = (XDP_PASS, "pass, nothing matches");
        contenders.push(Contender::hot(
            name,
            "drop by address",
            program,
            drop,
            XDP_DROP,
        )?);
        contenders.push(Contender::hot(
            name,
            "drop by port",
            program,
            port.clone(),
            XDP_DROP,
        )?);
        contenders.push(Contender::hot(name, nothing, program, other.clone(), pass)?);
        contenders.push(Contender::cold(
            name,
            "drop by port",
            program,
            port,
            XDP_DROP,
            false,
        )?);
        contenders.push(Contender::cold(name, nothing, program, other, pass, false)?);
    }
    let size = kernel::size(program)?;
    field
        .sizes
        .push((format!("xdp-filter ({})", filter.name), "ingress", size));
    Ok(Some(filter))
}
