//! Signatures of floods over their map.
//!
//! Which one a packet fits is told by a function of its own, and a global one, so that the verifier
//! walks through it once and what follows does not depend on the path through it (see `bans`).

use firewall_common::Direction;
use firewall_common::signature::{SLOTS, Shown};

use crate::maps;

/// What there is to look at.
#[inline(always)]
pub fn state() -> u64 {
    if maps::MAY_SIGN.load() == 0 {
        return 0;
    }
    match maps::SIGNATURES.get_ptr(0) {
        // SAFETY: a whole word of the map, which user space stores whole.
        Some(table) => unsafe { (&raw const (*table).state).read_volatile() },
        None => 0,
    }
}

/// The place of the signature that the inbound packet in the scratch memory fits, or [`SLOTS`].
/// `first` and `second` are the beginning of its payload, of which `length` bytes are at hand.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_signature(now: u64, first: u64, second: u64, length: u64) -> u64 {
    // Older verifiers walk through this function also where nothing asks it.
    if maps::MAY_SIGN.load() == 0 {
        return SLOTS as u64;
    }
    let Some(scratch) = maps::SCRATCH.get_ptr(Direction::Inbound as u32) else {
        return SLOTS as u64;
    };
    let Some(table) = maps::SIGNATURES.get_ptr(0) else {
        return SLOTS as u64;
    };
    // SAFETY: this CPU's own entry, which the program that asks has filled; and the table, of which
    // user space changes only places that are empty for a while.
    let (packet, table) = unsafe { (&(*scratch).packet, &*table) };
    let Some(space) = maps::SIGNATURE_SPACE.get_ptr_mut(0) else {
        return SLOTS as u64;
    };
    // Not on the stack: the program that asks has taken most of its 512 bytes.
    // SAFETY: this CPU's own entry, used by one program at a time.
    let shown = unsafe { &mut *space };
    *shown = Shown::of(packet, [first, second], length as u32);
    crate::forget(shown);
    table.find(shown, now) as u64
}
