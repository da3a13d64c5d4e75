//! First match among the policy's rules.

use super::{Circumstances, Tables, classified, fields, matrix};
use crate::Direction;
use crate::image::{Record, constant};
use crate::packet::Packet;

/// The first rule that decides. Rules that count and go on are counted on the way when `count`
/// is set; without it nothing is written.
#[inline(always)]
pub(super) fn first_match<T: Tables>(
    packet: &Packet,
    at: Circumstances,
    direction: Direction,
    count: bool,
    tables: &mut T,
) -> Record {
    if tables.constant(direction, constant::RULES) == 0 {
        return Record::NONE;
    }
    fields::classify(packet, at, direction, tables);
    if tables.constant(direction, constant::WORDS) == 0 {
        classified::first_match(packet, at, direction, count, tables)
    } else {
        matrix::first_match(packet, at, direction, count, tables)
    }
}
