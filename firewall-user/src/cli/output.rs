//! What verbs print: tables for people on a terminal, tab-separated rows for pipes, JSON on request.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement};
use serde_json::Value;

use crate::respond::BanDuration;

/// Rows under a header. Columns that hold numbers are aligned right on a terminal.
#[derive(Debug)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Writes the table to standard output.
    pub fn print(&self) -> anyhow::Result<()> {
        let text = if io::stdout().is_terminal() {
            self.drawn()
        } else {
            self.separated()
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }

    fn drawn(&self) -> String {
        let mut table = comfy_table::Table::new();
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(self.header.clone());
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| {
                let number = cell.starts_with(|first: char| first.is_ascii_digit())
                    && cell.parse::<f64>().is_ok();
                Cell::new(cell).set_alignment(if number {
                    CellAlignment::Right
                } else {
                    CellAlignment::Left
                })
            }));
        }
        let mut text = table.trim_fmt();
        text.push('\n');
        text
    }

    fn separated(&self) -> String {
        let mut text = self.header.join("\t");
        text.push('\n');
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .map(|cell| cell.replace(['\t', '\n'], " "))
                .collect();
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        text
    }
}

/// Prints a document on one line, as scripts read it.
pub fn json(document: &Value) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, document)?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// Prints a line.
pub fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// A moment, to the second.
pub fn whole_seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A moment as detection counts it, to the second.
pub fn moment(time: crate::detect::Time) -> String {
    match jiff::Timestamp::from_nanosecond(time.into()) {
        Ok(time) => whole_seconds(time),
        Err(_) => "-".to_owned(),
    }
}

/// A count of seconds as people write it.
pub fn seconds(seconds: u64) -> String {
    BanDuration(Some(Duration::from_secs(seconds))).to_string()
}

/// A rate with as many digits as mean something.
pub fn rate(rate: f64) -> String {
    if rate >= 10.0 || rate == 0.0 {
        format!("{rate:.0}")
    } else {
        format!("{rate:.1}")
    }
}

/// `1 rule`, `2 rules`.
pub fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A text that may be missing.
pub fn optional(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "COUNT"]);
        table.row(vec!["one\ttab".to_owned(), "1".to_owned()]);
        table.row(vec!["twenty".to_owned(), "20".to_owned()]);
        table
    }

    #[test]
    fn rows_for_pipes_are_separated_by_tabs_that_no_cell_holds() {
        assert_eq!(table().separated(), "NAME\tCOUNT\none tab\t1\ntwenty\t20\n");
    }

    #[test]
    fn numbers_stand_right_on_a_terminal() {
        let text = table().drawn();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let end = |line: &str| line.trim_end().chars().count();
        assert_eq!(end(lines[1]), end(lines[2]), "{text}");
    }
}
