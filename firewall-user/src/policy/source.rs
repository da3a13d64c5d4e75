//! Turns byte spans of a text into lines and columns that people can find.

use std::ops::Range;
use std::sync::Arc;

use super::finding::{Finding, Place, Severity};

/// Longest excerpt of a line, in characters.
const EXCERPT: usize = 120;
/// How much of a long line is shown before the place.
const BEFORE: usize = 40;

/// A text with its name and the starts of its lines.
#[derive(Debug)]
pub(super) struct Source<'t> {
    pub name: Arc<str>,
    pub text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Source<'t> {
    pub fn new(name: &str, text: &'t str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            name: name.into(),
            text,
            starts: std::iter::once(0)
                .chain(newlines.map(|(index, _)| index + 1))
                .collect(),
        }
    }

    /// The line, from 1, on which a byte offset lies.
    pub fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// The content of a line, counted from 1.
    pub fn line_span(&self, line: usize) -> Range<usize> {
        let start = self.starts.get(line.saturating_sub(1)).copied();
        let start = start.unwrap_or(self.text.len());
        let length = self.text[start..].lines().next().map_or(0, str::len);
        start..start + length
    }

    /// The place of a span; what reaches past the line is cut.
    pub fn place(&self, span: Range<usize>) -> Place {
        let start = span.start.min(self.text.len());
        let line = self.line(start);
        let from = self.starts[line - 1];
        let to = self
            .starts
            .get(line)
            .map_or(self.text.len(), |next| next - 1);
        let content = self.text[from..to].trim_end_matches('\r');
        place_in_line(line, content, start - from..span.end.max(start) - from)
    }

    pub fn finding(
        &self,
        severity: Severity,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Finding {
        Finding {
            severity,
            code: None,
            file: self.name.clone(),
            place: Some(self.place(span)),
            message: message.into(),
            help,
        }
    }
}

/// The place of a byte span in a line that is already known.
pub(crate) fn place_in_line(line: usize, content: &str, span: Range<usize>) -> Place {
    let characters = |bytes: &str| bytes.chars().count();
    let before = characters(head(content, span.start));
    let upto = characters(head(content, span.end));
    let skipped = if characters(content) > EXCERPT {
        before.saturating_sub(BEFORE)
    } else {
        0
    };
    let excerpt: String = content
        .chars()
        .skip(skipped)
        .take(EXCERPT)
        .map(|character| match character {
            '\t' => ' ',
            // Nothing in a file may drive the terminal that shows an error about it.
            character if character.is_control() || is_bidi_control(character) => '\u{fffd}',
            character => character,
        })
        .collect();
    let excerpt_start = before - skipped;
    let room = characters(&excerpt).saturating_sub(excerpt_start).max(1);
    Place {
        line,
        column: before + 1,
        excerpt,
        excerpt_start,
        width: upto.saturating_sub(before).clamp(1, room),
    }
}

/// The first `length` bytes of `text`, or fewer so as not to cut a character.
fn head(text: &str, length: usize) -> &str {
    let mut length = length.min(text.len());
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    &text[..length]
}

fn is_bidi_control(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_on_the_second_line_has_its_line_and_column() {
        let source = Source::new("p", "one\r\ntwo three\r\n");
        let place = source.place(9..14);
        assert_eq!((place.line, place.column, place.width), (2, 5, 5));
        assert_eq!(place.excerpt, "two three");
    }

    #[test]
    fn a_span_past_the_end_points_behind_the_last_character() {
        let source = Source::new("p", "abc");
        let place = source.place(90..99);
        assert_eq!((place.line, place.column, place.width), (1, 4, 1));
    }

    #[test]
    fn columns_count_characters_not_bytes() {
        let source = Source::new("p", "# é\nä = \"ü\" x");
        let place = source.place(15..16);
        assert_eq!((place.line, place.column), (2, 9));
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}HERE{}", "a".repeat(5_000), "b".repeat(5_000));
        let place = Source::new("p", &text).place(5_000..5_004);
        assert_eq!(place.column, 5_001);
        let shown: String = place
            .excerpt
            .chars()
            .skip(place.excerpt_start)
            .take(4)
            .collect();
        assert_eq!(shown, "HERE");
        assert_eq!(place.excerpt.chars().count(), EXCERPT);
    }

    #[test]
    fn escape_sequences_do_not_reach_the_excerpt() {
        let place = Source::new("p", "a = \"\u{1b}[31m\u{202e}\"").place(0..1);
        assert!(!place.excerpt.contains('\u{1b}'));
        assert!(!place.excerpt.contains('\u{202e}'));
    }
}
