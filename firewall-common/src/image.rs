//! The compiled policy: one flat array of 64-bit words, read the same way by the kernel program
//! and the host engine, and the constants that say where its parts begin.
//!
//! A rule set is a bit matrix. Each field of a packet selects a row, whose bit `i` says whether
//! rule `i` accepts that field's value; the AND of the selected rows are the rules that match, and
//! the lowest bit is the first of them. Above 64 rules each row begins with a summary, a bit for
//! each of its words that is not zero, so that whole words are passed over
//! (Lakshman and Stiliadis 1998; the summary is Baboescu and Varghese 2001).
//!
//! Addresses select their row by the range they fall in ([`crate::address_table`]).

pub use crate::address_table::{row_v4, row_v6};

/// Constants of one direction's rule set.
pub mod constant {
    /// Number of rules; 0 leaves the whole matrix out.
    pub const RULES: usize = 0;
    /// Words of rule bits in a row.
    pub const WORDS: usize = 1;
    /// Words of summary before them; 0 when there is one word only.
    pub const SUMMARIES: usize = 2;
    /// Where the rule records begin.
    pub const RECORDS: usize = 3;
    /// 1 where no rule matches means drop.
    pub const DEFAULT_DROP: usize = 4;
    /// 1 when defaults, bans and malformed packets are only counted.
    pub const OBSERVE: usize = 5;
    /// Where each field's table begins (see [`super::Field`]); 0 when no rule looks at the field.
    pub const TABLES: usize = 6;
    /// Where each field's rows begin.
    pub const ROWS: usize = TABLES + super::FIELDS;
    /// Where the IPv6 table of the source, destination and protected addresses begins.
    pub const SOURCE_V6: usize = ROWS + super::FIELDS;
    pub const DESTINATION_V6: usize = SOURCE_V6 + 1;
    /// Addresses that bans spare: IPv4 and IPv6 table, 0 when there are none.
    pub const PROTECTED_V4: usize = DESTINATION_V6 + 1;
    pub const PROTECTED_V6: usize = PROTECTED_V4 + 1;
    /// Steps that the search for the first match takes at most (see [`super::MAX_STEPS`]).
    pub const STEPS: usize = PROTECTED_V6 + 1;
    /// Where the payload patterns begin (see [`super::Pattern`]), and how many there are.
    pub const PATTERNS: usize = STEPS + 1;
    pub const PATTERN_COUNT: usize = PATTERNS + 1;
    /// Where the limits of the direction's rules begin (see [`crate::limit`]); 0 when none has one.
    pub const LIMITS: usize = PATTERN_COUNT + 1;
    /// How many constants there are.
    pub const COUNT: usize = LIMITS + 1;
}

/// A field of the packet that rules can look at; also the number of its table and rows.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Address ranges.
    Source = 0,
    Destination = 1,
    /// By family and protocol.
    Protocol = 2,
    /// By port, or [`NO_PORT`].
    DestinationPort = 3,
    SourcePort = 4,
    /// By the flags byte, or [`NO_FLAGS`].
    TcpFlags = 5,
    /// By family and type, or [`NO_ICMP`].
    IcmpType = 6,
    Vlan = 7,
    /// By interface slot.
    Interface = 8,
    /// By IP length.
    Length = 9,
    Ttl = 10,
    Fragment = 11,
    /// By the window as it stands in the header, [`NO_WINDOW`] or [`ANY_WINDOW`].
    TcpWindow = 12,
    /// By the patterns that the payload shows, a bit each, or [`ANY_PAYLOAD`].
    Payload = 13,
}
/// How many fields there are.
pub const FIELDS: usize = 14;

impl Field {
    /// Every field, in order.
    pub const ALL: [Self; FIELDS] = [
        Self::Source,
        Self::Destination,
        Self::Protocol,
        Self::DestinationPort,
        Self::SourcePort,
        Self::TcpFlags,
        Self::IcmpType,
        Self::Vlan,
        Self::Interface,
        Self::Length,
        Self::Ttl,
        Self::Fragment,
        Self::TcpWindow,
        Self::Payload,
    ];

    /// Number of values that the field's table has an entry for; 0 for the address fields.
    pub const fn values(self) -> usize {
        match self {
            Self::Source | Self::Destination => 0,
            Self::Protocol => 512,
            Self::DestinationPort | Self::SourcePort => NO_PORT as usize + 1,
            Self::TcpFlags => NO_FLAGS as usize + 1,
            Self::IcmpType => NO_ICMP as usize + 1,
            Self::Vlan => crate::packet::NO_VLAN as usize + 1,
            Self::Interface => crate::layout::INTERFACES as usize,
            Self::Length => 65_536,
            Self::Ttl => 256,
            Self::Fragment => 3,
            Self::TcpWindow => ANY_WINDOW as usize + 1,
            Self::Payload => ANY_PAYLOAD as usize + 1,
        }
    }
}

/// The port index of a packet without ports.
pub const NO_PORT: u32 = 65_536;
/// The flags index of a packet that is not TCP.
pub const NO_FLAGS: u32 = 256;
/// The type index of a packet that is not ICMP.
pub const NO_ICMP: u32 = 512;
/// The window index of a packet that is not TCP.
pub const NO_WINDOW: u32 = 65_536;
/// The window index, and the payload index, of a packet that was not seen, only the answer to it: the
/// rules that accept take it for one of theirs, the rules that drop do not.
pub const ANY_WINDOW: u32 = 65_537;
pub const ANY_PAYLOAD: u32 = 1 << MAX_PATTERNS;
/// Most different payload patterns of one direction.
pub const MAX_PATTERNS: u32 = 8;
/// Most bytes of a payload pattern.
pub const PATTERN_BYTES: usize = 16;
/// Farthest place in the payload where a pattern can begin.
pub const PATTERN_REACH: u16 = 1_400;

