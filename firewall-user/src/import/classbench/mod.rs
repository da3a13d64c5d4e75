//! ClassBench: the rule sets and header traces by which packet classifiers are measured (Taylor and
//! Turner, "ClassBench: a packet classification benchmark", INFOCOM 2005).
//!
//! A line of a set is
//!
//! ```text
//! @source/length  destination/length  low : high  low : high  protocol/mask  flags/mask
//! ```
//!
//! with source ports before destination ports, and protocol and flags in hexadecimal; everything is IPv4.
//! The flags field has 16 bits, and what they are depends on the protocol. For TCP the high byte is the
//! flags byte of the header: `0x0200/0x1200` is SYN without ACK. For ICMP the high byte is the type and
//! the low one the code: `0x0303/0xffff` is "port unreachable". No other protocol has any.
//!
//! A line of a trace is a header, all numbers decimal:
//!
//! ```text
//! source  destination  source-port  destination-port  protocol  flags  filter
//! ```
//!
//! where flags are `value << 16 | mask` of the filter that the header was drawn from, and 0 or 4294967295
//! where that filter takes any; the filter counts from 0 and is not always the first that matches.

mod cursor;
mod filter;
mod header;
mod policy;
#[cfg(test)]
mod tests;

pub use filter::{Filter, read_filters};
pub use header::{Header, read_headers};
pub use policy::{Actions, Imported, import};

use crate::policy::{Finding, PolicyErrors};

/// Errors of one file that are kept; the rest is counted.
const KEPT: usize = 200;

/// Reads each line that is not empty.
fn read_lines<T>(
    text: &str,
    name: &str,
    read: impl Fn(&mut cursor::Cursor<'_>, usize) -> Result<T, cursor::Fault>,
) -> Result<Vec<T>, PolicyErrors> {
    let mut all = Vec::new();
    let mut errors: Vec<Finding> = Vec::new();
    let mut more = 0;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        match read(&mut cursor::Cursor::new(line), all.len()) {
            Ok(read) if errors.is_empty() => all.push(read),
            Ok(_) => {}
            Err(_) if errors.len() == KEPT => more += 1,
            Err(fault) => errors.push(fault.finding(name, index + 1, line)),
        }
    }
    if errors.is_empty() {
        return Ok(all);
    }
    Err(PolicyErrors {
        errors,
        more,
        warnings: Vec::new(),
    })
}
