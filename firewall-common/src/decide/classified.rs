//! First match among classified rules: the classes of the addresses to a list of rules, and list and
//! tail to the first of them (see [`crate::image`]).

use super::{Search, Tables};
use crate::Direction;
use crate::image::{
    self, Field, GROUPS, Image, Line, PAGE, Plane, Record, constant, list, outcome, packed,
    packed_wide, result,
};

/// The first rule that matches, where each decides.
#[inline(always)]
pub(super) fn first_match<T: Tables>(direction: Direction, tables: &T) -> Record {
    let classes = Selected::of(direction, tables);
    let groups = tables.constant(direction, constant::GROUPS);
    // Spelled out, so that the compiler keeps neither an array nor a loop.
    let mut first = decisive(0, outcome::NONE, &classes, direction, tables);
    macro_rules! others {
        ($($group:literal)*) => {$(
            if $group < groups {
                first = decisive($group as usize, first, &classes, direction, tables);
            }
        )*};
    }
    others!(1 2 3);
    const { assert!(GROUPS == 4) }
    Record::of_outcome(first)
}

/// What a group of rules of which each decides gives, as [`outcome`], or `before` if that is lower.
#[inline(always)]
fn decisive<T: Tables>(
    group: usize,
    before: u32,
    classes: &Selected,
    direction: Direction,
    tables: &T,
) -> u32 {
    let cell = list_of(group, classes, direction, tables);
    let (row, answer) = (cell as u32, (cell >> 32) as u32);
    if row == list::NO_ROW {
        return lower(before, answer);
    }
    let named = tables.constant(direction, at(group, constant::group::NAMED)) != 0;
    let single = row & list::SINGLE != 0;
    if named && group == 0 {
        if !single {
            // The list's rules, which are read last.
            tables.approach(answer);
        }
    } else if named {
        // Most often the groups before have a rule that comes before all of this list.
        let least = if single {
            answer
        } else {
            packed_wide(tables, answer, 0)
        };
        if before < least {
            return before;
        }
    }
    let place = row & !list::SINGLE;
    let paged = tables.constant(direction, at(group, constant::group::PAGED)) != 0;
    let (place, column) = if paged {
        let page = packed_wide(tables, place, classes.tail / PAGE);
        (page, classes.tail % PAGE)
    } else {
        (place, classes.tail)
    };
    if !named {
        return lower(before, packed_wide(tables, place, column));
    }
    let found = packed(tables, place, column);
    if found == result::NONE {
        return before;
    }
    if single {
        return lower(before, answer);
    }
    lower(before, packed_wide(tables, answer, found))
}

/// The lower of two outcomes.
#[inline(always)]
const fn lower(one: u32, other: u32) -> u32 {
    if other < one { other } else { one }
}

/// The list that the addresses select in a group.
#[inline(always)]
fn list_of<T: Tables>(group: usize, classes: &Selected, direction: Direction, tables: &T) -> u64 {
    let plane = plane(at(group, constant::group::LISTS), direction, tables);
    if plane.table == 0 {
        let half = |index| tables.constant(direction, at(group, constant::group::LIST) + index);
        return half(0) as u64 | (half(1) as u64) << 32;
    }
    let (source, destination) = match tables.constant(direction, constant::SOURCE_CLASSES) {
        // A class has 16 bits.
        0 => (classes.source, classes.destination),
        _ => (
            classes.source >> (group * 16),
            classes.destination >> (group * 16),
        ),
    };
    let (source, destination) = (source as u32 & 0xffff, destination as u32 & 0xffff);
    plane.whole_cell(tables, source, destination)
}

/// The first rule that decides, where some count and go on, or may expire.
#[inline(always)]
pub(super) fn chained<T: Tables>(search: &Search<'_>, tables: &mut T) -> Record {
    let direction = search.direction;
    let classes = &Selected::of(direction, tables);
    let groups = tables.constant(direction, constant::GROUPS);
    // Spelled out, as above.
    Head::first::<0, T>(classes, groups, direction, tables);
    Head::first::<1, T>(classes, groups, direction, tables);
    Head::first::<2, T>(classes, groups, direction, tables);
    Head::first::<3, T>(classes, groups, direction, tables);
    for _ in 0..image::MAX_CHAIN {
        let first = lowest(groups, tables);
        if first == result::NONE {
            break;
        }
        let rule = tables.meet(search, first);
        if rule.is_some() && rule.decides() {
            return rule;
        }
        search.pass(&rule, tables);
        for group in 0..GROUPS {
            if (group as u32) < groups && tables.head(group).rule == first {
                Head::advance(group, direction, tables);
            }
        }
    }
    Record::NONE
}

/// The lowest rule among those of the groups.
#[inline(always)]
fn lowest<T: Tables>(groups: u32, tables: &T) -> u32 {
    let mut lowest = tables.head(0).rule;
    for group in 1..GROUPS {
        if (group as u32) < groups {
            let rule = tables.head(group).rule;
            lowest = if rule < lowest { rule } else { lowest };
        }
    }
    lowest
}

/// Where one group stands: its first rule that is still to be looked at. It stands in the tables'
/// memory, of which the verifier remembers nothing from one turn to the next.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// [`result::NONE`] when there is none.
    rule: u32,
    /// Where the rules of the list stand that the addresses selected.
    names: u32,
    /// The place of the next result of its chain.
    next: u32,
}

impl Head {
    pub const NONE: Self = Self {
        rule: result::NONE,
        names: 0,
        next: 0,
    };

    /// Puts a group where it stands at first.
    #[inline(always)]
    fn first<const GROUP: usize, T: Tables>(
        classes: &Selected,
        groups: u32,
        direction: Direction,
        tables: &mut T,
    ) {
        if GROUP as u32 >= groups {
            return;
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
            return tables.set_head(GROUP, Self::NONE);
        }
        let head = Self {
            rule: 0,
            names: (cell >> 32) as u32,
            next: found * 4,
        };
        tables.set_head(GROUP, head);
        Self::advance(GROUP, direction, tables);
    }

    /// Has a group go on to the next rule of its chain.
    #[inline(always)]
    fn advance<T: Tables>(group: usize, direction: Direction, tables: &mut T) {
        let mut head = tables.head(group);
        let chains = tables.constant(direction, at(group, constant::group::CHAINS));
        let found = packed(&Far(tables), chains, head.next);
        head.next += 1;
        let named = tables.constant(direction, at(group, constant::group::NAMED)) != 0;
        head.rule = if named && found != result::NONE {
            packed(&Far(tables), head.names, found)
        } else {
            found
        };
        tables.set_head(group, head);
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
    /// Of the addresses: a word with the class in each group, or the class where all groups have the same.
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
            let combined = plane(first, direction, tables);
            tail = if combined.table == 0 {
                tail * combined.width + class
            } else {
                combined.cell(tables, tail, class)
            };
        )*};
    }
    combine!(1 2 3 4 5 6 7 8 9);
    const { assert!(image::FIELDS == 12) }
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
