//! First match among the policy's rules: the AND of the rows that the packet's fields select.

use super::{Circumstances, Step, Tables, limit, payload};
use crate::Direction;
use crate::image::{
    self, ANY_WINDOW, Field, NO_FLAGS, NO_ICMP, NO_PORT, NO_WINDOW, Record, constant, record,
};
use crate::packet::{Packet, UNSEEN, mark, protocol};

/// The first rule that decides. Rules that count and go on are counted on the way when `count`
/// is set; without it nothing is written.
#[inline(always)]
pub(super) fn first_match<T: Tables>(
    packet: &Packet,
    at: Circumstances,
    direction: Direction,
    count: bool,
    tables: &mut T,
) -> Option<Record> {
    if tables.constant(direction, constant::RULES) == 0 {
        return None;
    }
    let rows = Rows::select(packet, at, direction, tables);
    let records = tables.constant(direction, constant::RECORDS);
    let summaries = tables.constant(direction, constant::SUMMARIES);
    let mut search = Search {
        summary: 0,
        words: 0,
        word: 0,
        rules: 0,
    };
    if summaries == 0 {
        search.rules = rows.and(0, direction, tables);
    } else {
        search.words = rows.and(0, direction, tables);
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
                return None;
            }
            if search.words == 0 {
                search.summary += 1;
                if search.summary >= summaries {
                    return None;
                }
                search.words = rows.and(search.summary, direction, tables);
                continue;
            }
            search.word = search.summary * 64 + search.words.trailing_zeros();
            search.words &= search.words - 1;
            search.rules = rows.and(summaries + search.word, direction, tables);
            continue;
        }
        let index = search.word * 64 + search.rules.trailing_zeros();
        search.rules &= search.rules - 1;
        let rule = Record::read(tables, records, index);
        if at.now >= rule.expires {
            continue;
        }
        let decided = rule.flags & record::COUNT == 0;
        if count {
            tables.step(Step::Rule {
                counter: rule.counter,
                decided,
            });
            tables.hit(rule.counter, packet.length);
            if !decided {
                limit::watch(rule.counter, packet, at, direction, tables);
            }
        }
        if decided {
            return Some(rule);
        }
    }
    None
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

/// Where the selected row of each field begins; fields that no rule looks at are left out.
struct Rows {
    starts: [u32; image::FIELDS],
}

impl Rows {
    #[inline(always)]
    fn select<T: Tables>(
        packet: &Packet,
        at: Circumstances,
        direction: Direction,
        tables: &mut T,
    ) -> Self {
        let patterns = payload::patterns(packet, direction, tables);
        let tables = &*tables;
        let mut rows = Self {
            starts: [0; image::FIELDS],
        };
        let stride = tables.constant(direction, constant::WORDS)
            + tables.constant(direction, constant::SUMMARIES);
        let v6 = packet.is(mark::V6);
        let mut place = |field: Field, row: u32| {
            let base = tables.constant(direction, constant::ROWS + field as usize);
            rows.starts[field as usize] = base + row * stride;
        };
        let used = |field: Field| tables.constant(direction, constant::TABLES + field as usize);
        let table = used(Field::Source);
        if table != 0 {
            let row = if v6 {
                image::row_v6(
                    tables,
                    tables.constant(direction, constant::SOURCE_V6),
                    packet.source,
                )
            } else {
                image::row_v4(tables, table, packet.source.as_v4())
            };
            place(Field::Source, row);
        }
        let table = used(Field::Destination);
        if table != 0 {
            let row = if v6 {
                let table = tables.constant(direction, constant::DESTINATION_V6);
                image::row_v6(tables, table, packet.destination)
            } else {
                image::row_v4(tables, table, packet.destination.as_v4())
            };
            place(Field::Destination, row);
        }
        let mut by_value = |field: Field, value: u32| {
            let table = used(field);
            if table != 0 {
                place(field, image::packed(tables, table, value));
            }
        };
        by_value(Field::Protocol, (v6 as u32) << 8 | packet.protocol as u32);
        let ports = packet.is(mark::PORTS);
        by_value(
            Field::DestinationPort,
            if ports {
                packet.destination_port as u32
            } else {
                NO_PORT
            },
        );
        by_value(
            Field::SourcePort,
            if ports {
                packet.source_port as u32
            } else {
                NO_PORT
            },
        );
        let tcp = ports && packet.protocol == protocol::TCP;
        by_value(
            Field::TcpFlags,
            if tcp {
                packet.tcp_flags as u32
            } else {
                NO_FLAGS
            },
        );
        by_value(Field::IcmpType, icmp_index(packet, v6));
        by_value(Field::Vlan, packet.vlan as u32);
        by_value(Field::Interface, at.interface);
        by_value(
            Field::Length,
            if packet.ip_length > 0xffff {
                0xffff
            } else {
                packet.ip_length
            },
        );
        by_value(Field::Ttl, packet.ttl as u32);
        by_value(Field::Fragment, packet.fragment as u32);
        by_value(
            Field::TcpWindow,
            if !tcp {
                NO_WINDOW
            } else if packet.payload == UNSEEN {
                ANY_WINDOW
            } else if packet.is(mark::ICMP_ERROR) {
                NO_WINDOW
            } else {
                packet.tcp_window as u32
            },
        );
        by_value(Field::Payload, patterns);
        rows
    }

    /// The AND of word `index` of the selected rows.
    #[inline(always)]
    fn and<T: Tables>(&self, index: u32, direction: Direction, tables: &T) -> u64 {
        let mut bits = u64::MAX;
        for field in 0..image::FIELDS {
            if tables.constant(direction, constant::TABLES + field) != 0 {
                bits &= tables.word(self.starts[field] + index);
            }
        }
        bits
    }
}

/// The index of an ICMP type. An error that is judged by its quote has the type of the answer that
/// the quoted packet waits for or, turned round, of the quoted packet.
#[inline(always)]
fn icmp_index(packet: &Packet, v6: bool) -> u32 {
    let icmp = if v6 { protocol::ICMPV6 } else { protocol::ICMP };
    if packet.protocol != icmp
        || packet.fragment as u8 == crate::packet::Fragment::Later as u8
        || (packet.is(mark::ICMP_ERROR) && !packet.is(mark::ECHO_REPLY | mark::ECHO_REQUEST))
    {
        return NO_ICMP;
    }
    let kind = if !packet.is(mark::ICMP_ERROR) {
        packet.icmp_type as u32
    } else {
        match (packet.is(mark::ECHO_REQUEST), v6) {
            (false, false) => 0,
            (false, true) => 129,
            (true, false) => 8,
            (true, true) => 128,
        }
    };
    (v6 as u32) << 8 | kind
}
