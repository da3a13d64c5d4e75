//! First match among the policy's rules.

use super::payload::Packets;
use super::{Circumstances, Step, Tables, classified, fields, limit, matrix};
use crate::Direction;
use crate::image::{Field, Record, constant, packed_wide};
use crate::packet::Packet;

/// The first rule that decides. Rules that count and go on are counted on the way when `count`
/// is set; without it nothing is written.
#[inline(always)]
pub(super) fn first_match<T: Tables>(
    packet: &Packet,
    at: Circumstances,
    direction: Direction,
    packets: Packets,
    count: bool,
    tables: &mut T,
) -> Record {
    if tables.constant(direction, constant::RULES) == 0 {
        return Record::NONE;
    }
    fields::source(packet, at, direction, tables);
    // Where nothing but the source matters, as in a list of hostile addresses, nothing else is
    // looked at.
    let shortcuts = tables.constant(direction, constant::SHORTCUTS);
    if shortcuts != 0 {
        let class = tables.class(Field::Source as usize);
        let first = tables.constant(direction, constant::FIRST_SHORTCUT);
        if class >= first {
            let rule = Record::of_outcome(packed_wide(tables, shortcuts, class - first));
            if count {
                matched(&rule, packet, at, direction, tables);
            }
            return rule;
        }
    }
    fields::classify(packet, at, direction, packets, tables);
    if tables.constant(direction, constant::WORDS) == 0 {
        classified::first_match(packet, at, direction, count, tables)
    } else {
        matrix::first_match(packet, at, direction, count, tables)
    }
}

/// Counts a packet that a rule matches.
#[inline(always)]
pub(super) fn matched<T: Tables>(
    rule: &Record,
    packet: &Packet,
    at: Circumstances,
    direction: Direction,
    tables: &mut T,
) {
    let decided = rule.decides();
    tables.step(Step::Rule {
        counter: rule.counter,
        decided,
    });
    tables.hit(rule.counter, packet.length);
    if !decided {
        limit::watch(rule.counter, packet, at, direction, tables);
    }
}
