//! `palisade history`, and entries of it named `@3`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use jiff::{Timestamp, Zoned, civil};

use super::client::{Client, read};
use super::output::{self, Table, counted};
use super::{Global, diff};
use crate::daemon::documents::{
    By, ChangedList, HistoryDocument, HistoryEntry, HistoryList, How, Trial, actor, changed_lists,
};
use crate::policy::{Changes, Policy, PolicyErrors};

/// Arguments of `palisade history`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// How many of the latest entries are listed
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// Only the entry that was in force at this time (2026-06-30, "2026-06-30 14:00" or with a zone)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<Timestamp>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show one entry: when, who, why, what changed, and the text of the policy
    Show {
        /// Its number
        #[arg(value_parser = entry_number, required_unless_present = "at", conflicts_with = "at")]
        entry: Option<u64>,
        /// The one that was in force at this time
        #[arg(long, value_name = "TIME", value_parser = moment)]
        at: Option<Timestamp>,
    },
    /// What the policies of two entries decide otherwise
    Diff {
        /// Number of the entry as it was
        #[arg(value_parser = entry_number)]
        old: u64,
        /// Number of the entry as it became; the one in force without it
        #[arg(value_parser = entry_number)]
        new: Option<u64>,
    },
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        None => list(global, arguments.limit, arguments.at),
        Some(Verb::Show { entry, at }) => show(global, entry, at),
        Some(Verb::Diff { old, new }) => {
            let latest = || anyhow::Ok(latest(global, None)?.number);
            let new = new.map_or_else(latest, Ok)?;
            diff::run(global, diff::Args::of_entries(old, new))
        }
    }
}

