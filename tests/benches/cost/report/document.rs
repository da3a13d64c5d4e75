//! Puts tables into a document that people write: what stands between a section's markers is
//! replaced, everything else stays.

use std::path::Path;

use anyhow::{Context, Result};

use super::Section;

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
