//! `palisade check`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::lifelines::{self, Examined};
use super::progress::Audience;
use super::{EXIT_FAILED, Global};
use crate::policy::{Environment, Finding, Policy, PolicyErrors, render};
use crate::settings::Settings;

/// Arguments of `palisade check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy file
    #[arg(default_value = "/etc/palisade/policy.toml")]
    pub file: PathBuf,
    /// The host settings, for the names of its interfaces; without it, palisade.toml beside the
    /// policy, if there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Also say what the policy would cut of what this host lives by now: ssh sessions, gateways, name servers
    #[arg(long)]
    pub host: bool,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let interfaces = match interfaces(&arguments) {
        Ok(interfaces) => interfaces,
        Err(error) => {
            eprintln!("palisade: {error:#}");
            return Ok(ExitCode::from(EXIT_FAILED));
        }
    };
    let audience = Audience::new(global);
    let outcome = audience
        .load(&arguments.file)
        .and_then(|(policy, mut findings)| {
            let text = fs::read_to_string(&arguments.file).unwrap_or_default();
            let name = arguments.file.display().to_string();
            if let Some(interfaces) = &interfaces {
                findings.extend(Finding::about_interfaces(&policy, &name, &text, interfaces));
            }
            let _compiling = audience.waiting("compiling");
            compiled(&name, &text, policy, findings)
        });
    let file = arguments.file.display().to_string();
    let examined = match &outcome {
        Ok((policy, _)) if arguments.host => Some(lifelines::examine(policy, interfaces)?),
        _ => None,
    };
    if global.json {
        let mut document = report(&file, &outcome);
        if let Some(examined) = &examined {
            document["host"] = json!({
                "cuts": examined.cuts,
                "cuts_if_enforced": examined.if_enforced,
                "notes": examined.notes,
            });
        }
        println!("{document}");
    } else {
        match &outcome {
            Ok((policy, warnings)) => {
                render::show(warnings, 0);
                let addresses: usize = policy.sets.iter().map(|set| set.prefixes.len()).sum();
                println!(
                    "{file}: valid, {}, {} with {}",
                    counted(policy.rules.len(), "rule", "rules"),
                    counted(policy.sets.len(), "set", "sets"),
                    counted(addresses, "prefix", "prefixes"),
                );
            }
            Err(refused) => {
                render::show(&refused.warnings, 0);
                render::show(&refused.errors, refused.more);
            }
        }
    }
    if let Some(examined) = &examined {
        tell(examined);
    }
    let cut = examined.is_some_and(|examined| !examined.cuts.is_empty());
    Ok(match outcome {
        Ok(_) if !cut => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_FAILED),
    })
}

/// What the policy would cut here.
fn tell(examined: &Examined) {
    for note in &examined.notes {
        eprintln!("note: {note}");
    }
    for threat in &examined.if_enforced {
        eprintln!("warning: if it did not only observe, {threat}");
    }
    for threat in &examined.cuts {
        eprintln!("error: on this host {threat}");
    }
}

/// A policy is valid when it can be compiled too.
fn compiled(
    file: &str,
    text: &str,
    policy: Policy,
    warnings: Vec<Finding>,
) -> Result<(Policy, Vec<Finding>), PolicyErrors> {
    match policy.compile(&Environment::default()) {
        Ok(_) => Ok((policy, warnings)),
        Err(error) => Err(PolicyErrors {
            errors: vec![Finding::about_rules(&policy, file, text, error.to_string())],
            more: 0,
            warnings,
        }),
    }
}

/// The interfaces of the host that the policy is for; `None` if that is not known.
fn interfaces(arguments: &Args) -> anyhow::Result<Option<Vec<String>>> {
    let beside = arguments.file.with_file_name("palisade.toml");
    let file = match &arguments.config {
        Some(file) => file,
        None if beside.is_file() => &beside,
        None => return Ok(None),
    };
    let names = |settings: Settings| {
        let interfaces = settings.interfaces.into_iter();
        interfaces.map(|interface| interface.name).collect()
    };
    match Settings::load(file) {
        Ok(settings) => Ok(Some(names(settings))),
        // It is not what is to be checked.
        Err(_) if arguments.config.is_none() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The document that `--json` prints.
fn report(file: &str, outcome: &Result<(Policy, Vec<Finding>), PolicyErrors>) -> Value {
    let list = |findings: &[Finding]| findings.iter().map(Finding::to_json).collect::<Vec<_>>();
    match outcome {
        Ok((policy, warnings)) => {
            let count = |set: &crate::policy::Set| (set.name.clone(), json!(set.prefixes.len()));
            let sets: serde_json::Map<String, Value> = policy.sets.iter().map(count).collect();
            json!({
                "file": file,
                "valid": true,
                "errors": [],
                "errors_total": 0,
                "warnings": list(warnings),
                "rules": policy.rules.len(),
                "sets": sets,
            })
        }
        Err(refused) => json!({
            "file": file,
            "valid": false,
            "errors": list(&refused.errors),
            "errors_total": refused.total(),
            "warnings": list(&refused.warnings),
            "rules": null,
            "sets": null,
        }),
    }
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