fn list(global: &Global, limit: usize, at: Option<Timestamp>) -> anyhow::Result<ExitCode> {
    let mut history: HistoryList = ask(global)?;
    if let Some(at) = at {
        history.entries.retain(|entry| entry.time <= at);
    }
    history
        .entries
        .truncate(if at.is_some() { 1 } else { limit });
    if global.json {
        output::json(&serde_json::to_value(&history)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        "ENTRY", "TIME", "WHO", "HOW", "FROM", "RULES", "CHANGED", "REASON",
    ]);
    for entry in history.entries.iter().rev() {
        table.row(vec![
            entry.number.to_string(),
            output::whole_seconds(entry.time),
            actor(&entry.by.who, entry.by.from),
            how(entry),
            entry.source.clone(),
            entry.rules.to_string(),
            summary(&entry.changes),
            output::optional(entry.by.reason.as_deref()),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

fn show(global: &Global, number: Option<u64>, at: Option<Timestamp>) -> anyhow::Result<ExitCode> {
    let number = match number {
        Some(number) => number,
        None => latest(global, at)?.number,
    };
    let document = Client::new(&global.socket)?.get(&format!("/v1/history/{number}"))?;
    if global.json {
        output::json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let HistoryDocument { entry, text } = read(document)?;
    let By { who, from, reason } = &entry.by;
    output::line(&format!(
        "# entry {number}, generation {}: {} by {}, {}",
        entry.generation,
        output::whole_seconds(entry.time),
        actor(who, *from),
        how(&entry)
    ))?;
    output::line(&format!("# from {}", entry.source))?;
    if let Some(reason) = reason {
        output::line(&format!("# reason: {reason}"))?;
    }
    output::line(&format!("# changed: {}", summary(&entry.changes)))?;
    for (set, list) in &entry.lists {
        output::line(&format!(
            "# set {set}: {} prefixes from {}, sha256 {}",
            list.prefixes,
            list.file.display(),
            list.sha256
        ))?;
    }
    output::line(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn ask(global: &Global) -> anyhow::Result<HistoryList> {
    read(Client::new(&global.socket)?.get("/v1/history")?)
}

/// The entry in force, or the one that was at a time.
fn latest(global: &Global, at: Option<Timestamp>) -> anyhow::Result<HistoryEntry> {
    let mut entries = ask(global)?.entries.into_iter();
    let found = entries.find(|entry| at.is_none_or(|at| entry.time <= at));
    found.ok_or_else(|| match at {
        Some(at) => anyhow!("the history does not go back to {at:.0}"),
        None => anyhow!("the history is empty"),
    })
}

/// A policy that is named as an entry of the history.
pub fn policy_of(global: &Global, number: u64) -> anyhow::Result<(HistoryEntry, String)> {
    let client = Client::new(&global.socket)?;
    let document: HistoryDocument = read(client.get(&format!("/v1/history/{number}"))?)?;
    Ok((document.entry, document.text))
}

/// What a path names that is an entry of the history: `@3`. A file of that name is `./@3`.
pub fn named(path: &std::path::Path) -> Option<u64> {
    path.to_str()?.strip_prefix('@')?.parse().ok()
}

/// The path that names an entry.
pub fn name(number: u64) -> PathBuf {
    format!("@{number}").into()
}

/// Reads `3` or `@3`.
pub fn entry_number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix('@').unwrap_or(text);
    let number = digits.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| {
        format!("`{text}` is no entry: write its number, as `palisade history` has it")
    })
}

/// Reads a moment: with a zone, or as the wall clock here has it.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if let Ok(moment) = text.parse::<Zoned>() {
        return Ok(moment.timestamp());
    }
    let here = jiff::tz::TimeZone::system();
    // A day is meant whole.
    let day = text.parse::<civil::Date>().map(|day| day.at(23, 59, 59, 0));
    let moment = if text.contains(':') {
        text.parse()
    } else {
        day
    };
    moment
        .and_then(|moment: civil::DateTime| moment.to_zoned(here))
        .map(|moment| moment.timestamp())
        .map_err(|_| {
            format!("`{text}` is no time: write 2026-06-30, \"2026-06-30 14:00\" or 2026-06-30T14:00:00Z")
        })
}

fn how(entry: &HistoryEntry) -> String {
    let to = entry.to.map_or(String::new(), |to| format!(" to {to}"));
    let how = match entry.how {
        How::Start => "started with",
        How::Apply => "applied",
        How::Rollback => "rolled back",
        How::Return => "returned",
    };
    let trial = match &entry.trial {
        None => String::new(),
        Some(Trial::Pending) => ", on trial".to_owned(),
        Some(Trial::Confirmed) => ", confirmed".to_owned(),
        Some(Trial::GivenBack(why)) => format!(", given back: {why}"),
    };
    format!("{how}{to}{trial}")
}

/// What changed, in one line.
pub fn summary(changes: &Changes) -> String {
    let mut words = Vec::new();
    for (sign, names) in [
        ("+", &changes.rules_added),
        ("-", &changes.rules_removed),
        ("~", &changes.rules_changed),
    ] {
        let shown = names.iter().take(4).map(|name| format!("{sign}{name}"));
        words.extend(shown);
        if names.len() > 4 {
            words.push(format!("{sign}{} more", names.len() - 4));
        }
    }
    for (set, change) in changes.sets.iter().take(4) {
        words.push(format!("set {set} +{} -{}", change.added, change.removed));
    }
    if changes.sets.len() > 4 {
        words.push(format!("{} more", counted(changes.sets.len() - 4, "set")));
    }
    for (changed, what) in [
        (changes.order_changed, "order"),
        (changes.defaults_changed, "defaults"),
        (changes.never_block_changed, "never_block"),
    ] {
        if changed {
            words.push(what.to_owned());
        }
    }
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(", ")
    }
}

/// Reads the policy that an entry holds, with the lists of its sets as they are now; and which of those changed.
pub fn offered(
    global: &Global,
    number: u64,
) -> anyhow::Result<Result<(Policy, Vec<ChangedList>), PolicyErrors>> {
    let (entry, text) =
        policy_of(global, number).with_context(|| format!("entry {number} of the history"))?;
    let name = format!("@{number}");
    Ok(Policy::parse(&text, &name, &entry.base).map(|(policy, _)| {
        let changed = changed_lists(&entry.lists, &policy);
        (policy, changed)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_a_zone_or_as_the_clock_here_has_it() {
        let utc = |text: &str| moment(text).map(|moment| moment.to_string());
        assert_eq!(
            utc("2026-06-30T14:00:00Z").as_deref(),
            Ok("2026-06-30T14:00:00Z")
        );
        let zoned = utc("2026-06-30T14:00:00+02:00[Europe/Berlin]");
        assert_eq!(zoned.as_deref(), Ok("2026-06-30T12:00:00Z"));
        let here = moment("2026-06-30 14:00").expect("a time");
        let day = moment("2026-06-30").expect("a day");
        // The whole day counts: it ends ten hours later.
        assert_eq!(day.as_second() - here.as_second(), 10 * 3600 - 1);
        for wrong in ["", "yesterday", "2026-13-01", "14:00"] {
            assert!(moment(wrong).unwrap_err().contains("is no time"), "{wrong}");
        }
    }

    #[test]
    fn entries_are_named_by_their_numbers() {
        assert_eq!(entry_number("3"), Ok(3));
        assert_eq!(entry_number("@3"), Ok(3));
        for wrong in ["", "@", "0", "-1", "three"] {
            assert!(entry_number(wrong).is_err(), "{wrong}");
        }
        assert_eq!(named(std::path::Path::new("@12")), Some(12));
        assert_eq!(named(std::path::Path::new("./@12")), None);
        assert_eq!(named(std::path::Path::new("@home.toml")), None);
    }
}
