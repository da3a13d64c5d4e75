//! First match in a bit matrix: the AND of the rows that the packet's fields select (see
//! [`crate::image`]).

use super::{Search, Tables};
use crate::Direction;
use crate::image::{self, Field, Record, constant};

/// The first rule that decides.
#[inline(always)]
pub(super) fn first_match<T: Tables>(search: &Search<'_>, tables: &mut T) -> Record {
    let direction = search.direction;
    select(direction, tables);
    let summaries = tables.constant(direction, constant::SUMMARIES);
    // The words that are still to be looked at; the number of the one in hand, and the rules in it that
    // are.
    let mut words = match summaries {
        0 => 1,
        _ => tables.rows(direction, 0),
    };
    let mut word = 0;
    let mut rules = 0;
    let steps = tables.constant(direction, constant::STEPS);
    for step in 0..image::MAX_STEPS {
        if step >= steps {
            break;
        }
        words = tables.opaque(words);
        word = tables.opaque(word as u64) as u32;
        rules = tables.opaque(rules);
        if rules == 0 {
            if words == 0 {
                break;
            }
            word = words.trailing_zeros();
            words &= words - 1;
            rules = tables.rows(direction, summaries + word);
            continue;
        }
        let index = word * 64 + rules.trailing_zeros();
        rules &= rules - 1;
        let rule = tables.meet(search, index);
        if rule.is_some() && rule.decides() {
            return rule;
        }
        search.pass(&rule, tables);
    }
    Record::NONE
}

const _: () = assert!(
    image::MATRIX_RULES <= 64 * 64,
    "a row has one word of summary"
);

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
pub fn rows<T: Tables>(direction: Direction, index: u32, tables: &T) -> u64 {
    let mut bits = u64::MAX;
    for field in 0..image::FIELDS {
        if tables.constant(direction, constant::ROWS + field) != 0 {
            bits &= tables.word(tables.class(field) + index);
        }
    }
    bits
}
