//! Writes the exact tables. See `firewall_common::bans` for what readers rely on.

use std::sync::atomic::{AtomicU64, Ordering};

use firewall_common::Address;
use firewall_common::bans::{
    EntryV4, EntryV6, FOREVER, LIMITED, TICK, V4_BUCKETS, V4_WAYS, V6_BUCKETS, V6_ENTRY, V6_WAYS,
};
use firewall_common::layout::BanKey;

use super::memory::Memory;
use super::{Refused, v4_length};

/// A place for a ban of either family.
pub(super) enum Place<'m> {
    V4(&'m AtomicU64),
    V6(&'m [AtomicU64]),
}

/// Buckets of one family.
#[derive(Clone, Copy)]
pub(super) enum Family {
    V4,
    V6,
}

/// Gives a ban another end; false if there is no such ban.
pub(super) fn change(memory: &Memory, key: &BanKey, end: u64) -> bool {
    match find(memory, key) {
        Some(place) => {
            place.write(key, end);
            true
        }
        None => false,
    }
}

/// Removes a ban; whether there was one.
pub(super) fn remove(memory: &Memory, key: &BanKey) -> bool {
    match find(memory, key) {
        Some(place) => {
            place.clear();
            true
        }
        None => false,
    }
}

/// Writes a ban that is not there yet.
pub(super) fn insert(memory: &Memory, key: &BanKey, end: u64) -> Result<(), Refused> {
    let family = Family::of(key);
    let (first, second) = family.buckets(memory, key);
    let free = |bucket| {
        family
            .places(memory, bucket)
            .filter(Place::is_empty)
            .count()
    };
    // The emptier of the two keeps the fullest from filling up (Azar and others, "Balanced
    // allocations", 1994).
    let (better, other) = if free(second) > free(first) {
        (second, first)
    } else {
        (first, second)
    };
    for bucket in [better, other] {
        if let Some(place) = family.places(memory, bucket).find(Place::is_empty) {
            place.write(key, end);
            return Ok(());
        }
    }
    for bucket in [first, second] {
        if let Some(place) = make_room(memory, family, bucket, MOVES) {
            place.write(key, end);
            return Ok(());
        }
    }
    Err(Refused::Full)
}

/// How many bans may move to make room for one.
const MOVES: u32 = 4;

/// Moves a ban out of a full bucket: one that has its first bucket here and room in its second, or
/// whose second can be made room in the same way. Never from the second to the first, so that a reader who looks in
/// the first and then in the second meets it.
pub(super) fn make_room(
    memory: &Memory,
    family: Family,
    bucket: u32,
    moves: u32,
) -> Option<Place<'_>> {
    for moves in 0..moves {
        for place in family.places(memory, bucket) {
            let Some((key, end)) = place.read() else {
                return Some(place);
            };
            let (first, second) = family.buckets(memory, &key);
            if first != bucket {
                continue;
            }
            let free = family.places(memory, second).find(Place::is_empty);
            if let Some(free) = free.or_else(|| make_room(memory, family, second, moves)) {
                free.write(&key, end);
                place.clear();
                return Some(place);
            }
        }
    }
    None
}

/// Clears the second copy of a ban that a writer was moving when it died.
pub(super) fn mend(memory: &Memory) {
    for (family, bucket) in used_buckets(memory) {
        for place in family.places(memory, bucket) {
            let Some((key, _)) = place.read() else {
                continue;
            };
            let (first, second) = family.buckets(memory, &key);
            let doubled =
                bucket == second && family.places(memory, first).any(|other| other.holds(&key));
            // In neither of its buckets nobody finds it: another layout's, or damage.
            if doubled || (bucket != first && bucket != second) {
                place.clear();
            }
        }
    }
}

/// Every ban with its end in nanoseconds.
pub(super) fn all(memory: &Memory) -> impl Iterator<Item = (BanKey, u64)> {
    used_buckets(memory)
        .flat_map(|(family, bucket)| family.places(memory, bucket))
        .filter_map(|place| place.read())
        .map(|(mut key, end)| {
            key.limited = u32::from(end & LIMITED != 0);
            let tick = end & FOREVER;
            let until = if tick == FOREVER {
                u64::MAX
            } else {
                tick << TICK
            };
            (key, until)
        })
}

