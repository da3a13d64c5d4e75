//! `palisade watch`.

mod capture;
mod line;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use ipnet::IpNet;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::signal::unix::{SignalKind, signal};

use super::Global;
use super::client::{Client, Ended};
use super::style::Style;
use crate::daemon::documents::{LostBy, LostDocument, WatchLine, WatchQuery};
use crate::daemon::{watch_protocol, watch_reason};
use crate::policy::address::parse_prefix;
use capture::Capture;

/// Arguments of `palisade watch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only packets dropped for this reason: rule, default, ban, limit, established, link, malformed or
    /// signature
    #[arg(long, value_name = "REASON", value_delimiter = ',', value_parser = checked_reason)]
    pub reason: Vec<String>,
    /// Only packets that this rule decided about
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub rule: Vec<String>,
    /// Only packets from this address or prefix
    #[arg(long, value_name = "ADDR[/LEN]", value_delimiter = ',', value_parser = parse_prefix)]
    pub from: Vec<IpNet>,
    /// Only packets to this address or prefix
    #[arg(long, value_name = "ADDR[/LEN]", value_delimiter = ',', value_parser = parse_prefix)]
    pub to: Vec<IpNet>,
    /// Only packets from or to this port
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub port: Vec<u16>,
    /// Only packets of this protocol, by name or number
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = checked_protocol)]
    pub protocol: Vec<String>,
    /// Only packets of this interface
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub interface: Vec<String>,
    /// Show samples of what is let through, too
    #[arg(long)]
    pub passed: bool,
    /// End after so many lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Write the packets' first 160 bytes to a capture, each with its reason and rule as a comment
    /// (pcapng); `-` is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub write: Option<PathBuf>,
}

fn checked_reason(text: &str) -> Result<String, String> {
    watch_reason(text).map(|reason| reason.name().to_owned())
}

fn checked_protocol(text: &str) -> Result<String, String> {
    watch_protocol(text).map(|number| number.to_string())
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&global.socket)?;
    let path = path(&arguments);
    let mut output = match &arguments.write {
        Some(file) => Output::Capture(Capture::create(file)?),
        None if global.json => Output::Json,
        None => Output::Text(Style::of(&io::stdout())),
    };
    let mut told = Told::default();
    let begun = || {
        if !global.json {
            eprintln!("palisade: watching; Ctrl-C ends it");
        }
    };
    let ended = client.follow_until(&path, interrupted(), begun, |bytes| {
        let line: WatchLine =
            serde_json::from_slice(bytes).context("the daemon's answer is not understood")?;
        output.show(&line, bytes)?;
        told.count(&line);
        let enough = arguments.count.is_some_and(|count| told.shown >= count);
        Ok(if enough {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    });
    // A daemon that was never reached has told nothing.
    if !global.json && (ended.is_ok() || told.shown > 0) {
        eprintln!("palisade: {told}");
    }
    let (Ended::Enough | Ended::Stopped) = ended?;
    Ok(ExitCode::SUCCESS)
}

/// The question to the daemon.
fn path(arguments: &Args) -> String {
    let joined = |values: Vec<String>| values.join(",");
    let texts = |values: &[IpNet]| joined(values.iter().map(IpNet::to_string).collect());
    let query = WatchQuery {
        passed: arguments.passed,
        reason: arguments.reason.join(","),
        rule: arguments.rule.join(","),
        from: texts(&arguments.from),
        to: texts(&arguments.to),
        port: joined(arguments.port.iter().map(u16::to_string).collect()),
        protocol: arguments.protocol.join(","),
        interface: arguments.interface.join(","),
    };
    let mut path = match arguments.write {
        Some(_) => "/v1/watch/frames".to_owned(),
        None => "/v1/watch".to_owned(),
    };
    path.push_str(&format!("?passed={}", query.passed));
    for (key, value) in [
        ("reason", query.reason),
        ("rule", query.rule),
        ("from", query.from),
        ("to", query.to),
        ("port", query.port),
        ("protocol", query.protocol),
        ("interface", query.interface),
    ] {
        if !value.is_empty() {
            let value = utf8_percent_encode(&value, NON_ALPHANUMERIC);
            path.push_str(&format!("&{key}={value}"));
        }
    }
    path
}

/// Comes when the user, or whoever runs this, wants it to end.
async fn interrupted() {
    let streams = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    // Without them the signals' own effect ends the program.
    let (Ok(mut interrupt), Ok(mut terminate)) = streams else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Where what comes goes.
enum Output {
    Text(Style),
    Json,
    Capture(Capture),
}

impl Output {
    fn show(&mut self, line: &WatchLine, bytes: &[u8]) -> anyhow::Result<()> {
        match (self, line) {
            (Self::Json, _) => put(bytes),
            (Self::Text(style), WatchLine::Packet(packet)) => {
                put(format!("{}\n", line::line(&packet.event, *style)).as_bytes())
            }
            (Self::Capture(capture), WatchLine::Packet(packet)) => capture.add(packet),
            (_, WatchLine::Lost(lost)) => {
                eprintln!("palisade: {}", lost_text(lost));
                Ok(())
            }
        }
    }
}

/// Writes a line at once, wherever it goes: whoever reads a pipe wants it now.
fn put(line: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line)?;
    out.flush()?;
    Ok(())
}

fn lost_text(lost: &LostDocument) -> String {
    match (lost.by, lost.samples) {
        (LostBy::Reader, Some(samples)) => format!(
            "this was read too slowly: {samples} samples, standing for {} packets, are missing here",
            lost.packets
        ),
        (LostBy::Reader, None) | (LostBy::Kernel, _) => format!(
            "the ring buffer was full: samples standing for {} packets are missing here",
            lost.packets
        ),
    }
}

/// What has been told so far.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    shown: u64,
    stand_for: u64,
    lost: u64,
}

impl Told {
    fn count(&mut self, line: &WatchLine) {
        match line {
            WatchLine::Packet(packet) => {
                self.shown += 1;
                self.stand_for += packet.event.packets;
            }
            WatchLine::Lost(lost) => self.lost += lost.packets,
        }
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            shown,
            stand_for,
            lost,
        } = self;
        write!(
            formatter,
            "{shown} packets shown, which stand for {stand_for}; lost: {lost}"
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        arguments: Args,
        #[arg(long)]
        json: bool,
    }

    fn arguments(line: &str) -> Result<Args, clap::Error> {
        Command::try_parse_from(line.split(' ')).map(|command| command.arguments)
    }

    #[test]
    fn what_is_asked_for_is_the_daemon_s_query() {
        let asked = arguments(
            "watch --reason ban,rule --from 203.0.113.0/24 --port 22 --port 443 --protocol tcp --passed",
        );
        assert_eq!(
            path(&asked.expect("right")),
            "/v1/watch?passed=true&reason=ban%2Crule&from=203%2E0%2E113%2E0%2F24&port=22%2C443&protocol=6"
        );
        let written = arguments("watch --write -").expect("right");
        assert_eq!(path(&written), "/v1/watch/frames?passed=false");
    }

    #[test]
    fn what_makes_no_sense_is_wrong_usage() {
        for wrong in [
            "watch --reason bann",
            "watch --protocol tpc",
            "watch --from 203.0.113.7/24",
            "watch --port 70000",
            "watch --count 0",
            "watch --json --write x.pcapng",
        ] {
            assert!(arguments(wrong).is_err(), "{wrong}");
        }
    }
}
