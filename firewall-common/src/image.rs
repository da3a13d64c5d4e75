//! The compiled policy: one flat array of 64-bit words, read the same way by the kernel program
//! and the host engine, and the constants that say where its parts begin.
//!
//! A rule set is classified in three moves (equivalenced cross-producting, Gupta and McKeown 1999,
//! "RFC", with the sparse tables kept small by sharing equal pages):
//!
//! 1. each field of the packet gives a class: values that no rule tells apart are one;
//! 2. the classes of all fields but the addresses are combined to one, the *tail*, in as few steps as are small;
//!    the classes of source and destination select a *list*, the rules that these addresses can meet;
//! 3. list and tail give the first rule, or the chain of rules when some count and go on.
//!
//! How many rules there are changes what the tables hold, not how many are read. Rules of which
//! one side accepts (nearly) every address make lists long and many; where that would take too much
//! memory, the rules are parted into up to [`GROUPS`] groups, each with lists of its own, and the
//! lowest rule of all groups decides.
//!
//!
//! A rule set whose conditions combine in too many ways for that is a bit matrix instead: each class of
//! each field has a row, whose bit `i` says whether rule `i` accepts it; the AND of the selected rows
//! are the rules that match, and the lowest bit is the first of them. Above 64 rules each row begins
//! with a summary, a bit for each of its words that is not zero, so that whole words are passed over
//! (Lakshman and Stiliadis 1998; the summary is Baboescu and Varghese 2001).
//!
//! Addresses select their class by the range they fall in ([`crate::address_table`]).

pub use crate::address_table::{row_v4, row_v6};
use crate::layout::NO_RULE;

/// Constants of one direction's rule set. A place is an index into the image.
pub mod constant {
    /// Number of rules; 0 leaves the whole classification out.
    pub const RULES: usize = 0;
    /// Where the rule records begin.
    pub const RECORDS: usize = 1;
    /// 1 where no rule matches means drop.
    pub const DEFAULT_DROP: usize = 2;
    /// 1 when defaults, bans and malformed packets are only counted.
    pub const OBSERVE: usize = 3;
    /// 1 when a rule may match without deciding: results are chains of rules.
    pub const CHAINS: usize = 4;
    /// How many groups the rules are parted into.
    pub const GROUPS: usize = 5;
    /// Where each field's table of classes begins (see [`super::Field`]); 0 when no rule looks at the
    /// field.
    pub const TABLES: usize = 6;
    /// Where the IPv6 table of the source, destination and protected addresses begins.
    pub const SOURCE_V6: usize = TABLES + super::FIELDS;
    pub const DESTINATION_V6: usize = SOURCE_V6 + 1;
    /// Addresses that bans spare: IPv4 and IPv6 table, 0 when there are none.
    pub const PROTECTED_V4: usize = DESTINATION_V6 + 1;
    pub const PROTECTED_V6: usize = PROTECTED_V4 + 1;
    /// A word per class of the source or destination: its class in each group, 16 bits each; 0 when
    /// all groups have the same classes, which these are.
    pub const SOURCE_CLASSES: usize = PROTECTED_V6 + 1;
    pub const DESTINATION_CLASSES: usize = SOURCE_CLASSES + 1;
    /// The rules of classes of the source that decide alone, an [`super::outcome`] each; 0 when there are
    /// none.
    pub const SHORTCUTS: usize = DESTINATION_CLASSES + 1;
    /// The first of these classes; those after it do so too.
    pub const FIRST_SHORTCUT: usize = SHORTCUTS + 1;
    /// The fields that make the tail, in the order of their combination: number plus 1, 0 at the end.
    pub const ORDER: usize = FIRST_SHORTCUT + 1;
    /// The planes that combine the tail so far with the next field (see [`super::Plane`]); that of
    /// the first field is not used. Without a table, nothing is looked up: tail and field together are row of
    /// the next plane.
    pub const COMBINE: usize = ORDER + super::FIELDS;
    /// The groups (see [`group`]).
    pub const GROUP: usize = COMBINE + super::FIELDS * super::PLANE_CONSTANTS;
    /// Where the payload patterns begin (see [`super::Pattern`]), and how many there are.
    pub const PATTERNS: usize = GROUP + super::GROUPS * group::COUNT;
    pub const PATTERN_COUNT: usize = PATTERNS + 1;
    /// Of a bit matrix: words of rule bits in a row; 0 when the rules are classified.
    pub const WORDS: usize = PATTERN_COUNT + 1;
    /// Words of summary before them; 0 when there is one word only.
    pub const SUMMARIES: usize = WORDS + 1;
    /// Where each field's rows begin.
    pub const ROWS: usize = SUMMARIES + 1;
    /// Steps that the search for the first match takes at most (see [`super::MAX_STEPS`]).
    pub const STEPS: usize = ROWS + super::FIELDS;
    /// Where the limits of the direction's rules begin (see [`crate::limit`]); 0 when none has one.
    pub const LIMITS: usize = STEPS + 1;
    /// 1 when a rule looks at TCP flags, and at ICMP types (see [`super::Field::Protocol`]).
    pub const LOOKS_AT_FLAGS: usize = LIMITS + 1;
    pub const LOOKS_AT_TYPES: usize = LOOKS_AT_FLAGS + 1;
    /// How many constants there are.
    pub const COUNT: usize = LOOKS_AT_TYPES + 1;

