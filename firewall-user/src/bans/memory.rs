//! The memory of the bans: three arrays of words, mapped from the kernel's maps or anonymous.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;
use firewall_common::bans::{
    Bucket, BucketV4, BucketV6, FILTER_WORDS, HEADER_SEED, V4_BUCKETS, V6_BUCKETS,
};
use memmap2::MmapMut;

/// Words of a bucket.
const V4_WORDS: usize = size_of::<BucketV4>() / 8;
const V6_WORDS: usize = size_of::<BucketV6>() / 8;

/// Entries and bytes of each of one of the arrays.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub entries: u32,
    pub bytes: usize,
}

/// The arrays. Others may read them at any time, so every word is stored whole.
#[derive(Debug)]
pub struct Memory {
    filter: MmapMut,
    v4: MmapMut,
    v6: MmapMut,
}

impl Memory {
    pub const FILTER: Shape = Shape {
        entries: FILTER_WORDS,
        bytes: 8,
    };
    pub const V4: Shape = Shape {
        entries: V4_BUCKETS,
        bytes: size_of::<BucketV4>(),
    };
    pub const V6: Shape = Shape {
        entries: V6_BUCKETS,
        bytes: size_of::<BucketV6>(),
    };

    /// Memory of this process alone. Pages are taken as they are used.
    pub fn private() -> std::io::Result<Self> {
        Ok(Self {
            filter: MmapMut::map_anon(Self::FILTER.size())?,
            v4: MmapMut::map_anon(Self::V4.size())?,
            v6: MmapMut::map_anon(Self::V6.size())?,
        })
    }

    /// Memory that is shared already.
    pub fn shared(filter: MmapMut, v4: MmapMut, v6: MmapMut) -> anyhow::Result<Self> {
        ensure!(
            filter.len() >= Self::FILTER.size()
                && v4.len() >= Self::V4.size()
                && v6.len() >= Self::V6.size(),
            "the maps of the bans are too small"
        );
        Ok(Self { filter, v4, v6 })
    }

    pub(super) fn seed(&self) -> u64 {
        self.filter(HEADER_SEED)
    }

    /// Draws the seed unless there is one.
    pub(super) fn seed_with(&self, seed: impl FnOnce() -> u64) {
        if self.seed() == 0 {
            self.set_filter(HEADER_SEED, seed().max(1));
        }
    }

    #[inline]
    pub(super) fn filter(&self, word: u32) -> u64 {
        words(&self.filter)
            .get(word as usize)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    pub(super) fn set_filter(&self, word: u32, value: u64) {
        words(&self.filter)[word as usize].store(value, Ordering::Release);
    }

    #[inline]
    pub(super) fn bucket_v4(&self, bucket: u32) -> Option<BucketCopy> {
        BucketCopy::of(&self.v4, bucket, V4_WORDS)
    }

    #[inline]
    pub(super) fn bucket_v6(&self, bucket: u32) -> Option<BucketCopy> {
        BucketCopy::of(&self.v6, bucket, V6_WORDS)
    }

    /// The words of a bucket, to be written.
    pub(super) fn words_v4(&self, bucket: u32) -> &[AtomicU64] {
        &words(&self.v4)[bucket as usize * V4_WORDS..][..V4_WORDS]
    }

    pub(super) fn words_v6(&self, bucket: u32) -> &[AtomicU64] {
        &words(&self.v6)[bucket as usize * V6_WORDS..][..V6_WORDS]
    }
}

impl Shape {
    /// Bytes of the whole array.
    pub const fn size(self) -> usize {
        self.entries as usize * self.bytes
    }
}

/// A bucket as it was when it was read.
#[derive(Clone, Copy, Debug)]
pub struct BucketCopy([u64; V6_WORDS]);

impl BucketCopy {
    #[inline]
    fn of(memory: &MmapMut, bucket: u32, length: usize) -> Option<Self> {
        let from = bucket as usize * length;
        let found = words(memory).get(from..from + length)?;
        let mut line = [0; V6_WORDS];
        for (to, word) in line.iter_mut().zip(found) {
            *to = word.load(Ordering::Acquire);
        }
        Some(Self(line))
    }
}

impl Bucket for BucketCopy {
    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.0[index]
    }
}

#[expect(unsafe_code, reason = "memory shared with the kernel")]
fn words(memory: &MmapMut) -> &[AtomicU64] {
    // SAFETY: a mapping begins at a page, so it is aligned; any bytes are words; and everybody who
    // writes here writes whole words.
    unsafe { std::slice::from_raw_parts(memory.as_ptr().cast(), memory.len() / 8) }
}
