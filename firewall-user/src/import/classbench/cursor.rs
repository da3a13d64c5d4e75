//! Reads one line from left to right and knows the column of what is wrong.

use std::net::Ipv4Addr;
use std::ops::Range;

use crate::policy::{Finding, Severity, place_in_line};

pub(super) struct Cursor<'t> {
    line: &'t str,
    at: usize,
}

/// What is wrong in a line, and where.
#[derive(Debug)]
pub(super) struct Fault {
    span: Range<usize>,
    message: String,
    help: &'static str,
}

impl<'t> Cursor<'t> {
    pub fn new(line: &'t str) -> Self {
        Self { line, at: 0 }
    }

    pub fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.at == self.line.len()
    }

    /// The sign that has to come next, blanks passed over.
    pub fn sign(&mut self, sign: char, help: &'static str) -> Result<(), Fault> {
        self.skip_blanks();
        if self.line[self.at..].starts_with(sign) {
            self.at += sign.len_utf8();
            return Ok(());
        }
        Err(self.fault(
            self.at..self.word_end(),
            format!("expected \"{sign}\""),
            help,
        ))
    }

    /// A decimal number up to `most`.
    pub fn number(&mut self, what: &str, most: u32, help: &'static str) -> Result<u32, Fault> {
        let span = self.taken(|byte| byte.is_ascii_digit());
        let digits = &self.line[span.clone()];
        match digits.parse() {
            Ok(number) if number <= most => Ok(number),
            Ok(_) => Err(self.fault(
                span,
                format!("{digits} is more than a {what} can be, {most}"),
                help,
            )),
            Err(_) => Err(self.missing(span, what, help)),
        }
    }

    /// A hexadecimal number that begins with `0x`, up to `most`.
    pub fn hexadecimal(&mut self, what: &str, most: u32, help: &'static str) -> Result<u32, Fault> {
        let span = self.taken(|byte| byte.is_ascii_alphanumeric());
        let written = &self.line[span.clone()];
        let digits = written.strip_prefix("0x");
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(number) if number <= most => Ok(number),
            Some(_) => Err(self.fault(
                span,
                format!("{written} is more than a {what} can be, {most:#x}"),
                help,
            )),
            None => Err(self.missing(span, what, help)),
        }
    }

    pub fn address(&mut self, what: &str, help: &'static str) -> Result<Ipv4Addr, Fault> {
        let span = self.taken(|byte| byte.is_ascii_digit() || byte == b'.');
        match self.line[span.clone()].parse() {
            Ok(address) => Ok(address),
            Err(_) => Err(self.missing(span, what, help)),
        }
    }

    /// A fault about what was read since `start`.
    pub fn fault_since(&self, start: usize, message: String, help: &'static str) -> Fault {
        self.fault(start..self.at, message, help)
    }

    /// Where the next thing begins.
    pub fn next(&mut self) -> usize {
        self.skip_blanks();
        self.at
    }

    /// That nothing follows.
    pub fn end(&mut self, help: &'static str) -> Result<(), Fault> {
        if self.at_end() {
            return Ok(());
        }
        let rest = self.at..self.line.len();
        let message = format!("\"{}\" is too much", self.line[rest.clone()].escape_debug());
        Err(self.fault(rest, message, help))
    }

    fn missing(&self, span: Range<usize>, what: &str, help: &'static str) -> Fault {
        let span = span.start..self.word_end().max(span.end);
        let message = match &self.line[span.clone()] {
            "" if span.start == self.line.len() => format!("the line ends before the {what}"),
            found => format!("\"{}\" is no {what}", found.escape_debug()),
        };
        self.fault(span, message, help)
    }

    fn fault(&self, span: Range<usize>, message: String, help: &'static str) -> Fault {
        Fault {
            span,
            message,
            help,
        }
    }

    /// Takes the bytes that belong to a thing.
    fn taken(&mut self, belongs: impl Fn(u8) -> bool) -> Range<usize> {
        self.skip_blanks();
        let start = self.at;
        let rest = &self.line.as_bytes()[start..];
        let length = rest.iter().position(|&byte| !belongs(byte));
        self.at = start + length.unwrap_or(rest.len());
        start..self.at
    }

    fn skip_blanks(&mut self) {
        let rest = &self.line[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Where the word at the cursor ends.
    fn word_end(&self) -> usize {
        let rest = &self.line[self.at..];
        self.at + rest.find(char::is_whitespace).unwrap_or(rest.len())
    }
}

impl Fault {
    pub fn finding(self, file: &str, number: usize, line: &str) -> Finding {
        Finding {
            severity: Severity::Error,
            code: None,
            file: file.into(),
            place: Some(place_in_line(number, line, self.span)),
            message: self.message,
            help: Some(self.help.to_owned()),
        }
    }
}
