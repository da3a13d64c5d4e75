//! Where the rules and sets stand in a policy's text, so that an edit can touch those lines only.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The places of what can be edited, as byte ranges of the text.
#[derive(Debug)]
pub(super) struct Layout {
    pub rules: Vec<RuleBlock>,
    pub sets: Vec<SetValue>,
    /// The header line of `[sets]`, if the table has one, and the end of its last own line.
    pub sets_header: Option<Range<usize>>,
    /// Whether the rules are written as `rule = [{ ... }]`.
    pub inline_rules: bool,
}

/// A `[[rule]]` with the comment lines right above it and right below.
#[derive(Debug)]
pub(super) struct RuleBlock {
    pub name: String,
    /// Whole lines.
    pub lines: Range<usize>,
    /// The values of these keys.
    pub action: Option<Range<usize>>,
    pub mode: Option<Range<usize>>,
}

/// A set's value.
#[derive(Debug)]
pub(super) struct SetValue {
    pub name: String,
    pub value: Range<usize>,
    /// The elements of an inline list; `None` for a set of another kind.
    pub elements: Option<Vec<Element>>,
}

/// An element of an inline list.
#[derive(Debug)]
pub(super) struct Element {
    pub text: String,
    pub span: Range<usize>,
}

impl Layout {
    /// The layout of a text that is valid.
    pub fn of(text: &str) -> Option<Self> {
        let document = DeTable::parse(text).ok()?;
        let document = document.get_ref();
        let mut headers = Vec::new();
        collect_headers(text, document, &mut headers);
        headers.sort_unstable();

        let mut rules = Vec::new();
        let mut inline_rules = false;
        if let Some(elements) = document
            .get("rule")
            .and_then(|value| value.get_ref().as_array())
        {
            for element in elements {
                inline_rules |= !text[element.span().start..].starts_with('[');
                if let Some(table) = element.get_ref().as_table() {
                    rules.push(rule_block(text, &headers, element, table));
                }
            }
        }
        let sets_value = document.get("sets");
        let sets = sets_value
            .and_then(|value| value.get_ref().as_table())
            .map(|table| {
                table
                    .iter()
                    .map(|(name, value)| set_value(name, value))
                    .collect()
            })
            .unwrap_or_default();
        let sets_header = sets_value
            .filter(|value| text[value.span().start..].starts_with('['))
            .map(|value| {
                let own = value.get_ref().as_table().map_or(0, |table| {
                    let own = |value: &&Spanned<DeValue<'_>>| !is_header(text, value);
                    table.values().filter(own).map(last_byte).max().unwrap_or(0)
                });
                value.span().start..line_end(text, own.max(value.span().end))
            });
        Some(Self {
            rules,
            sets,
            sets_header,
            inline_rules,
        })
    }

    pub fn rule(&self, name: &str) -> Option<&RuleBlock> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    pub fn set(&self, name: &str) -> Option<&SetValue> {
        self.sets.iter().find(|set| set.name == name)
    }
}

/// Where the value of each set begins, in a text that is valid.
pub fn set_lines(text: &str) -> HashMap<String, usize> {
    let layout = Layout::of(text);
    let sets = layout.map(|layout| layout.sets).unwrap_or_default();
    sets.into_iter()
        .map(|set| (set.name, set.value.start))
        .collect()
}

/// The start of the line on which `offset` lies.
pub(super) fn line_start(text: &str, offset: usize) -> usize {
    text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
}

/// The end of the line on which `offset` lies, its line break included.
pub(super) fn line_end(text: &str, offset: usize) -> usize {
    text[offset..]
        .find('\n')
        .map_or(text.len(), |newline| offset + newline + 1)
}

fn rule_block(
    text: &str,
    headers: &[usize],
    element: &Spanned<DeValue<'_>>,
    table: &DeTable<'_>,
) -> RuleBlock {
    let name = table.get("name").and_then(|name| name.get_ref().as_str());
    let header = line_start(text, element.span().start);
    let end = line_end(text, last_byte(element).max(element.span().end));
    // Comments below belong to the rule unless they stand right above the next header.
    let next = headers.iter().find(|next| **next >= end).copied();
    let limit = next.map_or(text.len(), |next| comments_above(text, next));
    let value = |key: &str| table.get(key).map(|value| value.span());
    RuleBlock {
        action: value("action"),
        mode: value("mode"),
        name: name.unwrap_or_default().to_owned(),
        lines: comments_above(text, header)..comments_below(text, end, limit),
    }
}

fn set_value(name: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> SetValue {
    let elements = value.get_ref().as_array().map(|elements| {
        elements
            .iter()
            .map(|element| Element {
                text: element.get_ref().as_str().unwrap_or_default().to_owned(),
                span: element.span(),
            })
            .collect()
    });
    SetValue {
        name: name.get_ref().to_string(),
        value: value.span(),
        elements,
    }
}

/// The starts of the lines of all table headers.
fn collect_headers(text: &str, table: &DeTable<'_>, headers: &mut Vec<usize>) {
    for value in table.values() {
        match value.get_ref() {
            DeValue::Table(table) => {
                if is_header(text, &value) {
                    headers.push(line_start(text, value.span().start));
                }
                collect_headers(text, table, headers);
            }
            DeValue::Array(elements) => {
                for element in elements {
                    if let DeValue::Table(table) = element.get_ref() {
                        if is_header(text, &element) {
                            headers.push(line_start(text, element.span().start));
                        }
                        collect_headers(text, table, headers);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether a table is written with a `[header]` rather than in braces or by a dotted key.
fn is_header(text: &str, value: &&Spanned<DeValue<'_>>) -> bool {
    value.get_ref().is_table() && text[value.span().start..].starts_with('[')
}

/// The end of the last byte of a value, with all that a table holds.
fn last_byte(value: &Spanned<DeValue<'_>>) -> usize {
    let inner = match value.get_ref() {
        DeValue::Table(table) => table.values().map(last_byte).max(),
        _ => None,
    };
    inner.unwrap_or(0).max(value.span().end)
}

/// The start of the unbroken comment lines above a line.
fn comments_above(text: &str, mut start: usize) -> usize {
    while start > 0 {
        let above = line_start(text, start - 1);
        if !text[above..start].trim_start().starts_with('#') {
            break;
        }
        start = above;
    }
    start
}

/// The end of the unbroken comment lines below a line.
fn comments_below(text: &str, mut end: usize, limit: usize) -> usize {
    while end < limit && text[end..].trim_start_matches([' ', '\t']).starts_with('#') {
        end = line_end(text, end);
    }
    end
}
