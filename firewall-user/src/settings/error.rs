//! What is wrong with a settings file: where, the line itself, and what would be right.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A settings file that cannot be used.
#[derive(Clone, Debug)]
pub struct SettingsError {
    file: PathBuf,
    message: String,
    place: Option<Place>,
}

#[derive(Clone, Debug)]
struct Place {
    /// From 1.
    line: usize,
    /// In characters, from 1.
    column: usize,
    text: String,
    /// Characters to underline; at least one.
    width: usize,
    /// The line may hold a secret, and `text` does not.
    hidden: bool,
}

impl SettingsError {
    /// The file itself cannot be read.
    pub(super) fn unreadable(file: &Path, error: &io::Error) -> Self {
        Self {
            file: file.to_owned(),
            message: format!("the host settings cannot be read: {error}"),
            place: None,
        }
    }

    /// Something at `span` of `text` is wrong.
    pub(super) fn at(file: &Path, text: &str, span: Range<usize>, message: String) -> Self {
        Self {
            file: file.to_owned(),
            message,
            place: Place::of(text, span),
        }
    }

    /// The text is no TOML, or not of the right shape.
    pub(super) fn from_toml(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let message = with_nearest(error.message());
        match error.span() {
            // A missing key has no place of its own.
            Some(span) if span.start != 0 || span.end != text.len() => {
                let mut told = Self::at(file, text, span, message);
                if told.place.as_ref().is_some_and(|place| place.hidden) {
                    told.message = without_values(&told.message);
                }
                told
            }
            _ => Self {
                file: file.to_owned(),
                message,
                place: None,
            },
        }
    }
}

/// The table whose values are shown to nobody, not even by an error.
const SECRETS: &str = "basic_auth_users";

/// Whether what stands here may be a secret: the line names the table of secrets, or is below its header.
fn is_secret(line: &str, before: &str) -> bool {
    let header = before
        .lines()
        .rev()
        .map(str::trim_start)
        .find(|line| line.starts_with('['));
    line.contains(SECRETS) || header.is_some_and(|header| header.contains(SECRETS))
}

impl Place {
    fn of(text: &str, span: Range<usize>) -> Option<Self> {
        let start = span.start.min(text.len());
        let before = text.get(..start)?;
        let line_start = before.rfind('\n').map_or(0, |index| index + 1);
        let line_end = text
            .get(start..)?
            .find('\n')
            .map_or(text.len(), |index| start + index);
        let end = span.end.clamp(start, line_end);
        let shown = text.get(line_start..line_end)?.trim_end();
        let hidden = is_secret(shown, text.get(..line_start)?) && !shown.starts_with('[');
        Some(Self {
            line: before.matches('\n').count() + 1,
            column: text.get(line_start..start)?.chars().count() + 1,
            text: match shown.split_once('=') {
                Some((key, _)) if hidden => format!("{key}= (hidden)"),
                None if hidden => "(hidden)".to_owned(),
                _ => shown.to_owned(),
            },
            width: text
                .get(start..end)
                .map_or(1, |part| part.chars().count().max(1)),
            hidden,
        })
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        let Some(place) = &self.place else {
            return write!(formatter, ": {}", self.message);
        };
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs are kept so that the marker stands below what it marks.
        let indent: String = place
            .text
            .chars()
            .take(place.column - 1)
            .map(|letter| if letter == '\t' { '\t' } else { ' ' })
            .collect();
        write!(
            formatter,
            ":{}:{}: {}\n {margin} |\n {number} | {}\n {margin} | {indent}{}",
            place.line,
            place.column,
            self.message,
            place.text,
            "^".repeat(place.width)
        )
    }
}

impl std::error::Error for SettingsError {}

/// The complaint without what it quotes of the file.
fn without_values(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}(hidden){}", &message[..first], &message[last + 1..])
        }
        _ => message.to_owned(),
    }
}

/// Adds the nearest known name to serde's complaint about an unknown one ("unknown field `a`,
/// expected one of `b`, `c`"); any other message stays as it is.
fn with_nearest(message: &str) -> String {
    let message = message.trim_end();
    let (what, rest) = if let Some(rest) = message.strip_prefix("unknown field ") {
        ("key", rest)
    } else if let Some(rest) = message.strip_prefix("unknown variant ") {
        ("value", rest)
    } else {
        return message.to_owned();
    };
    let mut names = rest.split('`').skip(1).step_by(2);
    let Some(unknown) = names.next() else {
        return message.to_owned();
    };
    let known: Vec<&str> = names.collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(unknown, name), *name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(left, _), (right, _)| left.total_cmp(right));
    match nearest {
        Some((_, name)) => format!("unknown {what} `{unknown}`; did you mean `{name}`?"),
        None => format!("unknown {what} `{unknown}`; known are {}", known.join(", ")),
    }
}
