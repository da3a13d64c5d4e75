//! `palisade init`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::{EXIT_FAILED, Global, lifelines, new_file, output};
use crate::host::{Host, Interface};
use crate::policy::{DefaultAction, Finding, Mode, Policy, Severity, render};
use crate::propose::{Kept, Proposal, Wishes, keeps, settings};
use crate::settings::{RESOLV_CONF, Settings};

/// Arguments of `palisade init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to write the policy; without it, to standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where to write the host settings with the interfaces
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    pub force: bool,
    /// An interface to protect, several times for several; without it, those of the default routes
    #[arg(long, value_name = "NAME")]
    pub interface: Vec<String>,
    /// Whether the policy only counts what it would drop
    #[arg(long, value_enum, default_value_t = ModeChoice::Observe)]
    pub mode: ModeChoice,
    /// What becomes of connections that this host opens and that are not open now
    #[arg(long, value_enum, default_value_t = Outbound::Accept)]
    pub outbound: Outbound,
    /// Where the host's name servers are configured
    #[arg(long, value_name = "FILE", default_value = RESOLV_CONF)]
    pub resolv_conf: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeChoice {
    Observe,
    Enforce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Outbound {
    Accept,
    Drop,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    for (file, flag) in [
        (&arguments.output, "--output"),
        (&arguments.settings, "--settings"),
    ] {
        if let Some(file) = file
            && file.exists()
            && !arguments.force
        {
            // Said before anything is written: not one file of two.
            bail!(
                "{} exists; --force replaces it, or choose another {flag}",
                file.display()
            );
        }
    }
    let host = Host::look(&arguments.resolv_conf)?;
    let interfaces = chosen(&host, &arguments.interface)?;
    let wishes = Wishes {
        mode: match arguments.mode {
            ModeChoice::Observe => Mode::Observe,
            ModeChoice::Enforce => Mode::Enforce,
        },
        outbound: match arguments.outbound {
            Outbound::Accept => DefaultAction::Accept,
            Outbound::Drop => DefaultAction::Drop,
        },
    };
    let proposal = Proposal::of(&host, &interfaces, wishes);
    let text = proposal.policy(&host, &interfaces, jiff::Timestamp::now());
    let settings = settings(&interfaces, &policy_named(&arguments));
    let (policy, findings) = checked(&text, &settings)?;
    let names: Vec<String> = interfaces.iter().map(|one| one.name.clone()).collect();
    let lifelines = lifelines::of(&names, &arguments.resolv_conf);
    let kept = keeps(&policy, &host, &interfaces, &lifelines)?;
    if let Some(file) = &arguments.output {
        new_file::write(file, &text, arguments.force)?;
    }
    if let Some(file) = &arguments.settings {
        new_file::write(file, &settings, arguments.force)?;
    }
    if global.json {
        output::json(&json!({
            "policy": text,
            "settings": settings,
            "policy_file": arguments.output,
            "settings_file": arguments.settings,
            "interfaces": interfaces,
            "rules": policy.rules.len(),
            "not_opened": proposal.closed,
            "notes": proposal.notes,
            "findings": findings.iter().map(Finding::to_json).collect::<Vec<Value>>(),
            "kept": kept,
            "guard_notes": lifelines.unknown,
        }))?;
    } else {
        if arguments.output.is_none() {
            io::stdout().lock().write_all(text.as_bytes())?;
        }
        let worth_saying: Vec<Finding> = findings
            .into_iter()
            .filter(|finding| finding.severity == Severity::Warning)
            .collect();
        render::show(&worth_saying, 0);
        for note in proposal.notes.iter().chain(&lifelines.unknown) {
            eprintln!("note: {note}");
        }
        tell(&arguments, &policy, &kept);
    }
    Ok(if kept.cuts.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAILED)
    })
}

/// The interfaces to protect.
fn chosen<'h>(host: &'h Host, wished: &[String]) -> anyhow::Result<Vec<&'h Interface>> {
    if wished.is_empty() {
        let found = host.outward();
        if found.is_empty() {
            bail!(
                "no Ethernet interface with an address is up: nothing to protect; name one with --interface"
            );
        }
        return Ok(found);
    }
    let mut interfaces: Vec<&Interface> = Vec::new();
    for name in wished {
        let mut known = host.interfaces.iter();
        let interface = known
            .find(|interface| interface.name == *name)
            .ok_or_else(|| {
                anyhow!("interface {name} does not exist; `ip link` lists those that do")
            })?;
        if !interface.ethernet || interface.loopback {
            bail!("interface {name} is not Ethernet; Palisade protects Ethernet interfaces");
        }
        if !interfaces.contains(&interface) {
            interfaces.push(interface);
        }
    }
    Ok(interfaces)
}

/// How the settings name the policy.
fn policy_named(arguments: &Args) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let Some(policy) = &arguments.output else {
        return "policy.toml".to_owned();
    };
    let policy = absolute(policy);
    let beside = arguments
        .settings
        .as_deref()
        .is_some_and(|settings| absolute(settings).parent() == policy.parent());
    match policy.file_name() {
        Some(name) if beside => name.to_string_lossy().into_owned(),
        _ => policy.display().to_string(),
    }
}

/// Reads what is proposed as `palisade check` and the daemon would.
fn checked(policy: &str, settings: &str) -> anyhow::Result<(Policy, Vec<Finding>)> {
    let parsed = Policy::parse(policy, "the proposed policy", Path::new(""));
    let (policy, findings) = parsed.map_err(|refused| {
        render::show(&refused.errors, refused.more);
        anyhow!("the proposed policy is not valid; please report it with what is above")
    })?;
    Settings::parse(Path::new("/etc/palisade/palisade.toml"), settings)?;
    Ok((policy, findings))
}

fn tell(arguments: &Args, policy: &Policy, kept: &Kept) {
    eprintln!(
        "palisade: {} proposed; judged as if enforced: {}, {}, {}, {}",
        output::counted(policy.rules.len(), "rule"),
        output::counted(kept.listeners, "listener"),
        output::counted(kept.sessions, "session"),
        output::counted(kept.gateways, "gateway"),
        output::counted(kept.name_servers, "name server"),
    );
    if kept.cuts.is_empty() {
        eprintln!("palisade: nothing that is in use would be cut");
    } else {
        eprintln!("palisade: it would cut what is in use; mend it before you enforce it:");
        for cut in &kept.cuts {
            eprintln!("  {cut}");
        }
    }
    if arguments.settings.is_none() {
        eprintln!("palisade: --settings FILE writes the host settings that go with it");
    }
    let written = [&arguments.output, &arguments.settings]
        .into_iter()
        .flatten();
    for file in written {
        eprintln!("palisade: written: {}", file.display());
    }
}
