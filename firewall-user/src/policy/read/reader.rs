//! Takes values out of a parsed document, and says what is wrong with those that do not fit.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::set_file::Reading;
use crate::policy::finding::{Findings, Severity};
use crate::policy::names::suggest;
use crate::policy::source::Source;

pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// The text being read and what was found in it so far.
pub(super) struct Reader<'t> {
    pub source: Source<'t>,
    pub findings: Findings,
    /// Folder that relative paths start from.
    pub base: &'t Path,
    /// Whether the files of sets are read.
    pub lists: bool,
    /// Is told how far the files of sets are read.
    pub told: &'t dyn Fn(Reading<'_>),
    /// The sets that `never_block` names, by index.
    pub in_protect: Vec<usize>,
}

/// The key whose value is being read, for messages: `"port" in rule "shop"`.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub key: &'a str,
    /// `rule "shop"`, `[defaults]`; empty at the top.
    pub within: &'a str,
}

impl fmt::Display for At<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.key)?;
        if !self.within.is_empty() {
            write!(formatter, " in {}", self.within)?;
        }
        Ok(())
    }
}

impl<'t> Reader<'t> {
    pub fn error(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let finding = self
            .source
            .finding(Severity::Error, span, message, Some(help.into()));
        self.findings.push(finding);
    }

    /// A value as it stands in the file, fit for one line of a message.
    pub fn written(&self, span: Range<usize>) -> String {
        let text = self.source.text.get(span).unwrap_or("the value");
        let visible = |character: char| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        };
        text.chars().take(60).map(visible).collect()
    }

    /// Reports a key that the language does not have.
    pub fn unknown_key(&mut self, key: &Spanned<impl AsRef<str>>, within: &str, known: &[&str]) {
        let name = key.get_ref().as_ref();
        let place = if within.is_empty() {
            String::new()
        } else {
            format!(" in {within}")
        };
        self.error(
            key.span(),
            format!("unknown key \"{}\"{place}", name.escape_debug()),
            suggest(name, known),
        );
    }

    fn wrong_type(&mut self, at: At<'_>, wanted: &str, value: &Value<'_>, help: impl Into<String>) {
        let kind = kind(value.get_ref());
        self.error(
            value.span(),
            format!("{at} must be {wanted}, not {kind}"),
            help,
        );
    }

    pub fn table<'v>(
        &mut self,
        at: At<'_>,
        value: &'v Value<'t>,
        help: &str,
    ) -> Option<&'v DeTable<'t>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(at, "a table", value, help);
        }
        table
    }

    pub fn string<'v>(
        &mut self,
        at: At<'_>,
        value: &'v Value<'_>,
        example: &str,
    ) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(
                at,
                "a string",
                value,
                format!("write {} = {example}", at.key),
            );
        }
        text
    }

    pub fn boolean(&mut self, at: At<'_>, value: &Value<'_>) -> Option<bool> {
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(
                at,
                "true or false",
                value,
                format!("write {} = true", at.key),
            );
        }
        boolean
    }

    /// A text for people to read: one line, of bounded length.
    pub fn remark(&mut self, at: At<'_>, value: &Value<'_>) -> Option<String> {
        const LONGEST: usize = 200;
        let text = self.string(at, value, "\"operations\"")?;
        let length = text.chars().count();
        if length > LONGEST {
            self.error(
                value.span(),
                format!("{at} has {length} characters"),
                format!("at most {LONGEST} fit"),
            );
            return None;
        }
        if text.chars().any(char::is_control) {
            self.error(
                value.span(),
                format!("{at} contains a line break or another control character"),
                "write it on one line",
            );
            return None;
        }
        Some(text.to_owned())
    }

    /// One word out of a few.
    pub fn choice<T: Copy>(
        &mut self,
        at: At<'_>,
        value: &Value<'_>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let text = self.string(at, value, &format!("\"{}\"", known[0]))?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let message = format!("{at} cannot be \"{}\"", text.escape_debug());
            self.error(value.span(), message, suggest(text, &known));
        }
        found.map(|(_, choice)| *choice)
    }

    /// The elements of a list, or the one value that stands for a list of one; never none.
    pub fn some_of<'v>(
        &mut self,
        at: At<'_>,
        value: &'v Value<'t>,
        help: &str,
    ) -> Vec<&'v Value<'t>> {
        let Some(array) = value.get_ref().as_array() else {
            return vec![value];
        };
        if array.iter().next().is_none() {
            self.error(value.span(), format!("{at} is an empty list"), help);
        }
        array.iter().collect()
    }

    /// Whole numbers from 0 to `most`, and ranges of them as `"from-to"`.
    pub fn ranges(
        &mut self,
        at: At<'_>,
        value: &Value<'t>,
        most: u16,
        what: &str,
    ) -> Vec<(u16, u16)> {
        let help = format!("leave the key out to match every {what}");
        let elements = self.some_of(at, value, &help);
        let mut ranges = Vec::with_capacity(elements.len());
        for element in elements {
            let read = match element.get_ref() {
                DeValue::Integer(number) => parse_integer(number).map(|number| (number, number)),
                DeValue::String(text) => parse_range(text),
                _ => None,
            };
            let written = self.written(element.span());
            let Some((low, high)) = read else {
                let message = format!("{written} is no {what} for {at}");
                let help = format!(
                    "write a number such as 80 or a range such as \"{}\"",
                    example(most)
                );
                self.error(element.span(), message, help);
                continue;
            };
            let fits = |number: i64| (0..=i64::from(most)).contains(&number);
            if !fits(low) || !fits(high) {
                let message = format!("{written} is out of range for {at}");
                self.error(element.span(), message, format!("a {what} is 0 to {most}"));
            } else if low > high {
                let message = format!("the range {written} for {at} is reversed");
                self.error(element.span(), message, format!("write \"{high}-{low}\""));
            } else {
                // Both were compared with a u16 above.
                ranges.push((low as u16, high as u16));
            }
        }
        ranges
    }

    /// A whole number within bounds.
    pub fn integer(
        &mut self,
        at: At<'_>,
        value: &Value<'_>,
        bounds: RangeInclusive<i64>,
    ) -> Option<i64> {
        let (low, high) = (*bounds.start(), *bounds.end());
        let DeValue::Integer(number) = value.get_ref() else {
            self.wrong_type(
                at,
                "a whole number",
                value,
                format!("write a number from {low} to {high}"),
            );
            return None;
        };
        let number = parse_integer(number).filter(|number| bounds.contains(number));
        if number.is_none() {
            let written = self.written(value.span());
            let message = format!("{written} is out of range for {at}");
            self.error(
                value.span(),
                message,
                format!("write a number from {low} to {high}"),
            );
        }
        number
    }
}

/// What a value is, for a message.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn example(most: u16) -> &'static str {
    if most > 255 { "8000-8099" } else { "60-64" }
}

fn parse_integer(number: &toml::de::DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn parse_range(text: &str) -> Option<(i64, i64)> {
    let number = |text: &str| {
        let text = text.trim();
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().unwrap_or(i64::MAX))
    };
    match text.split_once('-') {
        Some((low, high)) => Some((number(low)?, number(high)?)),
        None => number(text).map(|number| (number, number)),
    }
}
