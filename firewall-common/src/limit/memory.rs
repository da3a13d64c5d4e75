//! The table in user space's memory.

extern crate alloc;

use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use super::table::{Line, WAYS, line_index};
use crate::layout::LIMIT_LINES;

/// As large as the kernel's, so that both displace alike.
pub struct LimitTable {
    lines: Box<[MemoryLine]>,
}

/// A line in memory: key and time in turn.
#[derive(Default)]
pub struct MemoryLine([[AtomicU64; 2]; WAYS]);

impl LimitTable {
    /// The line that a key belongs to.
    #[inline]
    pub fn line(&self, key: u64) -> &MemoryLine {
        // The index is below the number of lines.
        &self.lines[line_index(key, LIMIT_LINES) as usize]
    }
}

impl Default for LimitTable {
    fn default() -> Self {
        Self {
            lines: (0..LIMIT_LINES).map(|_| MemoryLine::default()).collect(),
        }
    }
}

impl fmt::Debug for LimitTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LimitTable").finish_non_exhaustive()
    }
}

impl Line for &MemoryLine {
    #[inline]
    fn key(&self, way: usize) -> u64 {
        self.0[way][0].load(Ordering::Relaxed)
    }

    #[inline]
    fn full(&self, way: usize) -> u64 {
        self.0[way][1].load(Ordering::Relaxed)
    }

    #[inline]
    fn exchange_key(&self, way: usize, old: u64, new: u64) -> u64 {
        exchange(&self.0[way][0], old, new)
    }

    #[inline]
    fn exchange_full(&self, way: usize, old: u64, new: u64) -> u64 {
        exchange(&self.0[way][1], old, new)
    }

    #[inline]
    fn add_full(&self, way: usize, more: u64) {
        self.0[way][1].fetch_add(more, Ordering::Relaxed);
    }
}

fn exchange(word: &AtomicU64, old: u64, new: u64) -> u64 {
    match word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed) {
        Ok(found) | Err(found) => found,
    }
}
