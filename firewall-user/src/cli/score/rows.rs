//! Reads a series row by row in constant memory, and says which line is wrong and what would be right.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, bail, ensure};

use crate::detect::Time;

const COLUMNS: &str = "timestamp,value";
/// No row is longer; a file without line ends must not fill the memory.
const LONGEST_LINE: u64 = 4_096;
const NANOSECONDS: f64 = 1e9;

/// A row of a series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row<'a> {
    /// As it is written.
    pub timestamp: &'a str,
    pub time: Time,
    /// The value as it is written.
    pub text: &'a str,
    pub value: f64,
}

/// The rows under the header.
#[derive(Debug)]
pub(super) struct Rows<R> {
    source: BufReader<R>,
    line: Vec<u8>,
    number: usize,
}

impl<R: Read> Rows<R> {
    /// Reads the header.
    pub fn new(source: R) -> anyhow::Result<Self> {
        let mut rows = Self {
            source: BufReader::new(source),
            line: Vec::new(),
            number: 0,
        };
        if !rows.read_line()? {
            bail!("it is empty; its first line must be \"{COLUMNS}\"");
        }
        let text = rows.text()?;
        let header: Vec<&str> = text.trim_start_matches('\u{feff}').split(',').collect();
        let names = header
            .iter()
            .map(|name| unquoted(name).to_ascii_lowercase());
        ensure!(
            names.eq(COLUMNS.split(',')),
            "line 1: the header is \"{}\"; it must be \"{COLUMNS}\"",
            text.trim_end()
        );
        Ok(rows)
    }

    /// The next row; none at the end.
    pub fn next_row(&mut self) -> anyhow::Result<Option<Row<'_>>> {
        loop {
            if !self.read_line()? {
                return Ok(None);
            }
            if !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        let number = self.number;
        let text = self.text()?;
        row(text)
            .with_context(|| format!("line {number}"))
            .map(Some)
    }

    /// Whether the next row may take its time to come: none is at hand.
    pub fn waits(&self) -> bool {
        !self.source.buffer().contains(&b'\n')
    }

    /// Whether there is another line.
    fn read_line(&mut self) -> anyhow::Result<bool> {
        self.line.clear();
        self.number += 1;
        let mut source = (&mut self.source).take(LONGEST_LINE);
        let read = source
            .read_until(b'\n', &mut self.line)
            .with_context(|| format!("line {}", self.number))?;
        ensure!(
            self.line.ends_with(b"\n") || (read as u64) < LONGEST_LINE,
            "line {} is longer than {LONGEST_LINE} bytes; a row is \"{COLUMNS}\"",
            self.number
        );
        Ok(read > 0)
    }

    fn text(&self) -> anyhow::Result<&str> {
        std::str::from_utf8(&self.line).with_context(|| format!("line {} is no text", self.number))
    }
}

fn row(line: &str) -> anyhow::Result<Row<'_>> {
    let line = line.trim();
    let fields: Vec<&str> = line.split(',').map(unquoted).collect();
    let [timestamp, text] = fields[..] else {
        bail!(
            "\"{line}\" has {} fields; a row is \"{COLUMNS}\"",
            fields.len()
        );
    };
    let value: f64 = text
        .parse()
        .ok()
        .filter(|value: &f64| value.is_finite())
        .with_context(|| format!("the value \"{text}\" is not a number"))?;
    Ok(Row {
        timestamp,
        time: time(timestamp)?,
        text,
        value,
    })
}

/// A time in one of the three forms. What names no zone is UTC.
fn time(text: &str) -> anyhow::Result<Time> {
    let nanoseconds = if let Ok(seconds) = text.parse::<f64>() {
        Some(seconds * NANOSECONDS)
            .filter(|time| (0.0..Time::MAX as f64).contains(time))
            .map(|time| time.round() as Time)
    } else {
        let moment = text.parse::<jiff::Timestamp>().or_else(|_| {
            let civil = text.parse::<jiff::civil::DateTime>()?;
            civil
                .to_zoned(jiff::tz::TimeZone::UTC)
                .map(|time| time.timestamp())
        });
        let Ok(moment) = moment else {
            bail!(
                "the timestamp \"{text}\" is not understood; it may be \"2014-02-14 14:30:00\", \
                 RFC 3339 or Unix seconds"
            );
        };
        Time::try_from(moment.as_nanosecond()).ok()
    };
    nanoseconds.with_context(|| {
        format!(
            "the timestamp \"{text}\" is out of range; the first is 1970-01-01, the last in 2554"
        )
    })
}

/// A field without the white space and quotation marks around it.
fn unquoted(field: &str) -> &str {
    let field = field.trim();
    field
        .strip_prefix('"')
        .and_then(|field| field.strip_suffix('"'))
        .unwrap_or(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Vec<(Time, f64)>> {
        let mut rows = Rows::new(text.as_bytes())?;
        let mut read = Vec::new();
        while let Some(row) = rows.next_row()? {
            read.push((row.time, row.value));
        }
        Ok(read)
    }

    #[test]
    fn a_moment_is_the_same_in_all_three_forms() {
        let text = "timestamp,value\n2014-02-14 14:30:00,1\n2014-02-14T15:30:00+01:00,1\n\
                    1392388200,1\n1392388200.0,1\n2014-02-14 14:30:00.000000,1\n";
        let rows = read(text).unwrap();
        assert_eq!(rows, [(1_392_388_200_000_000_000, 1.0); 5]);
    }

    #[test]
    fn what_spreadsheets_add_is_passed_over() {
        let text = "\u{feff}\"timestamp\",\"value\"\r\n\"1800000000\", 2.5\r\n\r\n1800000060,-1e3";
        let values: Vec<f64> = read(text).unwrap().iter().map(|row| row.1).collect();
        assert_eq!(values, [2.5, -1000.0]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_what_would_be_right() {
        let long = format!("timestamp,value\n{}", "1".repeat(10_000));
        for (text, said) in [
            ("", "its first line must be \"timestamp,value\""),
            (
                "value,timestamp\n",
                "line 1: the header is \"value,timestamp\"; it must be",
            ),
            ("1800000000,5\n", "line 1: the header"),
            (
                "timestamp,value\n1,2,3\n",
                "line 2: \"1,2,3\" has 3 fields; a row is",
            ),
            (
                "timestamp,value\n\n1,\n",
                "line 3: the value \"\" is not a number",
            ),
            (
                "timestamp,value\n1,NaN\n",
                "line 2: the value \"NaN\" is not a number",
            ),
            (
                "timestamp,value\nyesterday,2\n",
                "the timestamp \"yesterday\" is not understood",
            ),
            (
                "timestamp,value\n-5,2\n",
                "line 2: the timestamp \"-5\" is out of range",
            ),
            (&long, "line 2 is longer than 4096 bytes"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(said), "{text:.40}: {error}");
        }
    }
}
