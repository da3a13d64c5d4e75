//! `palisade surface`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use firewall_common::layout::INTERFACES;
use jiff::Timestamp;
use serde_json::json;

use super::client::{Client, read};
use super::output::{self, Table};
use super::{EXIT_FAILED, Global};
use crate::daemon::documents::{Events, PolicyDocument, Rules, Status};
use crate::datapath::clock;
use crate::guard::Ways;
use crate::host::{Host, Transport};
use crate::policy::{Environment, Mode, Policy, render};
use crate::respond::BanDuration;
use crate::settings::RESOLV_CONF;
use crate::surface::{Judge, ListenerReport, OpeningReport, Surface, Traffic, survey};

/// Arguments of `palisade surface`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Judge by this policy, without a daemon; without it, by the policy in force
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// With --policy: an interface that would be protected, several times for several; without it, those
    /// of the default routes
    #[arg(long, value_name = "NAME", requires = "policy")]
    pub interface: Vec<String>,
    /// How long nothing must have come to a listener that is open for it to be called unused
    #[arg(long, value_name = "DURATION", default_value = "1d")]
    pub unused_after: BanDuration,
    /// Only what is flagged
    #[arg(long)]
    pub flagged: bool,
}

/// A policy to judge by, and what is known of its traffic.
struct Basis {
    policy: Policy,
    source: String,
    interfaces: Vec<String>,
    traffic: Option<Traffic>,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let host = Host::look(Path::new(RESOLV_CONF))?;
    let basis = match &arguments.policy {
        Some(file) => match Policy::load(file) {
            Ok((policy, _)) => Basis {
                policy,
                source: file.display().to_string(),
                interfaces: match arguments.interface.as_slice() {
                    [] => host.outward().iter().map(|one| one.name.clone()).collect(),
                    named => named.to_vec(),
                },
                traffic: None,
            },
            Err(refused) => {
                render::show(&refused.errors, refused.more);
                return Ok(ExitCode::from(EXIT_FAILED));
            }
        },
        None => in_force(global)?,
    };
    let mut enforced = basis.policy.clone();
    enforced.defaults.mode = Mode::Enforce;
    let mut interfaces = basis.interfaces.clone();
    interfaces.truncate(INTERFACES as usize);
    let compiled = enforced.compile(&Environment {
        interfaces: interfaces.clone(),
        clock_offset: clock::offset(),
        now: Some(Timestamp::now()),
        ..Environment::default()
    })?;
    let mut judge = Judge::new(&enforced, compiled, clock::monotonic());
    let BanDuration(quiet) = arguments.unused_after;
    let mut surface = survey(
        &mut judge,
        &enforced,
        &host,
        &Ways::of_this_host(&interfaces),
        basis.traffic.as_ref(),
        quiet.map_or(u64::MAX, |quiet| quiet.as_secs()),
    );
    if arguments.flagged {
        surface
            .listeners
            .retain(|listener| !listener.flags.is_empty());
    }
    let observes = basis.policy.defaults.mode == Mode::Observe;
    if global.json {
        output::json(&json!({
            "policy": basis.source,
            "mode": if observes { "observe" } else { "enforce" },
            "interfaces": basis.interfaces,
            "watched_seconds": basis.traffic.as_ref().map(|traffic| traffic.watched_seconds),
            "listeners": surface.listeners,
            "openings": surface.openings,
            "notes": host.unknown,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&surface, &basis)?;
    for note in &host.unknown {
        eprintln!("note: {note}");
    }
    if observes {
        eprintln!(
            "note: the policy only observes: everything is open now, and EXPOSED is as if it were enforced"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The policy in force, and what the daemon has seen.
fn in_force(global: &Global) -> anyhow::Result<Basis> {
    let client = Client::new(&global.socket)?;
    let status: Status = read(client.get("/v1/status")?)?;
    let PolicyDocument {
        source, text, base, ..
    } = read(client.get("/v1/policy")?)?;
    let (policy, _) = Policy::parse(&text, &source, &base)
        .map_err(|refused| anyhow!("{refused}"))
        .context("the policy in force cannot be read again (is a list of a set gone?)")?;
    let Rules { rules, .. } = read(client.get("/v1/rules")?)?;
    let Events { events } = read(client.get("/v1/events?limit=10000")?)?;
    let mut ports: HashMap<(Transport, u16), Timestamp> = HashMap::new();
    for event in events {
        let transport = [Transport::Tcp, Transport::Udp]
            .into_iter()
            .find(|transport| transport.number() == event.protocol);
        let Some(transport) = transport else { continue };
        if event.direction != "inbound" || event.verdict != "pass" {
            continue;
        }
        let latest = ports
            .entry((transport, event.destination_port))
            .or_insert(event.time);
        *latest = (*latest).max(event.time);
    }
    let watched = Timestamp::now().duration_since(status.started).as_secs();
    Ok(Basis {
        policy,
        source,
        interfaces: status.interfaces.into_iter().map(|one| one.name).collect(),
        traffic: Some(Traffic {
            rules: rules
                .into_iter()
                .map(|rule| (rule.rule, rule.packets))
                .collect(),
            ports,
            watched_seconds: watched.max(0).cast_unsigned(),
        }),
    })
}

fn print(surface: &Surface, basis: &Basis) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "PROTOCOL",
        "ADDRESS",
        "PROCESS",
        "USER",
        "EXPOSED",
        "BY",
        "NOW",
        "PACKETS",
        "LAST SEEN",
        "FLAGS",
    ]);
    let number =
        |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for listener in &surface.listeners {
        let ListenerReport {
            protocol,
            address,
            port,
            ..
        } = listener;
        table.row(vec![
            protocol.name().to_owned(),
            std::net::SocketAddr::new(*address, *port).to_string(),
            output::optional(listener.process.as_deref()),
            listener.user.clone(),
            match listener.from.as_slice() {
                [] => listener.exposure.to_owned(),
                from => format!("{}: {}", listener.exposure, from.join(", ")),
            },
            listener.rules.join(", "),
            listener.connections.to_string(),
            number(listener.packets),
            listener
                .last_packet
                .map_or_else(|| "-".to_owned(), output::whole_seconds),
            listener.flags.join(", ").replace('_', " "),
        ]);
    }
    table.print()?;
    if !surface.openings.is_empty() {
        output::line("")?;
        let mut table = Table::new(&[
            "OPEN AND UNUSED",
            "PROTOCOL",
            "PORTS",
            "FAMILIES",
            "PACKETS",
        ]);
        for OpeningReport {
            opening, packets, ..
        } in &surface.openings
        {
            table.row(vec![
                opening.rule.clone(),
                opening.protocol.name().to_owned(),
                opening.in_words(),
                opening.families.join(", "),
                number(*packets),
            ]);
        }
        table.print()?;
    }
    let flagged = |flag: &str| {
        let listeners = surface.listeners.iter();
        listeners
            .filter(|listener| listener.flags.contains(&flag))
            .count()
    };
    eprintln!(
        "palisade: by {}, on {}: {} listening and not covered, {} open and silent, {} open where nothing listens",
        basis.source,
        basis.interfaces.join(", "),
        flagged("not_covered"),
        flagged("unused"),
        output::counted(surface.openings.len(), "rule"),
    );
    Ok(())
}
