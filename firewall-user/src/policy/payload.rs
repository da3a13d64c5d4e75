//! Bytes to look for in a packet's payload, as `"0:474554 20"`: a place and hexadecimal digits, `?` standing
//! for any digit.

use std::fmt;
use std::str::FromStr;

use firewall_common::image::{PATTERN_BYTES, PATTERN_REACH, Pattern};

/// Bytes at a place of the payload. Equal patterns are written alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Payload {
    pattern: Pattern,
}

/// Why a text is no payload pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct BadPayload {
    pub message: String,
    pub help: String,
}

const EXAMPLE: &str = "write \"0:47455420\", that is, the offset and the bytes in hexadecimal";

impl Payload {
    /// The pattern of these hexadecimal digits, with `?` for any digit and spaces as wanted.
    pub fn from_hex(offset: u16, hex: &str) -> Result<Self, BadPayload> {
        let digits: Vec<char> = hex.chars().filter(|digit| *digit != ' ').collect();
        if !digits.len().is_multiple_of(2) {
            return Err(BadPayload::new(
                format!("\"{}\" has half a byte", shortened(hex)),
                "write two digits for each byte, or ? for a digit that does not matter",
            ));
        }
        let (mut value, mut mask) = (Vec::new(), Vec::new());
        for pair in digits.chunks(2) {
            let (mut byte, mut bits) = (0, 0);
            for digit in pair {
                let (low, known) = match digit {
                    '?' => (0, 0),
                    digit => match digit.to_digit(16) {
                        Some(low) => (low as u8, 0xf),
                        None => {
                            return Err(BadPayload::new(
                                format!(
                                    "\"{}\" in \"{}\" is no hexadecimal digit",
                                    digit.escape_debug(),
                                    shortened(hex)
                                ),
                                "write 0 to 9 and a to f, or ? for a digit that does not matter",
                            ));
                        }
                    },
                };
                byte = byte << 4 | low;
                bits = bits << 4 | known;
            }
            value.push(byte);
            mask.push(bits);
        }
        Self::new(offset, &value, &mask)
    }

    /// The pattern of these very bytes.
    pub fn from_bytes(offset: u16, bytes: &[u8]) -> Result<Self, BadPayload> {
        Self::new(offset, bytes, &vec![0xff; bytes.len()])
    }

    fn new(offset: u16, value: &[u8], mask: &[u8]) -> Result<Self, BadPayload> {
        if offset > PATTERN_REACH {
            return Err(BadPayload::new(
                format!("the offset {offset} is too far into the payload"),
                format!("a pattern begins at 0 to {PATTERN_REACH}"),
            ));
        }
        if value.is_empty() || value.len() > PATTERN_BYTES {
            return Err(BadPayload::new(
                format!("a pattern of {} bytes", value.len()),
                format!("a pattern has 1 to {PATTERN_BYTES} bytes"),
            ));
        }
        let number = |bytes: &[u8]| {
            let mut all = [0; PATTERN_BYTES];
            all[..bytes.len()].copy_from_slice(bytes);
            u128::from_be_bytes(all)
        };
        let mask_bits = number(mask);
        Ok(Self {
            pattern: Pattern {
                offset,
                length: value.len() as u8,
                value: number(value) & mask_bits,
                mask: mask_bits,
            },
        })
    }

    /// Whether a payload shows the pattern.
    pub fn is_in(&self, payload: &[u8]) -> bool {
        let offset = usize::from(self.pattern.offset);
        let bytes = payload.get(offset..offset + usize::from(self.pattern.length));
        bytes.is_some_and(|bytes| {
            let mut all = [0; PATTERN_BYTES];
            all[..bytes.len()].copy_from_slice(bytes);
            u128::from_be_bytes(all) & self.pattern.mask == self.pattern.value
        })
    }

    /// The shortest payload that shows the pattern.
    pub fn example(&self) -> Vec<u8> {
        let mut payload = vec![0; usize::from(self.pattern.offset)];
        let bytes = self.pattern.value.to_be_bytes();
        payload.extend(&bytes[..usize::from(self.pattern.length).min(PATTERN_BYTES)]);
        payload
    }

