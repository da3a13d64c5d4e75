//! A line of the table of limits, changed by all CPUs at once.
//!
//! Rust has no atomics on this target; the instructions are there (Linux 5.12).

use core::arch::asm;

use firewall_common::layout::LimitLine;
use firewall_common::limit::table::{Line, WAYS};

/// A line in the map's memory.
#[derive(Clone, Copy)]
pub struct LinePointer(*mut u64);

impl LinePointer {
    /// The line that a lookup gave.
    #[inline(always)]
    pub fn new(line: *mut LimitLine) -> Self {
        Self(line.cast())
    }

    #[inline(always)]
    fn key_word(&self, way: usize) -> *mut u64 {
        // SAFETY: a line has WAYS pairs of words, and the mask keeps within them.
        unsafe { self.0.add((way & (WAYS - 1)) * 2) }
    }

    #[inline(always)]
    fn full_word(&self, way: usize) -> *mut u64 {
        // SAFETY: as above.
        unsafe { self.0.add((way & (WAYS - 1)) * 2 + 1) }
    }
}

impl Line for LinePointer {
    #[inline(always)]
    fn key(&self, way: usize) -> u64 {
        // SAFETY: an aligned word of the line; another CPU may write it, whole.
        unsafe { self.key_word(way).read_volatile() }
    }

    #[inline(always)]
    fn full(&self, way: usize) -> u64 {
        // SAFETY: as above.
        unsafe { self.full_word(way).read_volatile() }
    }

    #[inline(always)]
    fn exchange_key(&self, way: usize, old: u64, new: u64) -> u64 {
        exchange(self.key_word(way), old, new)
    }

    #[inline(always)]
    fn exchange_full(&self, way: usize, old: u64, new: u64) -> u64 {
        exchange(self.full_word(way), old, new)
    }

    #[inline(always)]
    fn add_full(&self, way: usize, more: u64) {
        let word = self.full_word(way);
        // SAFETY: an aligned word of the line.
        unsafe {
            asm!(
                "{more} = atomic_fetch_add((u64 *)({word} + 0), {more})",
                word = in(reg) word,
                more = inout(reg) more => _,
                options(nostack)
            );
        }
    }
}

/// Stores `new` if the word is `old`; gives what was found.
#[inline(always)]
fn exchange(word: *mut u64, old: u64, new: u64) -> u64 {
    let found;
    // SAFETY: an aligned word of a line.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inout("r0") old => found,
            options(nostack)
        );
    }
    found
}
