//! Adding addresses to sets and removing them, inline and in files, keeping comments and layout.

use ipnet::IpNet;

use super::EditError;
use super::layout::{Element, Layout, SetValue, line_end, line_start};
use crate::policy::address::{parse_prefix, print_prefix};
use crate::policy::read::parse_line;

/// The text with further prefixes in an inline set.
pub fn add_to_set(text: &str, name: &str, prefixes: &[IpNet]) -> Result<String, EditError> {
    let layout = Layout::of(text).ok_or(EditError::NotRead)?;
    let (set, elements) = inline_set(&layout, name)?;
    let quoted: Vec<String> = prefixes
        .iter()
        .map(|prefix| format!("\"{}\"", print_prefix(prefix)))
        .collect();
    let Some(last) = elements.last().map(|last| last.span.clone()) else {
        let at = set.value.start + 1;
        return Ok(inserted(text, at, &quoted.join(", ")));
    };
    let close = set.value.end - 1;
    let comma = find_comma(text, last.end, close);
    let rest_of_line = line_end(text, comma.map_or(last.end, |comma| comma + 1));
    let alone = text[line_start(text, last.start)..last.start]
        .trim()
        .is_empty();
    if !alone || rest_of_line > close {
        return Ok(inserted(
            text,
            last.end,
            &format!(", {}", quoted.join(", ")),
        ));
    }
    // One element a line: the new ones get lines of their own, so that comments stay where they are.
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let indent = &text[line_start(text, last.start)..last.start];
    let separator = format!(",{newline}{indent}");
    let mut lines = format!("{indent}{}", quoted.join(&separator));
    lines.push_str(if comma.is_some() { "," } else { "" });
    lines.push_str(newline);
    let edited = inserted(text, rest_of_line, &lines);
    Ok(match comma {
        Some(_) => edited,
        None => inserted(&edited, last.end, ","),
    })
}

/// The text without some prefixes of an inline set.
pub fn remove_from_set(text: &str, name: &str, prefixes: &[IpNet]) -> Result<String, EditError> {
    let mut text = text.to_owned();
    for prefix in prefixes {
        let mut found = false;
        // A prefix may be listed more than once; each round the places are looked up anew.
        while let Some(edited) = without_one(&text, name, prefix)? {
            found = true;
            text = edited;
        }
        if !found {
            return Err(EditError::not_in_set(name, prefix));
        }
    }
    Ok(text)
}

fn without_one(text: &str, name: &str, prefix: &IpNet) -> Result<Option<String>, EditError> {
    let layout = Layout::of(text).ok_or(EditError::NotRead)?;
    let (set, elements) = inline_set(&layout, name)?;
    let is_it = |element: &Element| parse_prefix(&element.text).as_ref() == Ok(prefix);
    let Some(index) = elements.iter().position(is_it) else {
        return Ok(None);
    };
    let span = elements[index].span.clone();
    let comma = find_comma(text, span.end, set.value.end - 1);
    let from = line_start(text, span.start);
    let upto = line_end(text, span.end);
    let behind = text[span.end..upto]
        .trim_start()
        .trim_start_matches(',')
        .trim();
    let alone = text[from..span.start].trim().is_empty()
        && (behind.is_empty() || behind.starts_with('#'))
        && comma.is_none_or(|comma| comma < upto);
    let cut = if alone {
        from..upto
    } else if let Some(comma) = comma {
        let blanks =
            text[comma + 1..].len() - text[comma + 1..].trim_start_matches([' ', '\t']).len();
        span.start..comma + 1 + blanks
    } else {
        let previous = index.checked_sub(1).map(|index| elements[index].span.end);
        match previous {
            Some(end) if !text[end..span.start].contains(['#', '\n']) => end..span.end,
            _ => span,
        }
    };
    Ok(Some(format!("{}{}", &text[..cut.start], &text[cut.end..])))
}

/// The text with a new inline set.
pub fn create_set(text: &str, name: &str, prefixes: &[IpNet]) -> Result<String, EditError> {
    let layout = Layout::of(text).ok_or(EditError::NotRead)?;
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let quoted: Vec<String> = prefixes
        .iter()
        .map(|prefix| format!("\"{}\"", print_prefix(prefix)))
        .collect();
    let key = toml_edit::Key::new(name);
    let line = format!("{} = [{}]{newline}", key.display_repr(), quoted.join(", "));
    let at = match &layout.sets_header {
        Some(header) => header.end,
        None if !layout.sets.is_empty() => return Err(EditError::SetsWithoutHeader),
        None => layout
            .rules
            .first()
            .map_or(text.len(), |rule| rule.lines.start),
    };
    let broken = if text[..at].is_empty() || text[..at].ends_with('\n') {
        ""
    } else {
        newline
    };
    Ok(if layout.sets_header.is_some() {
        inserted(text, at, &format!("{broken}{line}"))
    } else {
        let below = if text[at..].is_empty() { "" } else { newline };
        let above = if at == text.len() { newline } else { "" };
        inserted(
            text,
            at,
            &format!("{broken}{above}[sets]{newline}{line}{below}"),
        )
    })
}

/// The content of a set's file with further prefixes at its end.
pub fn add_to_file(bytes: &[u8], prefixes: &[IpNet]) -> Vec<u8> {
    let newline: &[u8] = if bytes.windows(2).any(|pair| pair == b"\r\n") {
        b"\r\n"
    } else {
        b"\n"
    };
    let mut edited = bytes.to_vec();
    if edited.last().is_some_and(|byte| *byte != b'\n') {
        edited.extend_from_slice(newline);
    }
    for prefix in prefixes {
        edited.extend_from_slice(print_prefix(prefix).as_bytes());
        edited.extend_from_slice(newline);
    }
    edited
}

/// The content of a set's file without the lines of some prefixes.
pub fn remove_from_file(
    bytes: &[u8],
    name: &str,
    prefixes: &[IpNet],
) -> Result<Vec<u8>, EditError> {
    let mut found = vec![false; prefixes.len()];
    let mut edited = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let on_line = parse_line(line).ok().flatten();
        let wanted = prefixes.iter().position(|prefix| Some(*prefix) == on_line);
        match wanted {
            Some(index) => found[index] = true,
            None => edited.extend_from_slice(line),
        }
    }
    match found.iter().position(|found| !found) {
        Some(missing) => Err(EditError::not_in_set(name, &prefixes[missing])),
        None => Ok(edited),
    }
}

fn inline_set<'l>(
    layout: &'l Layout,
    name: &str,
) -> Result<(&'l SetValue, &'l [Element]), EditError> {
    let set = layout.set(name).ok_or_else(|| {
        let names: Vec<&str> = layout.sets.iter().map(|set| set.name.as_str()).collect();
        EditError::unknown_set(name, &names)
    })?;
    match &set.elements {
        Some(elements) => Ok((set, elements)),
        None => Err(EditError::NotInline(name.to_owned())),
    }
}

/// The comma that follows an element, over blanks, line breaks and comments.
fn find_comma(text: &str, mut at: usize, close: usize) -> Option<usize> {
    while at < close {
        match text.as_bytes()[at] {
            b',' => return Some(at),
            b'#' => at = line_end(text, at),
            _ => at += 1,
        }
    }
    None
}

fn inserted(text: &str, at: usize, what: &str) -> String {
    let (head, tail) = text.split_at(at);
    format!("{head}{what}{tail}")
}