    /// Constants of one group.
    pub mod group {
        /// The plane of source and destination classes, whose cells are lists (see
        /// [`super::super::list`]).
        pub const LISTS: usize = 0;
        /// The only list, when the group has no such plane: its lower and its upper half.
        pub const LIST: usize = LISTS + super::super::PLANE_CONSTANTS;
        /// 1 when results are positions in the list, which shares the row of results with others under
        /// the same conditions.
        pub const NAMED: usize = LIST + 2;
        /// 1 when a row of results is paged.
        pub const PAGED: usize = NAMED + 1;
        /// Where the group's chains begin.
        pub const CHAINS: usize = PAGED + 1;
        pub const COUNT: usize = CHAINS + 1;
    }
}

/// Most groups that rules are parted into.
pub const GROUPS: usize = 4;

/// A field of the packet that rules can look at; also the number of its table and rows.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Address ranges.
    Source = 0,
    Destination = 1,
    /// By family and protocol; a TCP header by family and flags ([`TCP_FLAGS`]) and an ICMP message by family and
    /// type ([`ICMP_TYPES`]), where rules look at them: no packet has both, so one look serves for all three.
    Protocol = 2,
    /// By port, or [`NO_PORT`].
    DestinationPort = 3,
    SourcePort = 4,
    Vlan = 5,
    /// By interface slot.
    Interface = 6,
    /// By IP length.
    Length = 7,
    Ttl = 8,
    Fragment = 9,
    /// By the window as it stands in the header, [`NO_WINDOW`] or [`ANY_WINDOW`].
    TcpWindow = 10,
    /// By the patterns that the payload shows, a bit each, or [`ANY_PAYLOAD`].
    Payload = 11,
}
/// How many fields there are.
pub const FIELDS: usize = 12;

