//! Puts tables into a document that people write: what stands between a section's markers is
//! replaced, everything else stays.

use std::path::Path;

use anyhow::{Context, Result};

/// A part of the document: what stands between its markers.
#[derive(Clone, Debug)]
pub struct Section {
    pub id: &'static str,
    pub title: &'static str,
    pub text: String,
}

/// Replaces the sections in the file. A section that the file has no markers for goes to its end.
pub fn write(file: &Path, sections: &[Section]) -> Result<()> {
    let mut text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| file.display().to_string()),
    };
    for section in sections {
        text = replaced(&text, section);
    }
    std::fs::write(file, text).with_context(|| file.display().to_string())
}

/// What stands between a section's markers.
pub fn between<'t>(text: &'t str, id: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<!-- measured: {id} -->"))?;
    let (body, _) = rest.split_once(&format!("<!-- end of {id} -->"))?;
    Some(body.trim())
}

fn replaced(text: &str, section: &Section) -> String {
    let begin = format!("<!-- measured: {} -->", section.id);
    let end = format!("<!-- end of {} -->", section.id);
    let body = format!("{begin}\n\n{}\n\n{end}", section.text.trim_end());
    let found = text
        .split_once(&begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    match found {
        Some((before, after)) => format!("{before}{body}{after}"),
        None => format!("{}\n\n## {}\n\n{body}\n", text.trim_end(), section.title),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let section = |text: &str| Section {
            id: "speed",
            title: "Speed",
            text: text.to_owned(),
        };
        let first = replaced("# Title\n\nWords.\n", &section("slow"));
        assert!(first.starts_with("# Title\n\nWords.\n\n## Speed\n\n<!-- measured: speed -->"));
        assert_eq!(between(&first, "speed"), Some("slow"));
        let people = first.replace("## Speed", "## How fast") + "\nMore words.\n";
        let second = replaced(&people, &section("fast"));
        assert_eq!(second, people.replace("slow", "fast"));
    }
}
