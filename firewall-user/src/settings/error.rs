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
    /// The line, or the part of a long one around the place. Without control characters but tabs.
    text: String,
    /// Where in `text` the place is, in characters.
    at: usize,
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
        let at = text.get(line_start..start)?.chars().count();
        let width = text
            .get(start..end)
            .map_or(1, |part| part.chars().count().max(1));
        let told = match shown.split_once('=') {
            Some((key, _)) if hidden => format!("{key}= (hidden)"),
            None if hidden => "(hidden)".to_owned(),
            _ => shown.to_owned(),
        };
        let skipped = at.saturating_sub(LONGEST_EXCERPT / 2);
        let printable = |letter: char| match letter {
            '\t' => '\t',
            letter if letter.is_control() => '?',
            letter => letter,
        };
        Some(Self {
            line: before.matches('\n').count() + 1,
            column: at + 1,
            text: told
                .chars()
                .skip(skipped)
                .take(LONGEST_EXCERPT)
                .map(printable)
                .collect(),
            at: at - skipped,
            width: width.min(LONGEST_EXCERPT),
            hidden,
        })
    }
}

/// Characters of a line that are shown.
const LONGEST_EXCERPT: usize = 160;

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
            .take(place.at)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_shown_around_what_is_wrong_with_it() {
        let text = format!(
            "a = \"{}\u{1b}\" ? {}",
            "x".repeat(10_000),
            "y".repeat(10_000)
        );
        let at = text.find('?').unwrap_or_default();
        let error = SettingsError::at(Path::new("p.toml"), &text, at..at + 1, "no".to_owned());
        let told = error.to_string();
        assert!(told.starts_with("p.toml:1:10009: no\n"), "{told}");
        assert!(told.len() < 600, "{told}");
        assert!(!told.contains('\u{1b}'), "{told}");
        let lines: Vec<&str> = told.lines().collect();
        let shown = lines[2].chars().position(|letter| letter == '^');
        assert_eq!(shown, None);
        let question = lines[2].chars().rev().position(|letter| letter == '?');
        let question = question.map(|from_end| lines[2].chars().count() - 1 - from_end);
        assert_eq!(lines[3].chars().position(|letter| letter == '^'), question);
    }
}