/// Most rules of one direction: what the verifier still follows to the end.
pub const MAX_RULES: usize = 4_096;
/// Most rules that may count one packet and go on.
pub const MAX_COUNTED: usize = 8;
/// Most steps of a search: a summary word, a word of rules, or a rule that does not decide. The
/// verifier follows as many as the policy's [`constant::STEPS`] says, so that a small policy loads
/// fast. The largest policy needs 65 for its words and 8 for rules that count; what is left is for
/// rules that expired since the policy was compiled, and more than 50 of those on one packet end the
/// search at the default.
pub const MAX_STEPS: u32 = 128;

/// Words of a [`Line`].
pub const LINE_WORDS: usize = 8;
/// Words of the image that stand in one cache line.
pub type Line = [u64; LINE_WORDS];

/// Reads the image.
pub trait Image {
    /// The line at `index`, counted in lines; `None` past the end.
    fn line(&self, index: u32) -> Option<&Line>;

    /// The word at `index`; 0 past the end.
    #[inline(always)]
    fn word(&self, index: u32) -> u64 {
        match self.line(index / LINE_WORDS as u32) {
            Some(line) => line[index as usize % LINE_WORDS],
            None => 0,
        }
    }
}

impl Image for &[u64] {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        self.get(index as usize * LINE_WORDS..)?.first_chunk()
    }

    #[inline(always)]
    fn word(&self, index: u32) -> u64 {
        self.get(index as usize).copied().unwrap_or(0)
    }
}

/// A rule's record: two words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its counter.
    pub counter: u32,
    /// See [`record`].
    pub flags: u32,
    /// CLOCK_MONOTONIC nanoseconds at which it stops being in force; `u64::MAX` never.
    pub expires: u64,
}

/// Flags of a [`Record`].
pub mod record {
    /// It drops; otherwise it accepts.
    pub const DROP: u32 = 1;
    /// It counts and goes on, because of its action or its mode.
    pub const COUNT: u32 = 2;
    /// Each match is worth an event.
    pub const LOG: u32 = 4;
}

/// Words of a record.
pub const RECORD_WORDS: u32 = 2;

impl Record {
    /// Reads record `index` of the records that begin at `base`.
    #[inline(always)]
    pub fn read<I: Image + ?Sized>(image: &I, base: u32, index: u32) -> Self {
        let head = image.word(base + index * RECORD_WORDS);
        let expires = image.word(base + index * RECORD_WORDS + 1);
        Self {
            counter: head as u32,
            flags: (head >> 32) as u32,
            expires,
        }
    }

    /// The words to store.
    pub const fn words(&self) -> [u64; RECORD_WORDS as usize] {
        [
            self.counter as u64 | (self.flags as u64) << 32,
            self.expires,
        ]
    }
}

/// Bytes to look for at one place of the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// Where they begin, counted from the payload's first byte; at most [`PATTERN_REACH`].
    pub offset: u16,
    /// How many there are, 1 to [`PATTERN_BYTES`]; all have to be there.
    pub length: u8,
    /// Their bits, big-endian, the first byte uppermost; 0 where the mask is.
    pub value: u128,
    /// The bits that matter.
    pub mask: u128,
}

/// Words of a pattern.
pub const PATTERN_WORDS: u32 = 5;
const OFFSET_BITS: u32 = 11;

impl Pattern {
    /// The words to store.
    pub const fn words(&self) -> [u64; PATTERN_WORDS as usize] {
        [
            self.offset as u64 | (self.length as u64 - 1) << OFFSET_BITS,
            (self.value >> 64) as u64,
            self.value as u64,
            (self.mask >> 64) as u64,
            self.mask as u64,
        ]
    }

    /// Place and length of pattern `index` of those that begin at `base`, within their bounds whatever
    /// the image holds.
    #[inline(always)]
    pub(crate) fn place<I: Image + ?Sized>(image: &I, base: u32, index: u32) -> (u32, u32) {
        let head = image.word(base + index * PATTERN_WORDS) as u32;
        let length = (head >> OFFSET_BITS) & (PATTERN_BYTES as u32 - 1);
        (head & ((1 << OFFSET_BITS) - 1), length + 1)
    }

    /// Whether pattern `index` is what stands there; `bytes` as [`Self::value`], in two halves.
    #[inline(always)]
    pub(crate) fn shows<I: Image + ?Sized>(
        image: &I,
        base: u32,
        index: u32,
        bytes: [u64; 2],
    ) -> bool {
        let at = base + index * PATTERN_WORDS;
        (bytes[0] & image.word(at + 3)) == image.word(at + 1)
            && (bytes[1] & image.word(at + 4)) == image.word(at + 2)
    }
}

/// Looks up a 16-bit entry of a table packed four to a word.
#[inline(always)]
pub fn packed<I: Image + ?Sized>(image: &I, table: u32, index: u32) -> u32 {
    (image.word(table + (index >> 2)) >> ((index & 3) * 16)) as u32 & 0xffff
}
