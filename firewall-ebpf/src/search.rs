//! The search for the first rule that matches, as functions of their own.
//!
//! How long the verifier follows the search depends on the policy: a bit matrix has a turn for each word
//! of 64 rules, chains and high address tables have loops as well. Written out where it is asked for, it
//! would follow all of that once more for each state in which a program can come there: a policy of
//! 4,096 rules over every field was refused after a million steps. Global functions are verified once
//! and by themselves, so that what a policy asks for adds to what the programs take, and does not
//! multiply it.

use core::ptr;

use firewall_common::decide::{Circumstances, Packets, Scratch, Search, rows};
use firewall_common::image::{Record, constant, row_v4, row_v6};
use firewall_common::layout::NO_RULE;
use firewall_common::packet::Packet;
use firewall_common::{Address, Direction};

use crate::maps;
use crate::tables::{Maps, Words};

/// Has the function walk through the rules that knows which packet, of which direction.
#[inline(always)]
pub fn walk_apart(search: &Search<'_>, tables: &Maps) -> Record {
    let now = search.at.now;
    let frame = frame(tables);
    record(match (search.direction, search.packets) {
        (Direction::Inbound, Packets::Seen) => palisade_walk_in(now, frame, search.count as u64),
        (Direction::Inbound, Packets::Unseen) => palisade_walk_answered(now),
        (Direction::Outbound, _) => palisade_walk_out(now, frame),
    })
}

/// Has a rule met by a function.
#[inline(always)]
pub fn meet_apart(search: &Search<'_>, rule: u32, tables: &Maps) -> Record {
    let which = (search.count as u64) << 1 | search.direction as u64;
    record(palisade_meet(
        which,
        rule as u64,
        search.at.now,
        frame(tables),
    ))
}

/// What a frame counts for, as the functions are told it.
#[inline(always)]
fn frame(tables: &Maps) -> u64 {
    (tables.packets as u64) << 32 | tables.further_bytes as u64
}

/// A rule as the functions tell it: its counter, and above it its flags.
#[inline(always)]
fn told(rule: Record) -> u64 {
    (rule.flags as u64) << 32 | rule.counter as u64
}

#[inline(always)]
fn record(told: u64) -> Record {
    Record {
        counter: told as u32,
        flags: (told >> 32) as u32,
        expires: u64::MAX,
    }
}

/// [`Search::walk`] through the inbound rules for the packet in hand.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_walk_in(now: u64, frame: u64, count: u64) -> u64 {
    walk(Direction::Inbound, Packets::Seen, now, frame, count != 0)
}

/// The same for the packet that the one in hand, which goes out, answers or will be answered by.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_walk_answered(now: u64) -> u64 {
    walk(Direction::Inbound, Packets::Unseen, now, 0, false)
}

/// [`Search::walk`] through the outbound rules.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_walk_out(now: u64, frame: u64) -> u64 {
    walk(Direction::Outbound, Packets::Seen, now, frame, true)
}

#[inline(always)]
fn walk(direction: Direction, packets: Packets, now: u64, frame: u64, count: bool) -> u64 {
    // Older verifiers walk through a function also where nothing asks it.
    let constants = maps::constants(direction);
    if constants.get(constant::WORDS) == 0 && constants.get(constant::CHAINS) == 0 {
        return NO_RULE as u64;
    }
    let owner = match packets {
        Packets::Seen => direction,
        Packets::Unseen => Direction::Outbound,
    };
    let Some((packet, reversed, mut tables)) = at_hand(owner, frame) else {
        return NO_RULE as u64;
    };
    let search = Search {
        packet: match packets {
            Packets::Seen => packet,
            Packets::Unseen => reversed,
        },
        at: at(now),
        direction,
        packets,
        count,
    };
    told(search.walk(&mut tables))
}

/// [`Search::meet`]; `which` is the direction, and above it whether rules are counted. Only those that the
/// packet itself meets are.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_meet(which: u64, rule: u64, now: u64, frame: u64) -> u64 {
    if which & 1 == Direction::Inbound as u64 {
        meet(Direction::Inbound, which >> 1 != 0, rule, now, frame)
    } else {
        meet(Direction::Outbound, which >> 1 != 0, rule, now, frame)
    }
}

#[inline(always)]
fn meet(direction: Direction, count: bool, rule: u64, now: u64, frame: u64) -> u64 {
    let Some((packet, _, mut tables)) = at_hand(direction, frame) else {
        return NO_RULE as u64;
    };
    let search = Search {
        packet,
        at: at(now),
        direction,
        packets: Packets::Seen,
        count,
    };
    told(search.meet(rule as u32, &mut tables))
}

/// Word `index` of the AND of the selected rows of a bit matrix, by the classes in the scratch memory of
/// `owner`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_rows(owner: u64, direction: u64, index: u64) -> u64 {
    let Some((_, _, tables)) = (if owner == Direction::Inbound as u64 {
        at_hand(Direction::Inbound, 0)
    } else {
        at_hand(Direction::Outbound, 0)
    }) else {
        return 0;
    };
    if direction == Direction::Inbound as u64 {
        rows(Direction::Inbound, index as u32, &tables)
    } else {
        rows(Direction::Outbound, index as u32, &tables)
    }
}

/// The packets in the scratch memory of a direction, and the tables as these functions read them.
#[inline(always)]
fn at_hand(owner: Direction, frame: u64) -> Option<(&'static Packet, &'static Packet, Maps)> {
    let scratch = maps::SCRATCH.get_ptr_mut(owner as u32)?;
    // SAFETY: this CPU's own entry, which the program that asks has filled and does not use meanwhile.
    let Scratch {
        packet,
        cell,
        reversed,
        classes,
        heads,
        ..
    } = unsafe { &mut *scratch };
    let tables = Maps {
        // Nothing of the frame is looked at here.
        context: ptr::null_mut(),
        packets: (frame >> 32) as u32,
        further_bytes: frame as u32,
        image: Words::new()?,
        cell: &raw mut *cell,
        owner,
        classes: &raw mut *classes,
        heads: &raw mut *heads,
    };
    Some((packet, reversed, tables))
}

#[inline(always)]
fn at(now: u64) -> Circumstances {
    Circumstances {
        now,
        interface: maps::INTERFACE.load(),
    }
}

/// The class of an address by a table with high trees. `which` is the table's number, and above it 1 for
/// IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_class(which: u64, high: u64, low: u64) -> u64 {
    let Some(image) = Words::new() else {
        return 0;
    };
    let table = which as u32;
    let address = Address { high, low };
    let class = if which >> 32 != 0 {
        row_v6(&image, table, address)
    } else {
        row_v4(&image, table, address.as_v4())
    };
    class as u64
}