    /// Whether no payload shows both.
    pub fn contradicts(&self, other: &Self) -> bool {
        let (first, second) = if self.pattern.offset <= other.pattern.offset {
            (self.pattern, other.pattern)
        } else {
            (other.pattern, self.pattern)
        };
        let apart = u32::from(second.offset - first.offset) * 8;
        let differing = match (
            first.value.checked_shl(apart),
            first.mask.checked_shl(apart),
        ) {
            (Some(value), Some(mask)) => (value ^ second.value) & mask & second.mask,
            _ => 0,
        };
        differing != 0
    }

    /// The bytes of payload that a packet has to have at least.
    pub fn end(&self) -> usize {
        usize::from(self.pattern.offset) + usize::from(self.pattern.length)
    }
}

impl BadPayload {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }
}

impl From<Payload> for Pattern {
    fn from(payload: Payload) -> Self {
        payload.pattern
    }
}

impl FromStr for Payload {
    type Err = BadPayload;

    fn from_str(text: &str) -> Result<Self, BadPayload> {
        let bad = || BadPayload::new(format!("\"{}\" is no pattern", shortened(text)), EXAMPLE);
        let (offset, hex) = text.split_once(':').ok_or_else(bad)?;
        let offset = offset.trim();
        if offset.is_empty() || !offset.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        // A number too large for its type is too far as well.
        Self::from_hex(offset.parse().unwrap_or(u16::MAX), hex)
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.pattern.offset)?;
        for digit in 0..u32::from(self.pattern.length) * 2 {
            let shift = 124 - digit * 4;
            if self.pattern.mask >> shift & 0xf == 0 {
                formatter.write_str("?")?;
            } else {
                write!(formatter, "{:x}", self.pattern.value >> shift & 0xf)?;
            }
        }
        Ok(())
    }
}

fn shortened(text: &str) -> String {
    text.escape_debug().take(60).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_wildcards_and_spaces_are_read_and_printed_alike() {
        for (written, printed) in [
            ("0:47455420", "0:47455420"),
            ("12:47 45 5? ??", "12:47455???"),
            ("1400:AbCd", "1400:abcd"),
            (" 3 : ff", "3:ff"),
        ] {
            let payload: Payload = written.parse().unwrap();
            assert_eq!(payload.to_string(), printed);
            assert_eq!(printed.parse(), Ok(payload));
        }
    }

    #[test]
    fn each_bad_pattern_says_what_is_wrong_and_what_would_be_right() {
        for (written, message) in [
            ("47455420", "\"47455420\" is no pattern"),
            ("x:47", "\"x:47\" is no pattern"),
            ("0:474", "\"474\" has half a byte"),
            ("0:4g", "\"g\" in \"4g\" is no hexadecimal digit"),
            ("0:", "a pattern of 0 bytes"),
            (
                "0:0011223344556677889900112233445566",
                "a pattern of 17 bytes",
            ),
            ("1401:00", "the offset 1401 is too far into the payload"),
            (
                "99999999:00",
                "the offset 65535 is too far into the payload",
            ),
        ] {
            let bad = Payload::from_str(written).unwrap_err();
            assert_eq!(bad.message, message);
            assert!(!bad.help.is_empty());
        }
    }

    proptest! {
        #[test]
        fn patterns_contradict_each_other_when_no_payload_shows_both(
            one in "[0-9]:([01?]{2}){1,3}",
            other in "[0-9]:([01?]{2}){1,3}",
        ) {
            let (one, other): (Payload, Payload) = (one.parse().unwrap(), other.parse().unwrap());
            // Filling in what each asks for gives a payload with both, unless they disagree.
            let mut payload = vec![0_u8; one.end().max(other.end())];
            for pattern in [Pattern::from(one), Pattern::from(other)] {
                for index in 0..usize::from(pattern.length) {
                    let shift = 120 - index * 8;
                    payload[usize::from(pattern.offset) + index] |= (pattern.value >> shift) as u8;
                }
            }
            let both = one.is_in(&payload) && other.is_in(&payload);
            prop_assert_eq!(one.contradicts(&other), !both);
            prop_assert_eq!(one.contradicts(&other), other.contradicts(&one));
        }
    }
}
