//! A model of a processor's nearer caches: how many of the lines that a program touches are not in them. A
//! virtual machine often has no counters of its processor to ask.
//!
//! Both caches are set-associative, keep the lines that were touched last (LRU), and are filled by what is
//! touched and by nothing else: no prefetching, nobody else on the processor. A line's place follows from its
//! physical address, so each page of 4 KiB stands somewhere, as it does in a kernel's memory.

use std::fs;
use std::path::Path;

/// Bytes of a line.
pub const LINE: usize = 64;
const LINES_OF_PAGE: u64 = 4_096 / LINE as u64;

/// How large a cache is, in bytes, and how many lines may stand in one place of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub bytes: usize,
    pub ways: usize,
}

impl Shape {
    /// The first CPU's cache for data of this level, if the kernel tells of one with lines of [`LINE`] bytes.
    pub fn of_this_machine(level: u32) -> Option<Self> {
        (0..8).find_map(|index| {
            let folder = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
            Self::read(Path::new(&folder), level)
        })
    }

    fn read(folder: &Path, level: u32) -> Option<Self> {
        let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let number = |name: &str| text(name)?.trim().parse::<usize>().ok();
        if number("level")? != level as usize
            || text("type")?.trim() == "Instruction"
            || number("coherency_line_size")? != LINE
        {
            return None;
        }
        let ways = number("ways_of_associativity")?;
        let bytes = number("number_of_sets")? * ways * LINE;
        (bytes > 0).then_some(Self { bytes, ways })
    }
}

/// One cache.
#[derive(Clone, Debug)]
struct Cache {
    ways: usize,
    /// Set by set, in each the line that was touched last first.
    lines: Vec<Option<u64>>,
}

impl Cache {
    fn new(shape: Shape) -> Self {
        let sets = (shape.bytes / LINE / shape.ways.max(1)).max(1);
        Self {
            ways: shape.ways.max(1),
            lines: vec![None; sets * shape.ways.max(1)],
        }
    }

    fn set(&mut self, line: u64) -> &mut [Option<u64>] {
        let sets = (self.lines.len() / self.ways) as u64;
        let first = (line % sets) as usize * self.ways;
        &mut self.lines[first..first + self.ways]
    }

    /// Touches a line; whether it was there.
    fn touch(&mut self, line: u64) -> bool {
        let set = self.set(line);
        let found = set.iter().position(|&held| held == Some(line));
        // What gives way is an empty place or, at the end, the line that was not touched for longest.
        let empty = || set.iter().position(Option::is_none);
        let at = found.or_else(empty).unwrap_or(set.len() - 1);
        set[at] = Some(line);
        set[..=at].rotate_right(1);
        found.is_some()
    }

    fn forget(&mut self, line: u64) {
        for held in self.set(line) {
            if *held == Some(line) {
                *held = None;
            }
        }
    }
}

/// Two levels of cache, one behind the other.
#[derive(Clone, Debug)]
pub struct Caches {
    levels: [Cache; 2],
    /// Touches that a level did not have.
    pub misses: [u64; 2],
}

impl Caches {
    /// Empty caches.
    pub fn new(shapes: [Shape; 2]) -> Self {
        Self {
            levels: shapes.map(Cache::new),
            misses: [0; 2],
        }
    }

    /// Those of this machine, if the kernel tells how large they are.
    pub fn of_this_machine() -> Option<Self> {
        Some(Self::new([
            Shape::of_this_machine(1)?,
            Shape::of_this_machine(2)?,
        ]))
    }

    /// Reads or writes a line.
    pub fn touch(&mut self, line: u64) {
        let line = physical(line);
        for (level, misses) in self.levels.iter_mut().zip(&mut self.misses) {
            if level.touch(line) {
                return;
            }
            *misses += 1;
        }
    }

    /// A device writes the line in memory: what the caches have of it is void.
    pub fn overwrite(&mut self, line: u64) {
        let line = physical(line);
        for level in &mut self.levels {
            level.forget(line);
        }
    }
}

