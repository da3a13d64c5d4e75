//! Where something came since the last look: what the words of the table's fronts say.
//!
//! A look asks a word of 4 bytes for each place, two of them at a time, instead of a cache line for each bucket. The packet path
//! writes the word of a source with each packet of it, and what it writes says that nobody has been told
//! ([`Front::TOLD`]); a look sets the bit, and reads the records afterwards. Should a packet come in between, the bit is gone
//! again, and the next look finds the place. It also finds it where the packet path wrote the whole word just when the bit was
//! set: a source is then looked at once too often, never once too little.

use std::sync::atomic::{AtomicU64, Ordering};

use firewall_common::layout::{SOURCE_WAYS, SourceFronts};
use firewall_common::sources::Front;
use memmap2::MmapMut;

/// Words in which something is looked for at once: a cache line.
const LINE: usize = 64 / size_of::<AtomicU64>();
/// A front and its neighbour in one word.
const BOTH: u64 = 1 << 32 | 1;
const TOLD: u64 = Front::TOLD as u64 * BOTH;
const TAKEN: u64 = Front::TAKEN as u64 * BOTH;
/// By how much a word is shifted for the one bit to stand where the other does.
const APART: u32 = TAKEN.trailing_zeros() - TOLD.trailing_zeros();

/// The fronts of all buckets, mapped. A place is the number of a bucket times [`SOURCE_WAYS`], and of its way.
pub(super) struct Fronts(MmapMut);

impl Fronts {
    pub(super) fn new(memory: MmapMut) -> Self {
        Self(memory)
    }

    /// Finds each place of whose source nobody was told since its latest packet, and notes that somebody is now.
    pub(super) fn tell(&self, mut place: impl FnMut(usize)) {
        for (line, words) in self.words().chunks(LINE).enumerate() {
            let any = words
                .iter()
                .fold(0, |any, word| any | untold(word.load(Ordering::Relaxed)));
            // Few are: a branch that is nearly never taken.
            if any & TOLD == 0 {
                continue;
            }
            for (index, word) in words.iter().enumerate() {
                let found = untold(word.load(Ordering::Relaxed)) & TOLD;
                if found == 0 {
                    continue;
                }
                // Before the records are read, so that no packet is missed that is counted later.
                word.fetch_or(found, Ordering::AcqRel);
                let first = (line * LINE + index) * 2;
                for (way, is_found) in halves(found).into_iter().enumerate() {
                    if is_found != 0 {
                        place(first + way);
                    }
                }
            }
        }
    }

    /// Whether the place has a source, and somebody was told of its latest packet.
    pub(super) fn is_told(&self, place: usize) -> bool {
        let word = self.words()[place / 2].load(Ordering::Relaxed);
        halves(word)[place % 2] & Front::TOLD != 0
    }

    /// Makes a place nobody's.
    #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
    pub(super) fn empty(&mut self, bucket: usize, way: usize) {
        let offset = bucket * size_of::<SourceFronts>();
        let bytes = &mut self.0[offset..offset + size_of::<SourceFronts>()];
        // SAFETY: the slice has the size of the fronts of a bucket; `way` is less than `SOURCE_WAYS`, or the index
        // panics.
        unsafe {
            let fronts = bytes.as_mut_ptr().cast::<SourceFronts>();
            (&raw mut (*fronts).words[way]).write_volatile(0);
        }
    }

    /// All fronts, two in each word.
    #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
    fn words(&self) -> &[AtomicU64] {
        let length = self.0.len() / size_of::<AtomicU64>();
        // SAFETY: memory that was mapped is aligned to pages, and any bytes are such words. The kernel writes halves of
        // them meanwhile; here nobody else does, as that takes the table for itself.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), length) }
    }

    #[cfg(test)]
    pub(super) fn as_mut_ptr(&mut self) -> *mut SourceFronts {
        self.0.as_mut_ptr().cast()
    }
}

/// Where the bit of those stands that are taken and untold; other bits say nothing.
#[inline(always)]
const fn untold(word: u64) -> u64 {
    word >> APART & !word
}

/// The fronts of a word, in the order of their places.
fn halves(word: u64) -> [u32; 2] {
    let bytes = word.to_ne_bytes();
    let half =
        |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [half(0), half(4)]
}

const _: () = assert!(TAKEN > TOLD && size_of::<SourceFronts>() == SOURCE_WAYS * 4);
