//! Reads a policy from its text: every value is checked here, once, and every fault is reported
//! with its place.

mod limit;
mod matches;
mod payloads;
mod reader;
mod reference;
mod rule;
mod set_file;
mod sets;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use toml::de::{DeTable, DeValue};

pub use limit::LIMIT_KEYS;
pub use reference::reference;
pub use rule::RULE_KEYS;
pub(super) use set_file::parse_line;
pub use set_file::{MAX_SET_FILE_BYTES, Reading, SetFile, read_set_file};

use self::reader::{At, Reader, Value};
use super::finding::{Finding, Findings, PolicyErrors, Severity};
use super::lint;
use super::model::*;
use super::source::Source;

/// Most rules in a policy.
pub const MAX_RULES: usize = 16_384;
/// Most sets in a policy.
pub const MAX_SETS: usize = 4_096;
/// Largest policy file in bytes. Long lists of addresses belong in files of their own.
pub const MAX_POLICY_BYTES: u64 = 8 << 20;
/// Up to this size in bytes all syntax errors are looked for; in a larger text only the first, since
/// each costs memory before it can be counted.
const ALL_SYNTAX_ERRORS: usize = 256 << 10;

/// The smallest policy that is valid.
pub const SMALLEST_POLICY: &str = "version = 1";

const TOP_KEYS: &[&str] = &["version", "defaults", "sets", "protect", "rule"];
const DEFAULTS_KEYS: &[&str] = &["inbound", "outbound", "mode"];
const PROTECT_KEYS: &[&str] = &["never_block"];
const ACTIONS: &[(&str, DefaultAction)] = &[
    ("accept", DefaultAction::Accept),
    ("drop", DefaultAction::Drop),
];
const MODES: &[(&str, Mode)] = &[("enforce", Mode::Enforce), ("observe", Mode::Observe)];

/// A text without the mark that some editors put before it.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

impl Policy {
    /// Reads and checks a policy file and the files of its sets. Besides the policy come warnings
    /// and notes.
    pub fn load(path: &Path) -> Result<(Self, Vec<Finding>), PolicyErrors> {
        Self::load_told(path, &|_| {})
    }

    /// The same, and says how far the files of sets are read.
    pub fn load_told(
        path: &Path,
        told: &dyn Fn(Reading<'_>),
    ) -> Result<(Self, Vec<Finding>), PolicyErrors> {
        let text = Self::text_of(path)?;
        let base = path.parent().unwrap_or(Path::new(""));
        let name = path.display().to_string();
        Self::parse_told(&text, &name, base, Timestamp::now(), told)
    }

    /// The text of a policy file, unread but for its size and encoding.
    pub fn text_of(path: &Path) -> Result<String, PolicyErrors> {
        let name = path.display().to_string();
        let text = read_text(path, MAX_POLICY_BYTES, "a policy")
            .map_err(|error| PolicyErrors::one(Finding::about_file(&name, error)))?;
        match String::from_utf8(text) {
            Ok(text) => Ok(text),
            Err(error) => {
                let start = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes());
                let help = Some("a policy is UTF-8 text".to_owned());
                let source = Source::new(&name, &text);
                let message = "bytes that are not UTF-8";
                let finding = source.finding(Severity::Error, start..start, message, help);
                Err(PolicyErrors::one(finding))
            }
        }
    }

    /// Reads and checks a policy from its text. `file_name` is for messages; the files of sets are
    /// looked for in `base_dir`.
    pub fn parse(
        text: &str,
        file_name: &str,
        base_dir: &Path,
    ) -> Result<(Self, Vec<Finding>), PolicyErrors> {
        Self::parse_at(text, file_name, base_dir, Timestamp::now())
    }

    /// As [`Policy::parse`], with the time that expiry is compared with.
    pub fn parse_at(
        text: &str,
        file_name: &str,
        base_dir: &Path,
        now: Timestamp,
    ) -> Result<(Self, Vec<Finding>), PolicyErrors> {
        Self::parse_told(text, file_name, base_dir, now, &|_| {})
    }

