//! `palisade replay`.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use ipnet::IpNet;

use super::output::{self, Table};
use super::progress::Audience;
use super::{EXIT_FAILED, EXIT_USAGE, Global};
use crate::policy::address;
use crate::replay::capture::CaptureReader;
use crate::replay::{EngineKind, Inside, Options, Replay, Report};
use crate::settings::Settings;

/// Arguments of `palisade replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A pcap or pcapng capture; `-` is standard input
    pub capture: PathBuf,
    /// The policy to judge by
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// A prefix behind the fence: what goes to it is inbound, what leaves it is outbound (can be
    /// given several times; without it, everything is inbound)
    #[arg(long, value_name = "CIDR", value_parser = address::parse_prefix)]
    pub inside: Vec<IpNet>,
    /// Write a JSON line per packet: its number, verdict, reason and rule
    #[arg(long, value_name = "FILE")]
    pub verdicts: Option<PathBuf>,
    /// Who judges [default: kernel when permitted, host otherwise]
    #[arg(long, value_enum)]
    pub engine: Option<EngineKind>,
    /// Tell where the kernel programs and the host engine disagree, and fail if they do
    #[arg(long)]
    pub compare: bool,
    /// The interface that the capture stands for, for rules that name one
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Take the `[detect]` settings from this file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    if arguments.compare && arguments.engine == Some(EngineKind::Host) {
        eprintln!("palisade: --compare needs the kernel engine: leave --engine host out");
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let audience = Audience::new(global);
    let Some(policy) = audience.policy(&arguments.policy) else {
        return Ok(ExitCode::from(EXIT_FAILED));
    };
    let detection = match &arguments.config {
        Some(file) => Settings::load(file)?.detect,
        None => crate::detect::Config::default(),
    };
    let options = Options {
        engine: if arguments.compare {
            Some(EngineKind::Kernel)
        } else {
            arguments.engine
        },
        inside: Inside::new(arguments.inside),
        interface: arguments.interface,
        detection,
    };
    let capture = arguments.capture.display();
    let source = open(&arguments.capture, audience)?;
    let reader = CaptureReader::new(source).map_err(|error| anyhow!("{capture} {error}"))?;
    let verdicts = arguments.verdicts.as_deref().map(create).transpose()?;
    let compiling = audience.waiting("compiling");
    let mut replay = Replay::new(&policy, options, verdicts)?;
    drop(compiling);
    if let Some(reason) = replay.fallback() {
        eprintln!("palisade: judged by the host engine: {reason}");
    }
    replay.judge(reader).with_context(|| capture.to_string())?;
    let report = replay.finish()?;
    if report.packets == 0
        && let Some(link) = report.skipped_link
    {
        bail!(
            "{capture} has link type {link}; Ethernet, raw IP, loopback and Linux cooked captures \
             can be judged"
        );
    }
    if global.json {
        output::json(&serde_json::to_value(&report)?)?;
    } else {
        print(&report)?;
    }
    Ok(warn(&capture.to_string(), &report, arguments.compare))
}

/// Says what was not as it should be; the exit code follows from it.
fn warn(capture: &str, report: &Report, compare: bool) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    if let Some(link) = report.skipped_link {
        eprintln!(
            "palisade: {capture}: {} packets of link type {link} were left out",
            report.skipped
        );
    }
    if let Some(damage) = &report.damage {
        eprintln!(
            "palisade: {capture} {damage}; the {} packets before it were replayed",
            report.packets
        );
        code = ExitCode::from(EXIT_FAILED);
    }
    if let Some(mismatches @ 1..) = report.mismatches {
        eprintln!("palisade: the engines disagree on {mismatches} packets");
        for difference in &report.differences {
            eprintln!("  {difference}");
        }
        if compare {
            code = ExitCode::from(EXIT_FAILED);
        }
    }
    code
}

fn print(report: &Report) -> anyhow::Result<()> {
    output::line(&format!(
        "{} packets in {:.3} s of capture, judged by the {} engine",
        report.packets,
        report.seconds,
        report.engine.name()
    ))?;
    if report.host_judged > 0 {
        output::line(&format!(
            "{} of them by the host engine: the kernel's test run cannot take them",
            report.host_judged
        ))?;
    }
    let mut table = Table::new(&["", "NAME", "PACKETS", "BYTES"]);
    let mut counted = |what: &str, name: &str, packets: u64, bytes: Option<u64>| {
        table.row(vec![
            what.to_owned(),
            name.to_owned(),
            packets.to_string(),
            bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
        ]);
    };
    for (name, packets) in report.verdicts.iter() {
        counted("verdict", name, packets, None);
    }
    for (name, packets) in report.reasons.iter().filter(|(_, packets)| *packets > 0) {
        counted("reason", name, packets, None);
    }
    for (name, hits) in &report.rules.0 {
        counted("rule", name, hits.packets, Some(hits.bytes));
    }
    table.print()?;
    for incident in report
        .incidents
        .iter()
        .filter(|incident| incident.alert_count > 1)
    {
        output::line(&format!("incident {}: {}", incident.id, incident.why))?;
    }
    for alert in &report.alerts {
        output::line(&format!(
            "{} {} {}: {}",
            alert.severity, alert.kind, alert.subject, alert.why
        ))?;
    }
    Ok(())
}

fn open(capture: &Path, audience: Audience) -> anyhow::Result<impl Read + use<>> {
    let source: Box<dyn Read> = if capture == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let opened = File::open(capture);
        Box::new(opened.with_context(|| format!("{} cannot be read", capture.display()))?)
    };
    // Behind the buffer, so that it is told now and then and not of each packet.
    let watched = audience.watch(capture, source);
    Ok(BufReader::with_capacity(1 << 18, watched))
}

fn create(file: &Path) -> anyhow::Result<BufWriter<File>> {
    let created =
        File::create(file).with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(BufWriter::new(created))
}
