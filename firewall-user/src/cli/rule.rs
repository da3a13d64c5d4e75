//! `palisade rule`.

mod add;
mod list;
mod mode;
mod temporary;

use std::process::ExitCode;

use super::Global;
use super::policy_file::{Explained, PolicyFile};
use crate::policy::edit::remove_rule;

/// Arguments of `palisade rule`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the rules in the order in which they are tried, with their hits
    List {
        #[command(flatten)]
        file: PolicyFile,
    },
    /// Show one rule as it stands in the policy, with its hits
    Show {
        /// The rule's name
        name: String,
        #[command(flatten)]
        file: PolicyFile,
    },
    /// Add a rule to the policy and put it in force
    Add(Box<add::Args>),
    /// Have a rule that is only observed do what it says, and put that in force
    Promote {
        /// The rule's name
        name: String,
        #[command(flatten)]
        changing: Explained,
    },
    /// Have a rule only count what it would do, and put that in force
    Demote {
        /// The rule's name
        name: String,
        #[command(flatten)]
        changing: Explained,
    },
    /// Remove a rule from the policy and put that in force
    Remove {
        /// The rule's name
        name: String,
        #[command(flatten)]
        changing: Explained,
    },
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Verb::List { file } => list::list(global, &file),
        Verb::Show { name, file } => list::show(global, &file, &name),
        Verb::Add(arguments) => add::run(global, *arguments),
        Verb::Promote { name, changing } => mode::promote(global, &name, &changing.changing()),
        Verb::Demote { name, changing } => mode::demote(global, &name, &changing.changing()),
        Verb::Remove { name, changing } => {
            let changing = changing.changing();
            if temporary::ask(global).iter().any(|one| one.name == name) {
                temporary::remove(global, &name, changing.reason)?;
                return Ok(ExitCode::SUCCESS);
            }
            let done = format!("rule \"{name}\" is removed");
            changing.change_policy(global, &done, |text, _| Ok(remove_rule(text, &name)?))
        }
    }
}
