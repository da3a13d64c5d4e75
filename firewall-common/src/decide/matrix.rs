//! First match in a bit matrix: the AND of the rows that the packet's fields select (see
//! [`crate::image`]).

use super::rules::matched;
use super::{Circumstances, Tables};
use crate::Direction;
use crate::image::{self, Field, Record, constant};
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
    select(direction, tables);
    let records = tables.constant(direction, constant::RECORDS);
    let summaries = tables.constant(direction, constant::SUMMARIES);
    let mut search = Search {
        summary: 0,
        words: 0,
        word: 0,
        rules: 0,
    };
    if summaries == 0 {
        search.rules = and(0, direction, tables);
    } else {
        search.words = and(0, direction, tables);
    }
    let steps = tables.constant(direction, constant::STEPS);
    for step in 0..image::MAX_STEPS {
        if step >= steps {
            break;
        }
        if summaries != 0 {
            search.words = tables.opaque(search.words);
            search.word = tables.opaque(search.word as u64) as u32;
            search.rules = tables.opaque(search.rules);
        }
        if search.rules == 0 {
            if summaries == 0 {
                return Record::NONE;
            }
            if search.words == 0 {
                search.summary += 1;
                if search.summary >= summaries {
                    return Record::NONE;
                }
                search.words = and(search.summary, direction, tables);
                continue;
            }
            search.word = search.summary * 64 + search.words.trailing_zeros();
            search.words &= search.words - 1;
            search.rules = and(summaries + search.word, direction, tables);
            continue;
        }
        let index = search.word * 64 + search.rules.trailing_zeros();
        search.rules &= search.rules - 1;
        let rule = Record::read(tables, records, index);
        if at.now >= rule.expires {
            continue;
        }
        if count {
            matched(&rule, packet, at, direction, tables);
        }
        if rule.decides() {
            return rule;
        }
    }
    Record::NONE
}

/// Where the search stands.
struct Search {
    /// The summary word in hand, and its bits that are still to be looked at.
    summary: u32,
    words: u64,
    /// The word of rules in hand, and its bits that are still to be looked at.
    word: u32,
    rules: u64,
}

/// Puts where the selected row begins in the place of each field's class.
#[inline(always)]
fn select<T: Tables>(direction: Direction, tables: &mut T) {
    let width = tables.constant(direction, constant::WORDS)
        + tables.constant(direction, constant::SUMMARIES);
    for field in Field::ALL {
        let first = tables.constant(direction, constant::ROWS + field as usize);
        if first == 0 {
            continue;
        }
        let known = tables.constant(direction, constant::TABLES + field as usize) != 0;
        let class = if known {
            tables.class(field as usize)
        } else {
            0
        };
        tables.set_class(field, first + class * width);
    }
}

/// The AND of word `index` of the selected rows.
#[inline(always)]
fn and<T: Tables>(index: u32, direction: Direction, tables: &T) -> u64 {
    let mut bits = u64::MAX;
    for field in 0..image::FIELDS {
        if tables.constant(direction, constant::ROWS + field) != 0 {
            bits &= tables.word(tables.class(field) + index);
        }
    }
    bits
}
