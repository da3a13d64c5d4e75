//! The classes of a packet's fields: what the rules of a direction tell apart of each.

use super::payload::Packets;
use super::{Circumstances, Tables, payload};
use crate::address_table;
use crate::image::{
    self, ANY_WINDOW, Field, ICMP_TYPES, NO_ICMP, NO_PORT, NO_WINDOW, TCP_FLAGS, constant, packed,
};
use crate::packet::{Packet, UNSEEN, mark, protocol};
use crate::{Address, Direction};

/// Finds the class of each field but source and payload, 0 for one that no rule looks at, and leaves it
/// with [`Tables::set_class`] under the field's number.
#[inline(always)]
pub(super) fn classify<T: Tables>(
    packet: &Packet,
    at: Circumstances,
    direction: Direction,
    tables: &mut T,
) {
    // Spelled out: a loop would ask for every field of every packet whether a rule looks at it, which
    // is known when the program is loaded.
    find(Field::Destination, packet, at, direction, tables);
    find(Field::Protocol, packet, at, direction, tables);
    find(Field::DestinationPort, packet, at, direction, tables);
    find(Field::SourcePort, packet, at, direction, tables);
    find(Field::Vlan, packet, at, direction, tables);
    find(Field::Interface, packet, at, direction, tables);
    find(Field::Length, packet, at, direction, tables);
    find(Field::Ttl, packet, at, direction, tables);
    find(Field::Fragment, packet, at, direction, tables);
    find(Field::TcpWindow, packet, at, direction, tables);
}

/// Finds the class of the source.
#[inline(always)]
pub(super) fn source<T: Tables>(packet: &Packet, direction: Direction, tables: &mut T) {
    let table = tables.constant(direction, constant::TABLES + Field::Source as usize);
    if table != 0 {
        let v6_table = tables.constant(direction, constant::SOURCE_V6);
        let class = of_address(packet.source, packet.is(mark::V6), table, v6_table, tables);
        tables.set_class(Field::Source, class);
    }
}

/// Finds the class of the payload.
#[inline(always)]
pub(super) fn payload<T: Tables>(
    packet: &Packet,
    direction: Direction,
    packets: Packets,
    tables: &mut T,
) {
    let table = tables.constant(direction, constant::TABLES + Field::Payload as usize);
    if table != 0 {
        let shown = payload::patterns(packet, packets, direction, tables);
        let class = packed(tables, table, shown);
        tables.set_class(Field::Payload, class);
    }
}

/// Finds the class of one field, if any rule looks at it.
#[inline(always)]
fn find<T: Tables>(
    field: Field,
    packet: &Packet,
    at: Circumstances,
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
        Field::Destination => {
            let v6_table = tables.constant(direction, constant::DESTINATION_V6);
            let class = of_address(packet.destination, v6, table, v6_table, tables);
            return tables.set_class(field, class);
        }
        Field::Protocol => protocol_index(packet, v6, tcp, direction, tables),
        Field::DestinationPort if ports => packet.destination_port as u32,
        Field::SourcePort if ports => packet.source_port as u32,
        Field::DestinationPort | Field::SourcePort => NO_PORT,
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
        // These have functions of their own.
        Field::Source | Field::Payload => return,
    };
    let class = packed(tables, table, value);
    tables.set_class(field, class);
}

/// The index of a packet's protocol, with the TCP flags or the ICMP type if rules look at them.
#[inline(always)]
fn protocol_index<T: Tables>(
    packet: &Packet,
    v6: bool,
    tcp: bool,
    direction: Direction,
    tables: &T,
) -> u32 {
    let family = (v6 as u32) << 8;
    if tables.constant(direction, constant::LOOKS_AT_FLAGS) != 0 && tcp {
        return TCP_FLAGS | family | packet.tcp_flags as u32;
    }
    if tables.constant(direction, constant::LOOKS_AT_TYPES) != 0 {
        let index = icmp_index(packet, v6);
        if index != NO_ICMP {
            return ICMP_TYPES | index;
        }
    }
    family | packet.protocol as u32
}

/// The class of an address, by the table of its family.
#[inline(always)]
pub(super) fn of_address<T: Tables>(
    address: Address,
    v6: bool,
    table: u32,
    v6_table: u32,
    tables: &T,
) -> u32 {
    match v6 {
        true if address_table::is_high(v6_table) => tables.far_class(v6_table, true, address),
        true => image::row_v6(tables, v6_table, address),
        false if address_table::is_high(table) => tables.far_class(table, false, address),
        false => image::row_v4(tables, table, address.as_v4()),
    }
}

/// The index of an ICMP type by family, or [`NO_ICMP`]. An error that is judged by its quote has the type of the answer that
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