impl Field {
    /// Every field, in order.
    pub const ALL: [Self; FIELDS] = [
        Self::Source,
        Self::Destination,
        Self::Protocol,
        Self::DestinationPort,
        Self::SourcePort,
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
            Self::Protocol => (ICMP_TYPES + NO_ICMP) as usize,
            Self::DestinationPort | Self::SourcePort => NO_PORT as usize + 1,
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

/// Where the protocol indexes of TCP headers begin: bit 8 is the family, below it are the flags.
pub const TCP_FLAGS: u32 = 512;
/// Where those of ICMP messages begin: bit 8 is the family, below it is the type.
pub const ICMP_TYPES: u32 = 1_024;
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

/// Most rules of one direction.
pub const MAX_RULES: usize = 16_384;
/// Most rules of a bit matrix: what the verifier still follows to the end.
pub const MATRIX_RULES: usize = 4_096;
/// Most rules of a chain: those that count and go on, those that may have expired since the policy
/// was compiled, and the one that decides.
pub const MAX_CHAIN: u32 = 64;
/// Most rules that may count one packet and go on.
pub const MAX_COUNTED: usize = 8;
/// Most steps of a search in a bit matrix: a summary word, a word of rules, or a rule that does not decide. The
/// verifier follows as many as the policy's [`constant::STEPS`] says, so that a small policy loads
/// fast. The largest policy needs 65 for its words and 8 for rules that count; what is left is for
/// rules that expired since the policy was compiled, and more than 50 of those on one packet end the
/// search at the default.
pub const MAX_STEPS: u32 = 128;

/// Words of a [`Line`].
pub const LINE_WORDS: usize = 8;
/// Words of the image that stand in one cache line.
pub type Line = [u64; LINE_WORDS];
/// Words of the kernel programs' image as they are compiled. It says nothing: the loader puts the
/// length of the policy in its place, where the build script finds this number.
pub const UNSET_WORDS: usize = 30_000_001;

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
    /// No rule at all. (An `Option` would leave its insides undefined, which the verifier does not
    /// allow to be as much as moved.)
    pub const NONE: Self = Self {
        counter: NO_RULE,
        flags: 0,
        expires: 0,
    };

    /// Whether there is a rule.
    #[inline(always)]
    pub const fn is_some(&self) -> bool {
        self.counter != NO_RULE
    }

    /// Whether it does not count and go on.
    #[inline(always)]
    pub const fn decides(&self) -> bool {
        self.flags & record::COUNT == 0
    }

    /// Whether there is a rule that lets packets pass.
    #[inline(always)]
    pub const fn accepts(&self) -> bool {
        self.is_some() && self.flags & record::DROP == 0
    }

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

    /// The record of a rule that decides for good.
    #[inline(always)]
    pub const fn of_outcome(outcome: u32) -> Self {
        if outcome == outcome::NONE {
            return Self::NONE;
        }
        let mut flags = 0;
        if outcome & outcome::DROP != 0 {
            flags |= record::DROP;
        }
        if outcome & outcome::LOG != 0 {
            flags |= record::LOG;
        }
        Self {
            counter: outcome & ((1 << outcome::COUNTER_BITS) - 1),
            flags,
            expires: u64::MAX,
        }
    }

    /// The rule as [`outcome`]; `rule` is its number.
    pub const fn outcome(&self, rule: u32) -> u32 {
        let mut outcome = rule << outcome::RULE_SHIFT | self.counter;
        if self.flags & record::DROP != 0 {
            outcome |= outcome::DROP;
        }
        if self.flags & record::LOG != 0 {
            outcome |= outcome::LOG;
        }
        outcome
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

/// Looks up a 32-bit entry of a table packed two to a word.
#[inline(always)]
pub fn packed_wide<I: Image + ?Sized>(image: &I, table: u32, index: u32) -> u32 {
    (image.word(table + (index >> 1)) >> ((index & 1) * 32)) as u32
}

/// A table of two indexes, row and column. Kept whole, a row follows the other; paged, each row is
/// cut into pages of [`PAGE`] cells, equal pages are stored once, and a row is the list of its pages'
/// places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plane {
    /// Where its cells, or the places of its pages, begin; 0 when there is no plane.
    pub table: u32,
    /// Cells of a row, or pages when paged.
    pub width: u32,
    pub paged: bool,
}

/// Constants of a plane: table, width and whether it is paged.
pub const PLANE_CONSTANTS: usize = 3;
/// Cells of a page.
pub const PAGE: u32 = 64;

impl Plane {
    /// Its constants.
    pub const fn constants(self) -> [u32; PLANE_CONSTANTS] {
        [self.table, self.width, self.paged as u32]
    }

    /// A cell of 16 bits.
    #[inline(always)]
    pub fn cell<I: Image + ?Sized>(self, image: &I, row: u32, column: u32) -> u32 {
        if self.paged {
            let page = packed_wide(image, self.table, row * self.width + column / PAGE);
            packed(image, page, column % PAGE)
        } else {
            packed(image, self.table, row * self.width + column)
        }
    }

    /// A cell of 64 bits.
    #[inline(always)]
    pub fn whole_cell<I: Image + ?Sized>(self, image: &I, row: u32, column: u32) -> u64 {
        if self.paged {
            let page = packed_wide(image, self.table, row * self.width + column / PAGE);
            image.word(page + column % PAGE)
        } else {
            image.word(self.table + row * self.width + column)
        }
    }
}

/// The rules that a source and a destination can meet, as the cell for the two says.
///
/// The lower half is where the list's row of results by tail begins; the upper half is where its rules
/// stand, the first of them first, for results that are positions among them. As most lists are short, the cell itself often
/// says what is to be found there.
pub mod list {
    /// In the lower half: whatever the row names is the rule in the upper half.
    pub const SINGLE: u32 = 1 << 31;
    /// The lower half where nothing depends on the tail: the upper half decides.
    pub const NO_ROW: u32 = 0;
}

/// A rule that decides, as the tables name it: its counter (15 bits), whether it drops, whether it asks
/// for an event, and its number in the order of the rules. So the lowest is the first, and no record
/// has to be read.
pub mod outcome {
    /// No rule.
    pub const NONE: u32 = u32::MAX;
    pub(super) const COUNTER_BITS: u32 = 15;
    pub(super) const DROP: u32 = 1 << COUNTER_BITS;
    pub(super) const LOG: u32 = 1 << (COUNTER_BITS + 1);
    pub(super) const RULE_SHIFT: u32 = COUNTER_BITS + 2;
}

const _: () = {
    assert!(crate::layout::RULE_COUNTERS == 1 << outcome::COUNTER_BITS);
    assert!(MAX_RULES << outcome::RULE_SHIFT <= 1 << 31);
};

/// What a row of results holds by tail, 16 bits each.
///
/// Where every rule decides, a result is an [`outcome`], in 32 bits, or the position of one in the
/// list. Where some rules count and go on, or may expire, it is the place of a chain: a sequence of
/// rules or of positions, 16 bits each, up to [`result::NONE`], counted in words from the beginning of
/// the group's chains; the lists then hold the numbers of their rules, 16 bits each. A paged row is a
/// list of its pages' places.
pub mod result {
    /// No rule; the end of a chain.
    pub const NONE: u32 = 0xffff;
}
