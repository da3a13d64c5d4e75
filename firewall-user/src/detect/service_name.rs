//! A service's name in a form that is copied like a number, as the subjects of alerts are.

use std::fmt;

use crate::policy::NAME_LENGTH;

/// The name of a rule that lets something in; at most as long as the policy's names may be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    bytes: [u8; NAME_LENGTH],
    length: u8,
}

impl ServiceName {
    /// Takes a name over; nothing if it is none that a policy may hold.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; NAME_LENGTH];
        if name.is_empty() {
            return None;
        }
        bytes
            .get_mut(..name.len())?
            .copy_from_slice(name.as_bytes());
        Some(Self {
            bytes,
            length: u8::try_from(name.len()).ok()?,
        })
    }

    pub fn as_str(&self) -> &str {
        // It was copied from a text as a whole.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.as_str())
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_as_it_is_or_not_at_all() {
        for name in ["shop", &"x".repeat(NAME_LENGTH), "caf\u{e9}"] {
            assert_eq!(ServiceName::new(name).unwrap().as_str(), name);
        }
        assert!(ServiceName::new("").is_none());
        assert!(ServiceName::new(&"x".repeat(NAME_LENGTH + 1)).is_none());
    }
}
