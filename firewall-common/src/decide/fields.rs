//! The classes of a packet's fields: what the rules of a direction tell apart of each.

use super::payload::Packets;
use super::{Circumstances, Tables, payload};
use crate::image::{
    self, ANY_WINDOW, Field, NO_FLAGS, NO_ICMP, NO_PORT, NO_WINDOW, constant, packed,
};
use crate::packet::{Packet, UNSEEN, mark, protocol};
use crate::{Address, Direction};

/// Finds the class of each field but the source, 0 for one that no rule looks at, and leaves it with
/// [`Tables::set_class`] under the field's number.
#[inline(always)]
pub(super) fn classify<T: Tables>(
    packet: &Packet,
    at: Circumstances,
    direction: Direction,
    packets: Packets,
    tables: &mut T,
) {
    let patterns = payload::patterns(packet, packets, direction, tables);
    // Spelled out: a loop would ask for every field of every packet whether a rule looks at it, which
    // is known when the program is loaded.
    find(Field::Destination, packet, at, patterns, direction, tables);
    find(Field::Protocol, packet, at, patterns, direction, tables);
    find(
        Field::DestinationPort,
        packet,
        at,
        patterns,
        direction,
        tables,
    );
    find(Field::SourcePort, packet, at, patterns, direction, tables);
    find(Field::TcpFlags, packet, at, patterns, direction, tables);
    find(Field::IcmpType, packet, at, patterns, direction, tables);
    find(Field::Vlan, packet, at, patterns, direction, tables);
    find(Field::Interface, packet, at, patterns, direction, tables);
    find(Field::Length, packet, at, patterns, direction, tables);
    find(Field::Ttl, packet, at, patterns, direction, tables);
    find(Field::Fragment, packet, at, patterns, direction, tables);
    find(Field::TcpWindow, packet, at, patterns, direction, tables);
    find(Field::Payload, packet, at, patterns, direction, tables);
}

/// Finds the class of the source.
#[inline(always)]
pub(super) fn source<T: Tables>(
    packet: &Packet,
    at: Circumstances,
    direction: Direction,
    tables: &mut T,
) {
    find(Field::Source, packet, at, 0, direction, tables);
}

/// Finds the class of one field, if any rule looks at it.
#[inline(always)]
fn find<T: Tables>(
    field: Field,
    packet: &Packet,
    at: Circumstances,
    patterns: u32,
    direction: Direction,
    tables: &mut T,
) {
    let table = tables.constant(direction, constant::TABLES + field as usize);
    if table == 0 {
        return;
    }
    let v6 = packet.is(mark::V6);
    let ports = packet.is(mark::PORTS);
    let tcp = ports && packet.protocol == protocol::TCP;
    let value = match field {
        Field::Source => {
            let v6_table = tables.constant(direction, constant::SOURCE_V6);
            let class = address(packet.source, v6, table, v6_table, tables);
            return tables.set_class(field, class);
        }
        Field::Destination => {
            let v6_table = tables.constant(direction, constant::DESTINATION_V6);
            let class = address(packet.destination, v6, table, v6_table, tables);
            return tables.set_class(field, class);
        }
        Field::Protocol => (v6 as u32) << 8 | packet.protocol as u32,
        Field::DestinationPort if ports => packet.destination_port as u32,
        Field::SourcePort if ports => packet.source_port as u32,
        Field::DestinationPort | Field::SourcePort => NO_PORT,
        Field::TcpFlags if tcp => packet.tcp_flags as u32,
        Field::TcpFlags => NO_FLAGS,
        Field::IcmpType => icmp_index(packet, v6),
        Field::Vlan => packet.vlan as u32,
        Field::Interface => at.interface,
        Field::Length if packet.ip_length > 0xffff => 0xffff,
        Field::Length => packet.ip_length,
        Field::Ttl => packet.ttl as u32,
        Field::Fragment => packet.fragment as u32,
        Field::TcpWindow if !tcp => NO_WINDOW,
        Field::TcpWindow if packet.payload == UNSEEN => ANY_WINDOW,
        Field::TcpWindow if packet.is(mark::ICMP_ERROR) => NO_WINDOW,
        Field::TcpWindow => packet.tcp_window as u32,
        Field::Payload => patterns,
    };
    let class = packed(tables, table, value);
    tables.set_class(field, class);
}

/// The class of an address.
#[inline(always)]
fn address<T: Tables>(address: Address, v6: bool, table: u32, v6_table: u32, tables: &T) -> u32 {
    if v6 {
        image::row_v6(tables, v6_table, address)
    } else {
        image::row_v4(tables, table, address.as_v4())
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
