//! Limits over their maps.
//!
//! Holding a packet to a limit is a function of its own, and a global one, so that the verifier
//! walks through it once and by itself (see `bans`). Written out where it is asked for, limits cost
//! 350,000 steps on Linux 6.18. The buckets are changed by all CPUs at once: Rust has no atomics on
//! this target, but the instructions are there (Linux 5.12).

use core::arch::asm;

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use firewall_common::bans::HEADER_LIMIT;
use firewall_common::image::{self, Image, constant};
use firewall_common::layout::{BanKey, LIMIT_LINES};
use firewall_common::limit::table::{Line, WAYS, line_index};
use firewall_common::limit::{Held, Limits, is_over, is_over_automatic};
use firewall_common::{Address, Direction};

use crate::bans::filter;
use crate::maps;
use crate::tables::{Maps, Words};

impl Limits for Maps {
    type LimitLine<'a> = LinePointer;

    #[inline(always)]
    fn limit_line(&mut self, key: u64) -> Option<LinePointer> {
        line_of(key)
    }

    #[inline(always)]
    fn seed(&self) -> u32 {
        maps::SOURCE_SEED.load()
    }

    #[inline(always)]
    fn is_over_automatic(&mut self, key: &BanKey, now: u64) -> bool {
        let address = key.address;
        let packets = self.packets as u64;
        palisade_limit_source(address.high, address.low, key.length as u64, now, packets) != 0
    }

    #[inline(always)]
    fn is_over(&mut self, held: &Held<'_>) -> bool {
        let which = (held.direction as u64) << 1 | held.known as u64;
        let frame = (self.packets as u64) << 32 | self.further_bytes as u64;
        palisade_limit(which, held.counter as u64, held.now, frame) != 0
    }
}

/// What a frame counts for; the packet stands in the scratch memory.
struct Frame {
    image: Words,
    packets: u32,
    further_bytes: u32,
}

impl Image for Frame {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&image::Line> {
        self.image.line(index)
    }
}

impl Limits for Frame {
    type LimitLine<'a> = LinePointer;

    #[inline(always)]
    fn limit_line(&mut self, key: u64) -> Option<LinePointer> {
        line_of(key)
    }

    #[inline(always)]
    fn seed(&self) -> u32 {
        maps::SOURCE_SEED.load()
    }

    #[inline(always)]
    fn fine_now(&self, now: u64) -> u64 {
        if maps::REPLAY.load() != 0 {
            return now;
        }
        // SAFETY: reads the clock.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn packets(&self) -> u32 {
        self.packets
    }

    #[inline(always)]
    fn further_bytes(&self) -> u32 {
        self.further_bytes
    }
}

/// Whether the packet in hand is over the limit of the rule with this counter: 1 or 0. `which` is
/// the direction, and in its lowest bit whether the packet belongs to a known connection; `frame`
/// is how many packets it stands for, and in the lower half their further bytes.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_limit(which: u64, counter: u64, now: u64, frame: u64) -> u64 {
    let direction = if which >> 1 == Direction::Inbound as u64 {
        Direction::Inbound
    } else {
        Direction::Outbound
    };
    let base = maps::constants(direction).get(constant::LIMITS);
    // Older verifiers walk through this function also where nothing asks it.
    if base == 0 {
        return 0;
    }
    let Some(scratch) = maps::SCRATCH.get_ptr(direction as u32) else {
        return 0;
    };
    let held = Held {
        // SAFETY: this CPU's own entry, which the program that asks has filled and does not change
        // meanwhile.
        packet: unsafe { &(*scratch).packet },
        direction,
        base,
        counter: counter as u32,
        known: which & 1 != 0,
        now,
    };
    let Some(image) = Words::new() else {
        return 0;
    };
    let mut frame = Frame {
        image,
        packets: (frame >> 32) as u32,
        further_bytes: frame as u32,
    };
    is_over(&held, &mut frame) as u64
}

/// Whether the packet in hand, of a source that is held to the automatic limit by this prefix, is over
/// it: 1 or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_limit_source(
    high: u64,
    low: u64,
    length: u64,
    now: u64,
    packets: u64,
) -> u64 {
    let key = BanKey {
        address: Address { high, low },
        length: length as u32,
        limited: 1,
    };
    let words = [
        filter(HEADER_LIMIT),
        filter(HEADER_LIMIT + 1),
        filter(HEADER_LIMIT + 2),
        filter(HEADER_LIMIT + 3),
    ];
    let Some(image) = Words::new() else {
        return 0;
    };
    let mut frame = Frame {
        image,
        packets: packets as u32,
        further_bytes: 0,
    };
    is_over_automatic(&key, words, now, &mut frame) as u64
}

#[inline(always)]
fn line_of(key: u64) -> Option<LinePointer> {
    let line = maps::LIMIT_TABLE.get_ptr_mut(line_index(key, LIMIT_LINES))?;
    Some(LinePointer(line.cast()))
}

/// A line in the map's memory.
#[derive(Clone, Copy)]
pub struct LinePointer(*mut u64);

impl LinePointer {
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
