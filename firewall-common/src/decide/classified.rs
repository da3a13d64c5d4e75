//! First match among classified rules: the classes of the addresses to a list of rules, and list and
//! tail to the first of them (see [`crate::image`]).

use super::rules::matched;
use super::{Circumstances, Tables};
use crate::Direction;
use crate::image::{
    self, Field, GROUPS, Image, Line, PAGE, Plane, Record, constant, list, outcome, packed,
    packed_wide, result,
};
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
    let classes = Selected::of(direction, tables);
    let groups = tables.constant(direction, constant::GROUPS);
    if tables.constant(direction, constant::CHAINS) != 0 {
        return chained(&classes, packet, at, direction, count, tables);
    }
    // Spelled out, so that the compiler keeps neither an array nor a loop.
    let mut first = decisive(0, &classes, direction, tables);
    macro_rules! others {
        ($($group:literal)*) => {$(
            if $group < groups {
                let other = decisive($group as usize, &classes, direction, tables);
                if other < first {
                    first = other;
                }
            }
        )*};
    }
    others!(1 2 3);
    const { assert!(GROUPS == 4) }
    let rule = Record::of_outcome(first);
    if count && rule.is_some() {
        matched(&rule, packet, at, direction, tables);
    }
    rule
}

/// What a group of rules of which each decides gives, as [`outcome`].
#[inline(always)]
fn decisive<T: Tables>(group: usize, classes: &Selected, direction: Direction, tables: &T) -> u32 {
    let cell = list_of(group, classes, direction, tables);
    let (row, answer) = (cell as u32, (cell >> 32) as u32);
    if row == list::NO_ROW {
        return answer;
    }
    let place = row & !list::SINGLE;
    let paged = tables.constant(direction, at(group, constant::group::PAGED)) != 0;
    let (place, column) = if paged {
        let page = packed_wide(tables, place, classes.tail / PAGE);
        (page, classes.tail % PAGE)
    } else {
        (place, classes.tail)
    };
    if tables.constant(direction, at(group, constant::group::NAMED)) == 0 {
        return packed_wide(tables, place, column);
    }
    let found = packed(tables, place, column);
    if found == result::NONE {
        return outcome::NONE;
    }
    if row & list::SINGLE != 0 {
        return answer;
    }
    packed_wide(tables, answer, found)
}

/// The list that the addresses select in a group.
#[inline(always)]
fn list_of<T: Tables>(group: usize, classes: &Selected, direction: Direction, tables: &T) -> u64 {
    let plane = plane(at(group, constant::group::LISTS), direction, tables);
    if plane.table == 0 {
        let half = |index| tables.constant(direction, at(group, constant::group::LIST) + index);
        return half(0) as u64 | (half(1) as u64) << 32;
    }
    // Of a single group these are the classes themselves, which have 16 bits too.
    let shift = group * 16;
    let source = (classes.source >> shift) as u32 & 0xffff;
    let destination = (classes.destination >> shift) as u32 & 0xffff;
    plane.whole_cell(tables, source, destination)
}

/// As [`first_match`], where some rules count and go on, or may expire.
#[inline(always)]
fn chained<T: Tables>(
    classes: &Selected,
    packet: &Packet,
    at: Circumstances,
    direction: Direction,
    count: bool,
    tables: &mut T,
) -> Record {
    let groups = tables.constant(direction, constant::GROUPS);
    let records = tables.constant(direction, constant::RECORDS);
    // Spelled out, as above.
    let mut heads = [
        Head::first::<0, T>(classes, groups, direction, tables),
        Head::first::<1, T>(classes, groups, direction, tables),
        Head::first::<2, T>(classes, groups, direction, tables),
        Head::first::<3, T>(classes, groups, direction, tables),
    ];
    for _ in 0..image::MAX_CHAIN {
        for (group, head) in heads.iter_mut().enumerate() {
            if (group as u32) < groups {
                head.forget(tables);
            }
        }
        let first = lowest(&heads, groups);
        if first == result::NONE {
            return Record::NONE;
        }
        let rule = Record::read(&Far(tables), records, first);
        if at.now < rule.expires {
            if count {
                matched(&rule, packet, at, direction, tables);
            }
            if rule.decides() {
                return rule;
            }
        }
        for (group, head) in heads.iter_mut().enumerate() {
            if (group as u32) < groups && head.rule == first {
                head.advance(group, direction, tables);
            }
        }
    }
    Record::NONE
}

/// The lowest rule among those of the groups.
#[inline(always)]
fn lowest(heads: &[Head; GROUPS], groups: u32) -> u32 {
    let mut lowest = heads[0].rule;
    if groups > 1 && heads[1].rule < lowest {
        lowest = heads[1].rule;
    }
    if groups > 2 && heads[2].rule < lowest {
        lowest = heads[2].rule;
    }
    if groups > 3 && heads[3].rule < lowest {
        lowest = heads[3].rule;
    }
    lowest
}