    /// As [`Policy::parse`], for who shows the rules of a policy that is known to be right: the sets that come from
    /// files are empty.
    pub fn parse_without_lists(
        text: &str,
        file_name: &str,
        base_dir: &Path,
    ) -> Result<Self, PolicyErrors> {
        let mut reader = Reader::new(text, file_name, base_dir, &|_| {});
        reader.lists = false;
        Ok(reader.read(text, file_name, None)?.0)
    }

    fn parse_told(
        text: &str,
        file_name: &str,
        base_dir: &Path,
        now: Timestamp,
        told: &dyn Fn(Reading<'_>),
    ) -> Result<(Self, Vec<Finding>), PolicyErrors> {
        Reader::new(text, file_name, base_dir, told).read(text, file_name, Some(now))
    }
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, file_name: &str, base: &'t Path, told: &'t dyn Fn(Reading<'_>)) -> Self {
        Self {
            source: Source::new(file_name, without_mark(text)),
            findings: Findings::default(),
            base,
            lists: true,
            told,
            in_protect: Vec::new(),
        }
    }

    /// Reads the whole; `now` is for what is odd and no error, which is not looked for without it.
    fn read(
        mut self,
        text: &'t str,
        file_name: &str,
        now: Option<Timestamp>,
    ) -> Result<(Policy, Vec<Finding>), PolicyErrors> {
        let text = without_mark(text);
        let parsed = if text.len() > ALL_SYNTAX_ERRORS {
            DeTable::parse(text).map_err(|fault| vec![fault])
        } else {
            match DeTable::parse_recoverable(text) {
                (document, faults) if faults.is_empty() => Ok(document),
                (_, faults) => Err(faults),
            }
        };
        for fault in parsed.as_ref().err().into_iter().flatten() {
            self.syntax(fault);
        }
        // What a text that is no TOML means would be a guess.
        let policy = parsed.ok().map(|document| {
            let policy = self.policy(document.get_ref());
            if let Some(now) = now.filter(|_| self.findings.errors.is_empty()) {
                let Reader {
                    source,
                    findings,
                    in_protect,
                    ..
                } = &mut self;
                lint::lint(&policy, in_protect, source, now, findings);
            }
            policy
        });
        let warnings = self.findings.into_result()?;
        let unread = || PolicyErrors::one(Finding::about_file(file_name, "is not TOML"));
        Ok((policy.ok_or_else(unread)?, warnings))
    }

    fn syntax(&mut self, fault: &toml::de::Error) {
        let span = fault.span().unwrap_or(0..0);
        let written = self.written(span.clone());
        let (message, help) = match fault.message() {
            "duplicate key" => (
                format!("duplicate key \"{}\"", written.trim_matches('"')),
                "a key may be written once; a further rule begins with [[rule]]",
            ),
            message => (
                message.to_owned(),
                "see https://toml.io for how values are written",
            ),
        };
        self.error(span, message, help);
    }

    fn policy(&mut self, document: &DeTable<'t>) -> Policy {
        self.version(document);
        let mut defaults = Defaults {
            inbound: DefaultAction::Drop,
            outbound: DefaultAction::Accept,
            mode: Mode::Enforce,
        };
        let at = |key| At { key, within: "" };
        if let Some(value) = document.get("defaults") {
            self.defaults(at("defaults"), value, &mut defaults);
        }
        let sets = match document.get("sets") {
            Some(value) => self.sets(at("sets"), value),
            None => Vec::new(),
        };
        let index: HashMap<&str, usize> = sets
            .iter()
            .enumerate()
            .map(|(index, set)| (set.name.as_str(), index))
            .collect();
        let never_block = match document.get("protect") {
            Some(value) => self.protect(at("protect"), value, &sets, &index),
            None => Vec::new(),
        };
        let rules = match document.get("rule") {
            Some(value) => self.rules(at("rule"), value, &index),
            None => Vec::new(),
        };
        for (key, _) in document {
            if !TOP_KEYS.contains(&key.get_ref().as_ref()) {
                self.unknown_key(key, "", TOP_KEYS);
            }
        }
        Policy {
            defaults,
            sets,
            never_block,
            rules,
        }
    }

    fn version(&mut self, document: &DeTable<'t>) {
        let Some(value) = document.get("version") else {
            let what = if document.is_empty() {
                "the policy is empty"
            } else {
                "the version is missing"
            };
            let help =
                format!("begin with `{SMALLEST_POLICY}`, which alone is the smallest valid policy");
            self.error(0..0, what, help);
            return;
        };
        let help = format!("write {SMALLEST_POLICY}");
        match value.get_ref() {
            DeValue::Integer(number) if number.as_str() == "1" => {}
            DeValue::Integer(number) => {
                let message = format!("version {number} of the policy language is not supported");
                self.error(value.span(), message, help);
            }
            other => {
                let kind = reader::kind(other);
                let message = format!("\"version\" must be a whole number, not {kind}");
                self.error(value.span(), message, help);
            }
        }
    }

    fn defaults(&mut self, at: At<'_>, value: &Value<'t>, defaults: &mut Defaults) {
        let Some(table) = self.table(at, value, "write [defaults] on a line of its own") else {
            return;
        };
        for (key, value) in table {
            let at = At {
                key: key.get_ref(),
                within: "[defaults]",
            };
            match at.key {
                "inbound" => {
                    defaults.inbound = self.choice(at, value, ACTIONS).unwrap_or(defaults.inbound);
                }
                "outbound" => {
                    defaults.outbound =
                        self.choice(at, value, ACTIONS).unwrap_or(defaults.outbound);
                }
                "mode" => defaults.mode = self.choice(at, value, MODES).unwrap_or(defaults.mode),
                _ => self.unknown_key(key, "[defaults]", DEFAULTS_KEYS),
            }
        }
    }

    fn protect(
        &mut self,
        at: At<'_>,
        value: &Value<'t>,
        sets: &[Set],
        index: &HashMap<&str, usize>,
    ) -> Vec<ipnet::IpNet> {
        let Some(table) = self.table(at, value, "write [protect] on a line of its own") else {
            return Vec::new();
        };
        let mut prefixes = Vec::new();
        for (key, value) in table {
            let at = At {
                key: key.get_ref(),
                within: "[protect]",
            };
            if at.key != "never_block" {
                self.unknown_key(key, "[protect]", PROTECT_KEYS);
                continue;
            }
            let empty = matches!(value.get_ref(), DeValue::Array(array) if array.is_empty());
            if empty {
                continue;
            }
            let addresses = self.addresses(at, value, index);
            prefixes = addresses.prefixes;
            self.in_protect.clone_from(&addresses.sets);
            for set in addresses.sets {
                prefixes.extend_from_slice(&sets[set].prefixes);
            }
        }
        prefixes
    }
}

/// What is said of a file that the system keeps from this process.
pub const UNREADABLE: &str = "may not be read by this user";

/// Reads a regular file up to a size; says in one line why it cannot be read.
fn read_text(path: &Path, most: u64, what: &str) -> Result<Vec<u8>, String> {
    let reason = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => UNREADABLE.to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    // Non-blocking, so that a named pipe cannot hold the reader up before it is recognised.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(reason)?;
    let metadata = file.metadata().map_err(reason)?;
    if metadata.is_dir() {
        return Err(format!("is a directory, not {what}"));
    }
    if !metadata.is_file() {
        return Err(format!("is not a regular file, so not {what}"));
    }
    // The file may grow while it is read: the limit holds for what is taken in.
    let mut bytes = Vec::with_capacity(metadata.len().min(most) as usize + 1);
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(reason)?;
    if bytes.len() as u64 > most {
        return Err(format!(
            "is larger than {} MiB, which is the most for {what}",
            most >> 20
        ));
    }
    Ok(bytes)
}
