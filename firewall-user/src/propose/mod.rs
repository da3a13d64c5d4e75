//! A first policy for a host, proposed from what it serves and whom it talks to: what is in use goes
//! on, and each rule says why it is there.

mod inbound;
mod outbound;
#[cfg(test)]
mod tests;
mod text;
mod verify;

use std::collections::HashSet;

use crate::host::{Host, Interface, Listener};
use crate::policy::{DefaultAction, Mode, NAME_LENGTH};

pub use text::settings;
pub use verify::{Kept, keeps};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    pub mode: Mode,
    pub outbound: DefaultAction,
}

/// A proposed policy.
#[derive(Clone, Debug)]
pub struct Proposal {
    pub rules: Vec<Rule>,
    /// Listeners that are not opened, with why.
    pub closed: Vec<String>,
    /// What whoever puts it in force should know.
    pub notes: Vec<String>,
    wishes: Wishes,
}

/// A proposed rule; every one accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub name: String,
    pub outbound: bool,
    /// As the language names them.
    pub protocols: Vec<&'static str>,
    pub ports: Vec<u16>,
    /// Addresses and prefixes; any where there are none.
    pub to: Vec<String>,
    pub interface: Option<String>,
    /// Further keys, as they are written.
    pub keys: Vec<(&'static str, String)>,
    pub owner: String,
    pub reason: String,
    /// Why it is there: lines above it.
    pub comments: Vec<String>,
    /// A key that is proposed and not in force: who needs it now.
    pub from: Option<String>,
}

/// Who answers for a host unless it is known better.
const OPERATIONS: &str = "operations";

impl Proposal {
    /// A policy for a host whose `interfaces` are protected.
    pub fn of(host: &Host, interfaces: &[&Interface], wishes: Wishes) -> Self {
        let mut names = Names::default();
        let (mut rules, closed) = inbound::rules(host, interfaces, &mut names);
        rules.extend(outbound::rules(host, &mut names));
        let mut notes = host.unknown.clone();
        if host.forwards {
            notes.push(
                "this host forwards packets of others (containers, guests, a router's networks): what it \
                 forwards does not show in its sockets and is not in the proposal; watch what would be \
                 dropped before you enforce"
                    .to_owned(),
            );
        }
        if wishes.outbound == DefaultAction::Drop {
            notes.push(
                "what goes out now and then (updates at night, mail, backups) is only in the proposal if it \
                 did so just now; watch what would be dropped before you enforce"
                    .to_owned(),
            );
        }
        Self {
            rules,
            closed,
            notes,
            wishes,
        }
    }
}

/// Names that are taken.
#[derive(Debug, Default)]
struct Names(HashSet<String>);

impl Names {
    /// A name that a rule may have, like the one that is wished for.
    fn give(&mut self, wish: &str) -> String {
        let letter = |letter: char| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' | '-' => letter,
            _ => '_',
        };
        // Room for a number behind it.
        let wish: String = wish.chars().take(NAME_LENGTH - 6).map(letter).collect();
        let wish = if wish.is_empty() { "rule" } else { &wish };
        let numbered = (2..).map(|number| format!("{wish}-{number}"));
        let free = std::iter::once(wish.to_owned())
            .chain(numbered)
            .find(|name| !self.0.contains(name))
            .unwrap_or_default();
        self.0.insert(free.clone());
        free
    }
}

/// `nginx (process 812)`, or what is known instead.
fn holder(listener: &Listener) -> String {
    match &listener.process {
        Some(process) => format!("{} (process {})", process.name, process.pid),
        None if listener.of_kernel => "the kernel".to_owned(),
        None => format!("a process of user {}", listener.uid),
    }
}

/// The first of many, and how many more there are.
fn listed<T: ToString>(items: &[T], most: usize) -> String {
    let shown: Vec<String> = items.iter().take(most).map(ToString::to_string).collect();
    match items.len().checked_sub(most) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}
