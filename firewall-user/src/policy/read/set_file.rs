//! Files of addresses: one address or prefix a line, `#` comments. Published block lists are read
//! as they come: `;` comments, and a count behind the address (`198.51.100.7<TAB>9`), are passed over.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

use super::read_text;
use crate::policy::address::{parse_prefix, well_formed};
use crate::policy::finding::{Finding, SHOWN, Severity};
use crate::policy::source::place_in_line;

/// Largest file of a set in bytes: some four million addresses.
pub const MAX_SET_FILE_BYTES: u64 = 64 << 20;

/// What a set's file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SetFile {
    /// In file order, repetitions included.
    pub prefixes: Vec<IpNet>,
    /// The first bad lines.
    pub bad: Vec<Finding>,
    /// How many more lines are bad.
    pub more: usize,
}

/// How far the reading of a set's file has come.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    pub file: &'a Path,
    /// Bytes that are done, of all.
    pub done: u64,
    pub total: u64,
}

/// Lines between two reports of how far it has come.
const REPORTED_LINES: usize = 1 << 14;

/// Reads the file of a set. The error is a file that cannot be read at all, and why.
pub fn read_set_file(path: &Path) -> Result<SetFile, String> {
    read_set_file_told(path, &|_| {})
}

/// The same, and says now and then how far it has come; once it is done, too.
pub fn read_set_file_told(path: &Path, told: &dyn Fn(Reading<'_>)) -> Result<SetFile, String> {
    let bytes = read_text(path, MAX_SET_FILE_BYTES, "a list of addresses")?;
    let total = bytes.len() as u64;
    let reading = |done| Reading {
        file: path,
        done,
        total,
    };
    let file = parse_set_file(&bytes, &path.display().to_string(), |done| {
        told(reading(done));
    });
    told(reading(total));
    Ok(file)
}

fn parse_set_file(bytes: &[u8], name: &str, mut told: impl FnMut(u64)) -> SetFile {
    let mut done = 0;
    let name: Arc<str> = name.into();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut file = SetFile::default();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if index % REPORTED_LINES == 0 {
            told(done);
        }
        done += line.len() as u64 + 1;
        match parse_line(line) {
            Ok(Some(prefix)) => file.prefixes.push(prefix),
            Ok(None) => {}
            Err(_) if file.bad.len() == SHOWN => file.more += 1,
            Err(span) => file.bad.push(explain(&name, index + 1, line, span)),
        }
    }
    file
}

/// The prefix on a line, if there is one; or which part of the line is wrong.
pub(crate) fn parse_line(line: &[u8]) -> Result<Option<IpNet>, Range<usize>> {
    let start = line.len() - line.trim_ascii_start().len();
    let content = line[start..].trim_ascii_end();
    if content.is_empty() || is_comment(content[0]) {
        return Ok(None);
    }
    let ends = |byte: &u8| byte.is_ascii_whitespace() || is_comment(*byte);
    let length = content.iter().position(ends).unwrap_or(content.len());
    let (address, rest) = content.split_at(length);
    let prefix = std::str::from_utf8(address)
        .ok()
        .and_then(well_formed)
        .ok_or(start..start + length)?;
    let rest = rest.trim_ascii_start();
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let after = rest[count..].trim_ascii_start();
    if after.first().is_none_or(|byte| is_comment(*byte)) {
        Ok(Some(prefix))
    } else {
        let end = start + content.len();
        Err(end - rest.len()..end)
    }
}

fn is_comment(byte: u8) -> bool {
    matches!(byte, b'#' | b';')
}