/// Where one group stands: its first rule that is still to be looked at.
#[derive(Clone, Copy)]
struct Head {
    /// [`result::NONE`] when there is none.
    rule: u32,
    /// Where the rules of the list stand that the addresses selected.
    names: u32,
    /// The place of the next result of its chain.
    next: u32,
}

impl Head {
    const NONE: Self = Self {
        rule: result::NONE,
        names: 0,
        next: 0,
    };

    /// Where a group stands at first; nowhere when there is no such group.
    #[inline(always)]
    fn first<const GROUP: usize, T: Tables>(
        classes: &Selected,
        groups: u32,
        direction: Direction,
        tables: &T,
    ) -> Self {
        if GROUP as u32 >= groups {
            return Self::NONE;
        }
        let cell = list_of(GROUP, classes, direction, tables);
        let row = cell as u32;
        let found = if tables.constant(direction, at(GROUP, constant::group::PAGED)) != 0 {
            let page = packed_wide(tables, row, classes.tail / PAGE);
            packed(tables, page, classes.tail % PAGE)
        } else {
            packed(tables, row, classes.tail)
        };
        if found == result::NONE {
            return Self::NONE;
        }
        let mut head = Self {
            rule: 0,
            names: (cell >> 32) as u32,
            next: found * 4,
        };
        head.advance(GROUP, direction, tables);
        head
    }

    /// Goes on to the next rule of the chain.
    #[inline(always)]
    fn advance<T: Tables>(&mut self, group: usize, direction: Direction, tables: &T) {
        let chains = tables.constant(direction, at(group, constant::group::CHAINS));
        let found = packed(&Far(tables), chains, self.next);
        self.next += 1;
        let named = tables.constant(direction, at(group, constant::group::NAMED)) != 0;
        self.rule = if named && found != result::NONE {
            packed(&Far(tables), self.names, found)
        } else {
            found
        };
    }

    /// See [`Tables::opaque`].
    #[inline(always)]
    fn forget<T: Tables>(&mut self, tables: &mut T) {
        self.rule = tables.opaque(self.rule as u64) as u32;
        self.names = tables.opaque(self.names as u64) as u32;
        self.next = tables.opaque(self.next as u64) as u32;
    }
}

/// The place of a group's constant.
#[inline(always)]
const fn at(group: usize, index: usize) -> usize {
    constant::GROUP + group * constant::group::COUNT + index
}

/// The image as a chain is followed through it: see [`Tables::far_word`].
struct Far<'a, T>(&'a T);

impl<T: Tables> Image for Far<'_, T> {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        self.0.line(index)
    }

    #[inline(always)]
    fn word(&self, index: u32) -> u64 {
        self.0.far_word(index)
    }
}

/// What a packet's fields select.
struct Selected {
    /// Of the addresses: a word with the class in each group, or the class when there is one group.
    source: u64,
    destination: u64,
    tail: u32,
}

impl Selected {
    #[inline(always)]
    fn of<T: Tables>(direction: Direction, tables: &T) -> Self {
        Self {
            source: in_groups(Field::Source, constant::SOURCE_CLASSES, direction, tables),
            destination: in_groups(
                Field::Destination,
                constant::DESTINATION_CLASSES,
                direction,
                tables,
            ),
            tail: tail(direction, tables),
        }
    }
}

/// The class of an address in each group; 0 when no rule looks at it.
#[inline(always)]
fn in_groups<T: Tables>(field: Field, words: usize, direction: Direction, tables: &T) -> u64 {
    if tables.constant(direction, constant::TABLES + field as usize) == 0 {
        return 0;
    }
    let class = tables.class(field as usize);
    match tables.constant(direction, words) {
        0 => class as u64,
        words => tables.word(words + class),
    }
}

/// The class of all fields but the addresses. Which fields there are and in which order they are
/// combined is known when a program is loaded.
#[inline(always)]
fn tail<T: Tables>(direction: Direction, tables: &T) -> u32 {
    let first = tables.constant(direction, constant::ORDER);
    if first == 0 {
        return 0;
    }
    let mut tail = tables.class(first as usize - 1);
    // Spelled out, as above; the steps beyond the last field cost a packet nothing.
    macro_rules! combine {
        ($($step:literal)*) => {$(
            let field = tables.constant(direction, constant::ORDER + $step);
            if field == 0 {
                return tail;
            }
            let first = constant::COMBINE + $step * image::PLANE_CONSTANTS;
            let class = tables.class(field as usize - 1);
            tail = plane(first, direction, tables).cell(tables, tail, class);
        )*};
    }
    combine!(1 2 3 4 5 6 7 8 9 10 11);
    const { assert!(image::FIELDS == 14) }
    tail
}

/// The plane whose constants begin at `first`.
#[inline(always)]
fn plane<T: Tables>(first: usize, direction: Direction, tables: &T) -> Plane {
    Plane {
        table: tables.constant(direction, first),
        width: tables.constant(direction, first + 1),
        paged: tables.constant(direction, first + 2) != 0,
    }
}
