//! A reader that knows how far it is, for errors that name the place.

use std::io::{ErrorKind, Read};

use super::CaptureError;

#[derive(Debug)]
pub(super) struct Input<R> {
    source: R,
    offset: u64,
}

impl<R: Read> Input<R> {
    pub fn new(source: R) -> Self {
        Self { source, offset: 0 }
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Fills `bytes`; `false` if the input ends right here, an error if it ends within.
    pub fn read_or_end(
        &mut self,
        bytes: &mut [u8],
        what: &'static str,
    ) -> Result<bool, CaptureError> {
        let start = self.offset;
        let mut filled = 0;
        while filled < bytes.len() {
            match self.source.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => {
                    return Err(CaptureError::Truncated {
                        what,
                        offset: start,
                    });
                }
                Ok(count) => {
                    filled += count;
                    self.offset += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Fills `bytes`, or fails.
    pub fn read(&mut self, bytes: &mut [u8], what: &'static str) -> Result<(), CaptureError> {
        let offset = self.offset;
        if bytes.is_empty() || self.read_or_end(bytes, what)? {
            Ok(())
        } else {
            Err(CaptureError::Truncated { what, offset })
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], CaptureError> {
        let mut bytes = [0; N];
        self.read(&mut bytes, what)?;
        Ok(bytes)
    }

    /// Replaces `bytes` by the next `length` bytes. The caller has bounded `length`.
    pub fn vector(
        &mut self,
        bytes: &mut Vec<u8>,
        length: usize,
        what: &'static str,
    ) -> Result<(), CaptureError> {
        bytes.resize(length, 0);
        let result = self.read(bytes, what);
        if result.is_err() {
            bytes.clear();
        }
        result
    }
}

/// Integers of a file whose byte order its first bytes told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Big,
    Little,
}

impl ByteOrder {
    /// The integer at `offset`. The caller knows that it lies within `bytes`.
    pub fn u16(self, bytes: &[u8], offset: usize) -> u16 {
        let value = [bytes[offset], bytes[offset + 1]];
        match self {
            Self::Big => u16::from_be_bytes(value),
            Self::Little => u16::from_le_bytes(value),
        }
    }

    /// As [`Self::u16`].
    pub fn u32(self, bytes: &[u8], offset: usize) -> u32 {
        let (first, second) = (self.u16(bytes, offset), self.u16(bytes, offset + 2));
        match self {
            Self::Big => u32::from(first) << 16 | u32::from(second),
            Self::Little => u32::from(second) << 16 | u32::from(first),
        }
    }

    /// As [`Self::u16`].
    pub fn u64(self, bytes: &[u8], offset: usize) -> u64 {
        let (first, second) = (self.u32(bytes, offset), self.u32(bytes, offset + 4));
        match self {
            Self::Big => u64::from(first) << 32 | u64::from(second),
            Self::Little => u64::from(second) << 32 | u64::from(first),
        }
    }
}
