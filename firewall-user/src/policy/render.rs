//! Shows findings to a person: drawn on a terminal, plain and stable everywhere else.

use std::fmt;
use std::io::{self, Write};

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    SourceCode, SourceSpan, SpanContents,
};

use super::finding::{Finding, Place, SHOWN, Severity};
use crate::terminal::{can_be_drawn_on, colours_wanted};

/// Writes findings to standard error, at most [`SHOWN`] of them, and says how many more there are.
///
/// `more` counts those that were not kept.
pub fn show(findings: &[Finding], more: usize) {
    let terminal = can_be_drawn_on(&io::stderr());
    let mut text = String::new();
    for finding in findings.iter().take(SHOWN) {
        text.push_str(&if terminal {
            drawn(finding)
        } else {
            format!("{finding}\n")
        });
    }
    let hidden = findings.len().saturating_sub(SHOWN) + more;
    if hidden > 0 {
        text.push_str(&format!("and {hidden} more\n"));
    }
    // Standard error may be closed; there is nowhere left to say so.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn drawn(finding: &Finding) -> String {
    let theme = if colours_wanted() {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let mut text = String::new();
    match GraphicalReportHandler::new_themed(theme).render_report(&mut text, &Report(finding)) {
        Ok(()) => text,
        Err(_) => format!("{finding}\n"),
    }
}

/// A finding as miette wants it.
#[derive(Debug)]
struct Report<'f>(&'f Finding);

impl fmt::Display for Report<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.place.is_none() {
            write!(formatter, "{}: ", self.0.file)?;
        }
        formatter.write_str(&self.0.message)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.0.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            Severity::Note => miette::Severity::Advice,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.0.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.place.as_ref().map(|_| self as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.0.place.as_ref()?;
        let span = LabeledSpan::new_primary_with_span(None, byte_span(place));
        Some(Box::new(std::iter::once(span)))
    }
}

/// The excerpt is all of the source that is kept; its line number is carried along.
impl SourceCode for Report<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        _lines_before: usize,
        _lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let place = self.0.place.as_ref().ok_or(MietteError::OutOfBounds)?;
        if span.offset() > place.excerpt.len() {
            return Err(MietteError::OutOfBounds);
        }
        Ok(Box::new(MietteSpanContents::new_named(
            self.0.file.to_string(),
            place.excerpt.as_bytes(),
            (0, place.excerpt.len()).into(),
            place.line - 1,
            place.column - 1,
            1,
        )))
    }
}

fn byte_span(place: &Place) -> SourceSpan {
    let offset = |characters: usize| {
        place
            .excerpt
            .char_indices()
            .nth(characters)
            .map_or(place.excerpt.len(), |(offset, _)| offset)
    };
    let start = offset(place.excerpt_start);
    let end = offset(place.excerpt_start + place.width);
    (start, end - start).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_finding_shows_message_place_line_and_help() {
        let finding = Finding {
            severity: Severity::Error,
            code: None,
            file: "policy.toml".into(),
            place: Some(Place {
                line: 12,
                column: 1,
                excerpt: "prot = \"tcp\"".to_owned(),
                excerpt_start: 0,
                width: 4,
            }),
            message: "unknown key \"prot\"".to_owned(),
            help: Some("did you mean \"protocol\"?".to_owned()),
        };
        let mut text = String::new();
        GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
            .render_report(&mut text, &Report(&finding))
            .unwrap();
        for part in [
            "unknown key \"prot\"",
            "policy.toml:12:1",
            "prot = \"tcp\"",
            "did you mean",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
}
