//! Edits a policy in place: an edit changes the lines it is about and leaves every other byte, the
//! comments first of all, as it was.
//!
//! The functions here turn one text into another and touch no file; [`Transaction`] puts the outcome
//! on disk.

mod layout;
mod rules;
mod sets;
#[cfg(test)]
mod tests;
mod transaction;
mod whole;

use ipnet::IpNet;

pub use layout::set_lines;
pub use rules::{NewRule, Position, Written, add_rule, remove_rule, rule_text, set_mode};
pub use sets::{add_to_file, add_to_set, create_set, remove_from_file, remove_from_set};
pub use transaction::{Saved, Transaction};
pub use whole::whole;

use super::address::print_prefix;
use super::names::{nearest, quoted};

/// Why an edit cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EditError {
    #[error("the policy is not valid; `palisade check` says why")]
    NotRead,
    #[error(
        "the rules are written as `rule = [...]`, which cannot be edited by command; begin each with [[rule]]"
    )]
    InlineRules,
    #[error("the sets are written without a [sets] header; add the new set by hand")]
    SetsWithoutHeader,
    #[error("there is no rule \"{name}\"; {help}")]
    UnknownRule { name: String, help: String },
    #[error("there is no set \"{name}\"; {help}")]
    UnknownSet { name: String, help: String },
    #[error("set \"{0}\" is not a list of addresses")]
    NotInline(String),
    #[error("{prefix} is not in set \"{set}\"")]
    NotInSet { set: String, prefix: String },
}

impl EditError {
    fn not_in_set(set: &str, prefix: &IpNet) -> Self {
        Self::NotInSet {
            set: set.to_owned(),
            prefix: print_prefix(prefix),
        }
    }

    /// That a policy has no such rule, with the nearest that it has.
    pub fn unknown_rule(name: &str, names: &[&str]) -> Self {
        Self::UnknownRule {
            name: name.to_owned(),
            help: known(name, names, "rules"),
        }
    }

    /// That a policy has no such set, with the nearest that it has.
    pub fn unknown_set(name: &str, names: &[&str]) -> Self {
        Self::UnknownSet {
            name: name.to_owned(),
            help: known(name, names, "sets"),
        }
    }
}

fn known(name: &str, names: &[&str], what: &str) -> String {
    match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if names.is_empty() => format!("the policy has no {what}"),
        None => format!("the {what} are {}", quoted(&names[..names.len().min(20)])),
    }
}
