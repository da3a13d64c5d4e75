//! `palisade set`.

use std::path::Path;
use std::process::ExitCode;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::policy_file::{Changing, PolicyFile};
use super::{EXIT_FAILED, Global, output};
use crate::policy::address::{parse_prefix, print_prefix};
use crate::policy::edit::{
    EditError, add_to_file, add_to_set, create_set, remove_from_file, remove_from_set,
};
use crate::policy::{Policy, Set};

/// Arguments of `palisade set`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the sets
    List {
        #[command(flatten)]
        file: PolicyFile,
    },
    /// Show the addresses of a set, one a line
    Show {
        /// The set's name
        name: String,
        #[command(flatten)]
        file: PolicyFile,
    },
    /// Add addresses to a set and put that in force
    Add {
        #[command(flatten)]
        change: Change,
        /// Make the set if there is none of this name
        #[arg(long)]
        create: bool,
    },
    /// Remove addresses from a set and put that in force
    Remove {
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, clap::Args)]
struct Change {
    /// The set's name
    name: String,
    /// Addresses or prefixes
    #[arg(required = true, value_name = "ADDR[/LEN]", value_parser = parse_prefix)]
    addresses: Vec<IpNet>,
    #[command(flatten)]
    changing: Changing,
    /// Why, for the audit log and the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Change {
    fn explained(mut self) -> Self {
        self.changing.reason = self.reason.take();
        self
    }
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Verb::List { file } => list(global, &file),
        Verb::Show { name, file } => show(global, &file, &name),
        Verb::Add { change, create } => add(global, change.explained(), create),
        Verb::Remove { change } => remove(global, &change.explained()),
    }
}

fn list(global: &Global, file: &PolicyFile) -> anyhow::Result<ExitCode> {
    let (path, policy) = match file.load(global)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let sets = policy.sets.iter().enumerate();
    if global.json {
        let sets: Vec<Value> = sets
            .map(|(index, set)| {
                json!({
                    "name": set.name,
                    "file": set.file,
                    "prefixes": set.prefixes.len(),
                    "rules": rules_with(&policy, index),
                })
            })
            .collect();
        output::json(&json!({ "policy": path, "sets": sets }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::Table::new(&["SET", "PREFIXES", "FILE", "RULES"]);
    for (index, set) in sets {
        let file = set.file.as_ref().map(|file| file.display().to_string());
        let rules = rules_with(&policy, index).join(" ");
        table.row(vec![
            set.name.clone(),
            set.prefixes.len().to_string(),
            output::optional(file.as_deref()),
            if rules.is_empty() {
                "-".to_owned()
            } else {
                rules
            },
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

fn show(global: &Global, file: &PolicyFile, name: &str) -> anyhow::Result<ExitCode> {
    let (path, policy) = match file.load(global)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let Some(index) = policy.sets.iter().position(|set| set.name == name) else {
        eprintln!(
            "palisade: {}: {}",
            path.display(),
            unknown_set(&policy, name)
        );
        return Ok(ExitCode::from(EXIT_FAILED));
    };
    let set = &policy.sets[index];
    let prefixes: Vec<String> = set.prefixes.iter().map(print_prefix).collect();
    if global.json {
        output::json(&json!({
            "name": set.name,
            "file": set.file,
            "prefixes": prefixes,
            "rules": rules_with(&policy, index),
        }))?;
    } else if !prefixes.is_empty() {
        output::line(&prefixes.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn add(global: &Global, change: Change, create: bool) -> anyhow::Result<ExitCode> {
    let Change {
        name,
        addresses,
        changing,
        ..
    } = change;
    let (_, policy) = match changing.file.load(global)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let done = |count: usize| match count {
        1 => format!("1 address is added to set \"{name}\""),
        count => format!("{count} addresses are added to set \"{name}\""),
    };
    let Some(set) = policy.sets.iter().find(|set| set.name == name) else {
        if !create {
            anyhow::bail!("{}; --create makes a new set", unknown_set(&policy, &name));
        }
        let done = format!("set \"{name}\" is made");
        return changing.change_policy(global, &done, |text, _| {
            Ok(create_set(text, &name, &addresses)?)
        });
    };
    let new = missing(set, &addresses);
    if new.is_empty() {
        return nothing_to_do(global, &format!("set \"{name}\" has all of these already"));
    }
    match &set.file {
        None => changing.change_policy(global, &done(new.len()), |text, policy| {
            // Another editor may have been at work since.
            let current = policy.sets.iter().find(|set| set.name == name);
            let new = current.map_or_else(|| new.clone(), |set| missing(set, &addresses));
            if new.is_empty() {
                return Ok(text.to_owned());
            }
            Ok(add_to_set(text, &name, &new)?)
        }),
        Some(file) => changing.change_set_file(global, &done(new.len()), file, |bytes| {
            Ok(add_to_file(bytes, &new))
        }),
    }
}

fn remove(global: &Global, change: &Change) -> anyhow::Result<ExitCode> {
    let (name, addresses) = (&change.name, &change.addresses);
    let (_, policy) = match change.changing.file.load(global)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let Some(set) = policy.sets.iter().find(|set| set.name == *name) else {
        anyhow::bail!("{}", unknown_set(&policy, name));
    };
    for address in addresses {
        if !set.prefixes.contains(address) {
            let covering = set.prefixes.iter().find(|prefix| prefix.contains(address));
            let help = covering.map_or_else(String::new, |prefix| {
                format!("; {} covers it", print_prefix(prefix))
            });
            anyhow::bail!("{} is not in set \"{name}\"{help}", print_prefix(address));
        }
    }
    let done = match addresses.len() {
        1 => format!("1 address is removed from set \"{name}\""),
        count => format!("{count} addresses are removed from set \"{name}\""),
    };
    match &set.file {
        None => change.changing.change_policy(global, &done, |text, _| {
            Ok(remove_from_set(text, name, addresses)?)
        }),
        Some(file) => remove_by_file(global, change, file, &done),
    }
}

fn remove_by_file(
    global: &Global,
    change: &Change,
    file: &Path,
    done: &str,
) -> anyhow::Result<ExitCode> {
    change
        .changing
        .change_set_file(global, done, file, |bytes| {
            Ok(remove_from_file(bytes, &change.name, &change.addresses)?)
        })
}

fn nothing_to_do(global: &Global, why: &str) -> anyhow::Result<ExitCode> {
    if global.json {
        output::json(&json!({ "done": why, "applied": false }))?;
    } else {
        output::line(why)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Those of `addresses` that are not in the set as such, each once.
fn missing(set: &Set, addresses: &[IpNet]) -> Vec<IpNet> {
    let mut missing = Vec::new();
    for address in addresses {
        if !set.prefixes.contains(address) && !missing.contains(address) {
            missing.push(*address);
        }
    }
    missing
}

/// The names of the rules that use a set.
fn rules_with(policy: &Policy, set: usize) -> Vec<&str> {
    policy
        .rules
        .iter()
        .filter(|rule| rule.from.sets.contains(&set) || rule.to.sets.contains(&set))
        .map(|rule| rule.name.as_str())
        .collect()
}

fn unknown_set(policy: &Policy, name: &str) -> EditError {
    let names: Vec<&str> = policy.sets.iter().map(|set| set.name.as_str()).collect();
    EditError::unknown_set(name, &names)
}