/// The line's place in physical memory: pages stand as if at random (the finaliser of Steele, Lea and Flood
/// 2014, "SplitMix", which gives no two pages the same place).
fn physical(line: u64) -> u64 {
    let page = line / LINES_OF_PAGE;
    let page = (page ^ page >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let page = (page ^ page >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    let page = (page ^ page >> 31) & (u64::MAX / LINES_OF_PAGE);
    page * LINES_OF_PAGE + line % LINES_OF_PAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Shape = Shape {
        bytes: 4 * 2 * LINE,
        ways: 2,
    };
    const LARGE: Shape = Shape {
        bytes: 8 * 4 * LINE,
        ways: 4,
    };

    #[test]
    fn of_lines_in_one_place_those_stay_that_were_touched_last() {
        let mut cache = Cache::new(SMALL);
        // Four sets: these stand in the first.
        assert!(!cache.touch(0));
        assert!(!cache.touch(4));
        assert!(cache.touch(0));
        assert!(!cache.touch(8), "a third line");
        assert!(cache.touch(0), "touched before the last");
        assert!(!cache.touch(4), "it gave way");
        // Another set is not concerned.
        assert!(!cache.touch(1));
        assert!(cache.touch(0));
    }

    #[test]
    fn a_line_that_was_overwritten_is_gone_and_its_place_is_taken_first() {
        let mut cache = Cache::new(SMALL);
        cache.touch(0);
        cache.touch(4);
        cache.forget(4);
        assert!(!cache.touch(8));
        assert!(cache.touch(0), "nothing had to give way");
        assert!(!cache.touch(4));
    }

    #[test]
    fn the_second_level_is_asked_for_what_the_first_has_not() {
        let mut caches = Caches::new([SMALL, LARGE]);
        // As many lines of one page as the first level holds, and as many again.
        for line in 0..16 {
            caches.touch(line);
        }
        assert_eq!(caches.misses, [16, 16]);
        for line in 0..16 {
            caches.touch(line);
        }
        assert_eq!(caches.misses, [32, 16]);
        caches.touch(15);
        assert_eq!(caches.misses, [32, 16]);
        caches.overwrite(15);
        caches.touch(15);
        assert_eq!(caches.misses, [33, 17]);
    }

    #[test]
    fn lines_that_fit_are_missed_once_and_twice_as_many_often() {
        let shapes = [
            Shape {
                bytes: 48 << 10,
                ways: 12,
            },
            Shape {
                bytes: 1 << 20,
                ways: 16,
            },
        ];
        let rounds = |lines: u64| {
            let mut caches = Caches::new(shapes);
            for _ in 0..4 {
                (0..lines).for_each(|line| caches.touch(line));
            }
            caches.misses[1]
        };
        let capacity = (1 << 20) / LINE as u64;
        // Half of the second level, though its pages are not spread evenly over it.
        assert!(rounds(capacity / 2) < capacity / 2 * 11 / 10);
        assert!(rounds(capacity * 2) > capacity * 2 * 3);
    }

    #[test]
    fn no_two_lines_stand_in_the_same_place() {
        let mut places: Vec<u64> = (0..1 << 16).map(physical).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 1 << 16);
    }

    #[test]
    fn a_cache_is_read_as_the_kernel_tells_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        for (name, text) in [
            ("level", "2\n"),
            ("type", "Unified\n"),
            ("coherency_line_size", "64\n"),
            ("ways_of_associativity", "16\n"),
            ("number_of_sets", "1024\n"),
        ] {
            write(name, text);
        }
        let read = |level| Shape::read(folder.path(), level);
        let shape = Shape {
            bytes: 1 << 20,
            ways: 16,
        };
        assert_eq!(read(2), Some(shape));
        assert_eq!(read(1), None);
        write("type", "Instruction\n");
        assert_eq!(read(2), None);
    }
}
