//! A part of a run measures some rows of a table that others share: these are put in the place of what
//! they were, and the others stay.

use palisade_tests::document::Section;

use super::tables;

/// Tables of which a part of a run replaces rows: their section, how many of the columns say what a row
/// is about, and the first column of figures.
const SHARED: [(&str, usize, usize); 8] = [
    ("hot", 1, 3),
    ("cold", 1, 3),
    ("drawn", 1, 3),
    ("egress", 1, 3),
    ("lines", 1, 1),
    ("features", 1, 1),
    ("programs", 1, 2),
    ("wire", 3, 3),
];

/// A section after a part of a run; `old` is what stands in its place.
pub fn merged(mut section: Section, old: Option<&str>) -> Section {
    let shared = SHARED.iter().find(|shared| shared.0 == section.id);
    if let (Some(&(_, about, figures)), Some(old)) = (shared, old)
        && let Some(text) = merged_table(old, &section.text, about, figures)
    {
        section.text = text;
    }
    section
}

/// The old table with the new rows: those about the same as old ones in their place, others behind them.
/// Nothing when there is no old table of the same columns.
fn merged_table(old: &str, new: &str, about: usize, figures: usize) -> Option<String> {
    let (mut old, mut new) = (rows(old), rows(new));
    if old.is_empty() || new.is_empty() || old[0] != new[0] {
        return None;
    }
    let header = new.remove(0);
    old.remove(0);
    let subject = |row: &Row| row[..about.min(row.len())].to_vec();
    let is_new = |row: &Row| new.iter().any(|other| subject(other) == subject(row));
    let mut table = tables::table(&header, figures);
    let mut placed: Vec<Row> = Vec::new();
    for row in old {
        if !is_new(&row) {
            table.add_row(row);
        } else if !placed.contains(&subject(&row)) {
            placed.push(subject(&row));
            table.add_rows(new.iter().filter(|other| subject(other) == subject(&row)));
        }
    }
    table.add_rows(new.iter().filter(|row| !placed.contains(&subject(row))));
    Some(table.to_string())
}

type Row = Vec<String>;

/// The cells of a Markdown table, its header first.
fn rows(text: &str) -> Vec<Row> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix('|')?.strip_suffix('|'))
        .map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
        .filter(|row: &Row| !row.iter().all(|cell| cell.starts_with("--")))
        .collect()
}
