//! Adding and removing rules in a policy's text.

use toml_edit::{Array, Datetime, InlineTable, Item, Table, Value, value};

use super::EditError;
use super::layout::{Layout, line_end, line_start};
use crate::policy::model::Mode;

/// A rule as the command line gives it: the language's keys with their values as written. What
/// they mean is checked when the edited policy is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewRule {
    /// In the order in which they are written, `name` and `action` included.
    pub keys: Vec<(&'static str, Written)>,
}

/// A value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// Strings. One alone is written without a list.
    Words(Vec<String>),
    /// As [`Written::Words`], but whole numbers are written without quotes.
    Numbers(Vec<String>),
    Text(String),
    Flag(bool),
    Date(Datetime),
    /// Keys with their values: whole numbers without quotes, anything else with them.
    Table(Vec<(&'static str, String)>),
}

/// Where a new rule goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    First,
    Before(String),
    Last,
}

/// The text with one more rule.
pub fn add_rule(text: &str, rule: &NewRule, position: &Position) -> Result<String, EditError> {
    let layout = Layout::of(text).ok_or(EditError::NotRead)?;
    if layout.inline_rules {
        return Err(EditError::InlineRules);
    }
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let block = rule.print().replace('\n', newline);
    let before = match position {
        Position::First => layout.rules.first(),
        Position::Before(name) => Some(
            layout
                .rule(name)
                .ok_or_else(|| unknown_rule(&layout, name))?,
        ),
        Position::Last => None,
    };
    if let Some(before) = before {
        let (head, tail) = text.split_at(before.lines.start);
        return Ok(format!("{head}{block}{newline}{tail}"));
    }
    let end = layout
        .rules
        .last()
        .map_or(text.len(), |last| last.lines.end);
    let (head, tail) = text.split_at(end);
    let mut edited = head.to_owned();
    if !edited.is_empty() && !edited.ends_with('\n') {
        edited.push_str(newline);
    }
    if !edited.is_empty() && !edited.trim_end_matches([' ', '\t', '\r']).ends_with("\n\n") {
        let blank = edited.ends_with("\n\r\n") || edited.ends_with("\n\n");
        edited.push_str(if blank { "" } else { newline });
    }
    edited.push_str(&block);
    if !tail.is_empty() && !tail.starts_with(['\n', '\r']) {
        edited.push_str(newline);
    }
    edited.push_str(tail);
    Ok(edited)
}

/// The text without a rule and the comments that belong to it.
pub fn remove_rule(text: &str, name: &str) -> Result<String, EditError> {
    let layout = Layout::of(text).ok_or(EditError::NotRead)?;
    if layout.inline_rules {
        return Err(EditError::InlineRules);
    }
    let block = layout
        .rule(name)
        .ok_or_else(|| unknown_rule(&layout, name))?;
    let (head, tail) = (&text[..block.lines.start], &text[block.lines.end..]);
    // The blank lines above the rule now part its neighbours; those below go with it.
    let mut rest = tail;
    while let Some(end) = rest.find('\n')
        && rest[..end].trim().is_empty()
    {
        rest = &rest[end + 1..];
    }
    if !rest.trim().is_empty() {
        return Ok(format!("{head}{rest}"));
    }
    let kept = head.trim_end();
    let line_break = if head.contains("\r\n") { "\r\n" } else { "\n" };
    Ok(if kept.is_empty() {
        String::new()
    } else {
        format!("{kept}{line_break}")
    })
}

/// The text with a rule put into another mode. What the rule says of its mode is written over, whatever
/// stands beside it; where it says nothing, a line is added below its action.
pub fn set_mode(text: &str, name: &str, mode: Mode) -> Result<String, EditError> {
    let layout = Layout::of(text).ok_or(EditError::NotRead)?;
    let block = layout
        .rule(name)
        .ok_or_else(|| unknown_rule(&layout, name))?;
    if let Some(value) = &block.mode {
        let (head, tail) = (&text[..value.start], &text[value.end..]);
        return Ok(format!("{head}\"{}\"{tail}", mode.name()));
    }
    if layout.inline_rules {
        return Err(EditError::InlineRules);
    }
    let action = block.action.clone().ok_or(EditError::NotRead)?;
    let key = &text[line_start(text, action.start)..action.start];
    // As `action` is written: indented, and with its equals sign in the same column.
    let indent = &key[..key.len() - key.trim_start().len()];
    let width = match key[indent.len()..].split_once('=') {
        Some((name, _)) if name.ends_with(' ') => name.len(),
        _ => 0,
    };
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let (head, tail) = text.split_at(line_end(text, action.end));
    let parted = if head.ends_with('\n') { "" } else { newline };
    let written = format!("{indent}{:width$}= \"{}\"{newline}", "mode ", mode.name());
    Ok(format!("{head}{parted}{written}{tail}"))
}

/// The lines of a rule with their comments.
pub fn rule_text<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let layout = Layout::of(text)?;
    let block = layout.rule(name)?;
    text.get(block.lines.clone())
}

fn unknown_rule(layout: &Layout, name: &str) -> EditError {
    let names: Vec<&str> = layout.rules.iter().map(|rule| rule.name.as_str()).collect();
    EditError::unknown_rule(name, &names)
}

impl NewRule {
    /// The rule as a `[[rule]]` block, its equals signs in one column.
    pub fn print(&self) -> String {
        let widest = self
            .keys
            .iter()
            .map(|(key, _)| key.len())
            .max()
            .unwrap_or(0);
        let mut table = Table::new();
        for (key, written) in &self.keys {
            table.insert(key, written.item());
            if let Some(mut name) = table.key_mut(key) {
                name.leaf_decor_mut()
                    .set_suffix(" ".repeat(widest + 1 - key.len()));
            }
        }
        format!("[[rule]]\n{table}")
    }
}

impl Written {
    fn item(&self) -> Item {
        match self {
            Self::Words(words) => list(words.iter().map(Value::from).collect()),
            Self::Numbers(words) => list(words.iter().map(|word| word_value(word)).collect()),
            Self::Text(text) => value(text.as_str()),
            Self::Flag(flag) => value(*flag),
            Self::Date(date) => value(*date),
            Self::Table(keys) => {
                let entry = |(key, word): &(&'static str, String)| (*key, word_value(word));
                value(keys.iter().map(entry).collect::<InlineTable>())
            }
        }
    }
}

fn list(mut values: Vec<Value>) -> Item {
    if values.len() == 1 {
        return Item::Value(values.remove(0));
    }
    value(values.into_iter().collect::<Array>())
}

fn word_value(word: &str) -> Value {
    let number = word.bytes().all(|byte| byte.is_ascii_digit());
    match word.parse::<i64>() {
        Ok(parsed) if number => parsed.into(),
        _ => word.into(),
    }
}
