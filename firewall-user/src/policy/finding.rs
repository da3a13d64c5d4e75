//! What reading a policy finds wrong or worth saying: one shape for errors, warnings and notes,
//! whether they end on a terminal, in a log or in JSON.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

/// How many findings of one kind are shown to a person.
pub const SHOWN: usize = 20;
/// How many errors are kept; the rest is only counted, so that a hostile file cannot fill the
/// memory. Warnings are few for each rule, and rules are bounded.
const KEPT: usize = 200;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// It can, but probably does not do what was meant.
    Warning,
    /// Worth knowing.
    Note,
}

/// One thing found in a policy or in a set's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// What scripts know it by; `None` for errors.
    pub code: Option<&'static str>,
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Where in the file; `None` if the file as a whole is meant.
    pub place: Option<Place>,
    /// What is wrong, on one line.
    pub message: String,
    /// What would be right, on one line.
    pub help: Option<String>,
}

/// A place in a text, with the line it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line, or the part of a long line around the place. Without control characters.
    pub excerpt: String,
    /// Where the place begins in `excerpt`, in characters from 0.
    pub excerpt_start: usize,
    /// How many characters of `excerpt` are meant; at least 1, possibly one past its end.
    pub width: usize,
}

/// A policy that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyErrors {
    /// In file order, at least one.
    pub errors: Vec<Finding>,
    /// Further errors that were counted but not kept.
    pub more: usize,
    /// What was found besides.
    pub warnings: Vec<Finding>,
}

/// Collects findings up to a limit.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub errors: Vec<Finding>,
    pub more: usize,
    pub warnings: Vec<Finding>,
}

impl Severity {
    /// The word people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl Finding {
    /// An error about a file as a whole.
    pub fn about_file(file: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: None,
            file: file.into(),
            place: None,
            message: message.into(),
            help: None,
        }
    }

    /// The stable JSON form: `file`, `line`, `column`, `severity`, `code`, `message`, `help`.
    pub fn to_json(&self) -> Value {
        json!({
            "file": &*self.file,
            "line": self.place.as_ref().map(|place| place.line),
            "column": self.place.as_ref().map(|place| place.column),
            "severity": self.severity.name(),
            "code": self.code,
            "message": self.message,
            "help": self.help,
        })
    }
}

impl fmt::Display for Finding {
    /// The plain form: `file:line:column: error: what; what would be right`, the line, a caret line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.file)?;
        if let Some(place) = &self.place {
            write!(formatter, "{}:{}:", place.line, place.column)?;
        }
        write!(formatter, " {}: {}", self.severity.name(), self.message)?;
        if let Some(help) = &self.help {
            write!(formatter, "; {help}")?;
        }
        if let Some(place) = &self.place {
            let gutter = place.line.to_string();
            let carets = "^".repeat(place.width);
            write!(formatter, "\n{gutter} | {}", place.excerpt)?;
            write!(
                formatter,
                "\n{:gutter$} | {:start$}{carets}",
                "",
                "",
                gutter = gutter.len(),
                start = place.excerpt_start,
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().take(SHOWN).enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{error}")?;
        }
        if let Some(rest) = self.not_shown() {
            write!(formatter, "\n{rest}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

impl PolicyErrors {
    /// A single error.
    pub fn one(error: Finding) -> Self {
        Self {
            errors: vec![error],
            more: 0,
            warnings: Vec::new(),
        }
    }

    /// How many errors there are, kept or not.
    pub fn total(&self) -> usize {
        self.errors.len() + self.more
    }

    /// The line that stands for the errors that are not shown, if there are any.
    pub fn not_shown(&self) -> Option<String> {
        match self.total().saturating_sub(SHOWN) {
            0 => None,
            1 => Some("and 1 more error".to_owned()),
            rest => Some(format!("and {rest} more errors")),
        }
    }
}

impl Findings {
    /// Takes in a finding, or only counts it when there are too many.
    pub fn push(&mut self, finding: Finding) {
        match finding.severity {
            Severity::Warning | Severity::Note => self.warnings.push(finding),
            Severity::Error if self.errors.len() < KEPT => self.errors.push(finding),
            Severity::Error => self.more += 1,
        }
    }

    /// The errors, if there were any.
    pub fn into_result(mut self) -> Result<Vec<Finding>, PolicyErrors> {
        if self.errors.is_empty() {
            return Ok(self.warnings);
        }
        // Files stay in the order in which they were met.
        let mut files: Vec<Arc<str>> = Vec::new();
        for error in &self.errors {
            if !files.contains(&error.file) {
                files.push(error.file.clone());
            }
        }
        self.errors.sort_by_key(|error| {
            (
                files.iter().position(|file| *file == error.file),
                error.place.as_ref().map(|place| (place.line, place.column)),
            )
        });
        Err(PolicyErrors {
            errors: self.errors,
            more: self.more,
            warnings: self.warnings,
        })
    }
}
