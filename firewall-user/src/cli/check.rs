//! `palisade check`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{EXIT_FAILED, Global};
use crate::policy::{Environment, Finding, Policy, PolicyErrors, render};

/// Arguments of `palisade check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy file
    #[arg(default_value = "/etc/palisade/policy.toml")]
    pub file: std::path::PathBuf,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let outcome = Policy::load(&arguments.file).and_then(|read| compiled(&arguments.file, read));
    let file = arguments.file.display().to_string();
    if global.json {
        println!("{}", report(&file, &outcome));
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
    Ok(match outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_FAILED),
    })
}

/// A policy is valid when it can be compiled too.
fn compiled(
    file: &std::path::Path,
    (policy, warnings): (Policy, Vec<Finding>),
) -> Result<(Policy, Vec<Finding>), PolicyErrors> {
    match policy.compile(&Environment::default()) {
        Ok(_) => Ok((policy, warnings)),
        Err(error) => Err(PolicyErrors {
            errors: vec![Finding::about_file(
                &file.display().to_string(),
                error.to_string(),
            )],
            more: 0,
            warnings,
        }),
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