fn explain(name: &Arc<str>, number: usize, line: &[u8], span: Range<usize>) -> Finding {
    let text = std::str::from_utf8(&line[span.clone()]);
    let (message, help) = if !line[..span.start].trim_ascii().is_empty() {
        after_address(&String::from_utf8_lossy(&line[span.clone()]))
    } else if let Some(bad) = text.ok().and_then(|text| parse_prefix(text).err()) {
        (bad.message, bad.help)
    } else {
        (
            "bytes that are neither an address nor a comment".to_owned(),
            "a line holds one address or prefix, or a # comment".to_owned(),
        )
    };
    // Only what is shown is decoded: lines may be long and of any bytes.
    let shown = &line[..line.len().min(span.start + 200)];
    let decoded = String::from_utf8_lossy(shown);
    let place = if decoded.len() == shown.len() {
        place_in_line(number, decoded.trim_end(), span)
    } else {
        place_in_line(number, decoded.trim_end(), 0..decoded.len())
    };
    Finding {
        severity: Severity::Error,
        code: None,
        file: name.clone(),
        place: Some(place),
        message,
        help: Some(help),
    }
}

fn after_address(text: &str) -> (String, String) {
    let shown: String = text.chars().take(40).collect();
    (
        format!("\"{}\" behind an address", shown.escape_debug()),
        "a line holds one address or prefix; put # before a comment".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn comments_counts_line_ends_and_blanks_are_passed_over() {
        let text = b"\xef\xbb\xbf# list\r\n198.51.100.7\t9\r\n  2001:db8::/32   # office\n\n; x\n203.0.113.0/24 ; SBL1\n198.51.100.7\n198.51.100.8#x";
        let file = parse_set_file(text, "f", |_| {});
        let read: Vec<String> = file.prefixes.iter().map(ToString::to_string).collect();
        assert_eq!(
            read,
            [
                "198.51.100.7/32",
                "2001:db8::/32",
                "203.0.113.0/24",
                "198.51.100.7/32",
                "198.51.100.8/32"
            ]
        );
        assert_eq!(file.bad, []);
    }

    #[test]
    fn each_bad_line_has_its_place_and_its_reason() {
        for (line, message, column) in [
            (
                "198.51.100.7/24",
                "\"198.51.100.7/24\" has bits set behind its length of 24",
                1,
            ),
            ("  nonsense", "\"nonsense\" is not an address or prefix", 3),
            ("198.51.100.0 /24", "\"/24\" behind an address", 14),
            (
                "198.51.100.0 255.255.255.0",
                "\"255.255.255.0\" behind an address",
                14,
            ),
            (
                "198.51.100.1,198.51.100.2",
                "\"198.51.100.1,198.51.100.2\" is not an address or prefix",
                1,
            ),
        ] {
            let text = format!("# first\n{line}\n");
            let file = parse_set_file(text.as_bytes(), "f.netset", |_| {});
            let place = file.bad[0].place.clone().unwrap();
            assert_eq!(file.bad[0].message, message);
            assert_eq!((place.line, place.column), (2, column), "{line}");
        }
    }

    #[test]
    fn a_million_bad_lines_are_counted_at_once_and_only_the_first_kept() {
        let text = "no address\n".repeat(1_000_000);
        let began = Instant::now();
        let file = parse_set_file(text.as_bytes(), "f", |_| {});
        assert_eq!((file.bad.len(), file.more), (SHOWN, 1_000_000 - SHOWN));
        assert!(began.elapsed().as_secs() < 5, "took {:?}", began.elapsed());
    }

    #[test]
    fn how_far_it_has_come_grows_to_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.netset");
        let lines = 5 * REPORTED_LINES / 2;
        std::fs::write(&path, "198.51.100.7\n".repeat(lines)).unwrap();
        let told = std::cell::RefCell::new(Vec::new());
        let file = read_set_file_told(&path, &|reading| {
            assert_eq!(reading.total, 13 * lines as u64);
            told.borrow_mut().push(reading.done / 13);
        });
        assert_eq!(file.unwrap().prefixes.len(), lines);
        let reported = REPORTED_LINES as u64;
        assert_eq!(*told.borrow(), [0, reported, 2 * reported, lines as u64]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let file = parse_set_file(&bytes, "f", |_| {});
            prop_assert!(file.bad.len() <= SHOWN);
        }
    }
}
