//! What the show says while it runs: a line per step with the time, tables at the end.

use std::{
    io::{self, IsTerminal},
    time::Instant,
};

pub struct Screen {
    started: Instant,
    colours: bool,
}

impl Screen {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            colours: io::stdout().is_terminal(),
        }
    }

    /// Seconds since the show began.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// The name of an act.
    pub fn heading(&self, text: &str) {
        println!("\n{}", self.paint("1", text));
    }

    /// Something that is done or begins.
    pub fn step(&self, text: &str) {
        println!("{:6.1} s  {text}", self.seconds());
    }

    /// Columns as wide as their widest cell; cells that are numbers stand to the right.
    pub fn table(&self, head: &[&str], rows: &[Vec<String>]) {
        if rows.is_empty() {
            println!("  (none)");
            return;
        }
        let widths: Vec<usize> = head
            .iter()
            .enumerate()
            .map(|(column, name)| {
                let cells = rows.iter().filter_map(|row| row.get(column));
                cells
                    .map(|cell| cell.chars().count())
                    .fold(name.chars().count(), usize::max)
            })
            .collect();
        let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
        println!("{}", self.paint("2", &line(&head, &widths)));
        for row in rows {
            println!("{}", line(row, &widths));
        }
    }

    pub fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    pub fn bad(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .zip(widths)
        .map(|(cell, &width)| {
            if cell.parse::<f64>().is_ok() {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        })
        .collect();
    format!("  {}", cells.join("  ").trim_end())
}