/// All buckets but those that were never written to: most, and a start looks through all.
fn used_buckets(memory: &Memory) -> impl Iterator<Item = (Family, u32)> {
    let used = |words: &[AtomicU64]| {
        let or = |sum, word: &AtomicU64| sum | word.load(Ordering::Relaxed);
        words.iter().fold(0, or) != 0
    };
    let v4 = (0..V4_BUCKETS)
        .filter(move |bucket| used(memory.words_v4(*bucket)))
        .map(|bucket| (Family::V4, bucket));
    let v6 = (0..V6_BUCKETS)
        .filter(move |bucket| used(memory.words_v6(*bucket)))
        .map(|bucket| (Family::V6, bucket));
    v4.chain(v6)
}

fn find<'m>(memory: &'m Memory, key: &BanKey) -> Option<Place<'m>> {
    let family = Family::of(key);
    let (first, second) = family.buckets(memory, key);
    [first, second]
        .into_iter()
        .find_map(|bucket| family.places(memory, bucket).find(|place| place.holds(key)))
}

impl Family {
    fn of(key: &BanKey) -> Self {
        match v4_length(key) {
            Some(_) => Self::V4,
            None => Self::V6,
        }
    }

    fn buckets(self, memory: &Memory, key: &BanKey) -> (u32, u32) {
        match v4_length(key) {
            Some(length) => EntryV4::key(key.address.as_v4(), length).buckets(memory.seed()),
            None => EntryV6::buckets(key, memory.seed()),
        }
    }

    fn places(self, memory: &Memory, bucket: u32) -> impl Iterator<Item = Place<'_>> {
        let (words, ways, size) = match self {
            Self::V4 => (memory.words_v4(bucket), V4_WAYS, 1),
            Self::V6 => (memory.words_v6(bucket), V6_WAYS, V6_ENTRY),
        };
        words
            .chunks_exact(size)
            .take(ways)
            .map(move |words| match self {
                Self::V4 => Place::V4(&words[0]),
                Self::V6 => Place::V6(words),
            })
    }
}

impl Place<'_> {
    fn is_empty(&self) -> bool {
        let last = match self {
            Self::V4(word) => word,
            Self::V6(words) => &words[V6_ENTRY - 1],
        };
        last.load(Ordering::Relaxed) == 0
    }

    /// Whether this very prefix's ban stands here.
    fn holds(&self, key: &BanKey) -> bool {
        match (self, v4_length(key)) {
            (Self::V4(word), Some(length)) => EntryV4(word.load(Ordering::Relaxed))
                .is_of(EntryV4::key(key.address.as_v4(), length)),
            (Self::V6(words), None) => {
                let word = |index: usize| words[index].load(Ordering::Relaxed);
                word(0) == key.address.high
                    && word(1) == key.address.low
                    && EntryV6(word(2)).length() == key.length
            }
            _ => false,
        }
    }

    /// The ban that stands here, with its end.
    fn read(&self) -> Option<(BanKey, u64)> {
        if self.is_empty() {
            return None;
        }
        Some(match self {
            Self::V4(word) => {
                let entry = EntryV4(word.load(Ordering::Relaxed));
                let (address, length) = entry.prefix();
                (BanKey::new(Address::v4(address), 96 + length), entry.end())
            }
            Self::V6(words) => {
                let word = |index: usize| words[index].load(Ordering::Relaxed);
                let entry = EntryV6(word(2));
                let address = Address::v6(word(0), word(1));
                (BanKey::new(address, entry.length()), entry.end())
            }
        })
    }

    /// Writes a ban here; what says that there is one comes last.
    fn write(&self, key: &BanKey, end: u64) {
        match (self, v4_length(key)) {
            (Self::V4(word), Some(length)) => {
                let entry = EntryV4::key(key.address.as_v4(), length).until(end);
                word.store(entry.0, Ordering::Release);
            }
            (Self::V6(words), None) => {
                words[0].store(key.address.high, Ordering::Release);
                words[1].store(key.address.low, Ordering::Release);
                words[2].store(EntryV6::new(key.length, end).0, Ordering::Release);
            }
            _ => unreachable!("a place is chosen by the key's family"),
        }
    }

    fn clear(&self) {
        let last = match self {
            Self::V4(word) => word,
            Self::V6(words) => &words[V6_ENTRY - 1],
        };
        last.store(0, Ordering::Release);
    }
}
