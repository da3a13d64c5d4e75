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
    fields::source(packet, direction, tables);
    // Where nothing but the source matters, as in a list of hostile addresses, nothing else is
    // looked at.
    let shortcuts = tables.constant(direction, constant::SHORTCUTS);
    if shortcuts != 0 {
        let class = tables.class(Field::Source as usize);
        let first = tables.constant(direction, constant::FIRST_SHORTCUT);
        if class >= first {
            let rule = Record::of_outcome(packed_wide(tables, shortcuts, class - first));
            if count {
                hit(&rule, packet, tables);
            }
            return rule;
        }
    }
    // The only field for which the frame is read.
    fields::payload(packet, direction, packets, tables);
    let search = Search {
        packet,
        at,
        direction,
        packets,
        count,
    };
    let rule = tables.look_up(&search);
    if search.walks(tables) {
        return tables.walk(&search);
    }
    if count && rule.is_some() {
        hit(&rule, packet, tables);
    }
    rule
}

/// A search for the first rule that matches a packet, of which source and payload are classified.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    pub packet: &'a Packet,
    pub at: Circumstances,
    pub direction: Direction,
    pub packets: Packets,
    /// Whether rules are counted.
    pub count: bool,
}

impl Search<'_> {
    /// Classifies the other fields. The first rule that matches, unless the search [walks](Self::walks).
    #[inline(always)]
    pub fn look_up<T: Tables>(&self, tables: &mut T) -> Record {
        fields::classify(self.packet, self.at, self.direction, tables);
        if self.walks(tables) {
            return Record::NONE;
        }
        classified::first_match(self.direction, tables)
    }

    /// Whether rules are looked at one after the other: those of a chain, or of a bit matrix.
    #[inline(always)]
    pub fn walks<T: Tables>(&self, tables: &T) -> bool {
        tables.constant(self.direction, constant::WORDS) != 0
            || tables.constant(self.direction, constant::CHAINS) != 0
    }

    /// The first rule that decides, by the classes of all fields. Rules on the way are counted.
    #[inline(always)]
    pub fn walk<T: Tables>(&self, tables: &mut T) -> Record {
        if tables.constant(self.direction, constant::WORDS) == 0 {
            classified::chained(self, tables)
        } else {
            matrix::first_match(self, tables)
        }
    }

    /// The rule of this number, which the packet matches, counted if rules are; none once it has
    /// expired. Its limit is still to be looked at if it goes on: see [`Self::pass`].
    #[inline(always)]
    pub fn meet<T: Tables>(&self, rule: u32, tables: &mut T) -> Record {
        let records = tables.constant(self.direction, constant::RECORDS);
        let rule = Record::read(tables, records, rule);
        if self.at.now >= rule.expires {
            return Record::NONE;
        }
        if self.count {
            hit(&rule, self.packet, tables);
        }
        rule
    }

    /// Goes on after a rule that does not decide.
    #[inline(always)]
    pub(super) fn pass<T: Tables>(&self, rule: &Record, tables: &mut T) {
        if self.count && rule.is_some() {
            limit::watch(rule.counter, self.packet, self.at, self.direction, tables);
        }
    }
}

/// Counts a packet that a rule matches.
#[inline(always)]
fn hit<T: Tables>(rule: &Record, packet: &Packet, tables: &mut T) {
    tables.step(Step::Rule {
        counter: rule.counter,
        decided: rule.decides(),
    });
    tables.hit(rule.counter, packet.length);
}
