//! Connections: who may create an entry, and what belongs to one.
//!
//! Only the inside creates state: an outgoing SYN, an outgoing datagram or echo request whose
//! answer no inbound rule admits anyway, and a TCP packet for which the host has an established
//! socket. A flood from outside, whatever its source addresses, enters nothing.

use super::payload::Packets;
use super::{Circumstances, Judgement, Known, Socket, Step, Tables, continues, rules};
use crate::image::Record;
use crate::layout::{CONNECTION_ASSURED, CONNECTION_CLOSING, Connection, FlowKey, NO_RULE};
use crate::packet::{Fragment, Packet, UNSEEN, flag, mark, protocol};
use crate::{Direction, Reason, Verdict};

const SECOND: u64 = 1_000_000_000;
/// How long an entry lives without a packet, in nanoseconds: TCP after packets both ways. A live
/// connection that idles longer is found again by its socket.
pub const TCP_TIMEOUT: u64 = 7_440 * SECOND;
/// TCP with nothing but the SYN.
pub const TCP_OPENING_TIMEOUT: u64 = 120 * SECOND;
/// TCP after FIN or RST.
pub const TCP_CLOSING_TIMEOUT: u64 = 60 * SECOND;
/// UDP with no answer yet (RFC 4787 asks for 120 s or more once answered).
pub const UDP_TIMEOUT: u64 = 30 * SECOND;
/// UDP after packets both ways.
pub const UDP_ASSURED_TIMEOUT: u64 = 180 * SECOND;
/// ICMP echo.
pub const ECHO_TIMEOUT: u64 = 30 * SECOND;

/// An entry's time is written only when it is older than this, so that a busy connection does not
/// dirty its cache line with every packet.
const REFRESH: u64 = SECOND;

/// The key of the connection that a packet belongs or would belong to.
#[inline(always)]
pub fn flow_key(packet: &Packet, direction: Direction) -> FlowKey {
    let echo = packet.is(mark::ECHO_REQUEST) || packet.is(mark::ECHO_REPLY);
    let inward = direction as u32 == Direction::Inbound as u32;
    let (local, remote) = if inward {
        (packet.destination, packet.source)
    } else {
        (packet.source, packet.destination)
    };
    let (local_port, remote_port) = if echo {
        (packet.source_port, 0)
    } else if inward {
        (packet.destination_port, packet.source_port)
    } else {
        (packet.source_port, packet.destination_port)
    };
    FlowKey {
        local,
        remote,
        local_port,
        remote_port,
        protocol: packet.protocol,
        reserved: [0; 3],
    }
}

/// What an inbound packet is to the connections of this host.
pub(super) enum Standing {
    /// It belongs to one that is in the table.
    Connection(Judgement),
    /// It belongs to one that the table does not have and the host has a socket for.
    Socket(Socket),
    /// It belongs to none.
    Stranger,
}

/// Finds the connection that an inbound packet belongs to.
#[inline(always)]
pub(super) fn inbound<T: Tables>(packet: &Packet, at: Circumstances, tables: &mut T) -> Standing {
    if may_belong(packet, Direction::Inbound) {
        let key = flow_key(packet, Direction::Inbound);
        if let Some(rule) = known(packet, &key, true, at, tables) {
            tables.step(Step::Established(Known::Table));
            return Standing::Connection(belongs(packet, rule, tables));
        }
        if packet.protocol == protocol::TCP {
            let socket = tables.socket(&key);
            if socket as u32 != Socket::None as u32 {
                if socket as u32 != Socket::Unproven as u32 {
                    tables.step(Step::Established(Known::Socket));
                }
                return Standing::Socket(socket);
            }
        }
    }
    tables.step(Step::Established(Known::No));
    Standing::Stranger
}

/// The judgement on an inbound packet that the host has a socket for: it passes, and once the
/// connection is established it is entered.
/// The rule that would admit it answers for it, so that its packets are counted there; a rule that
/// drops does not cut what is established.
#[inline(always)]
pub(super) fn by_socket<T: Tables>(
    packet: &Packet,
    at: Circumstances,
    socket: Socket,
    first: Record,
    tables: &mut T,
) -> Judgement {
    let rule = if first.accepts() {
        first.counter
    } else {
        NO_RULE
    };
    if socket as u32 == Socket::Established as u32 && !packet.is(mark::ICMP_ERROR) {
        let connection = Connection {
            last_seen: at.now,
            rule,
            flags: CONNECTION_ASSURED,
        };
        tables.insert_connection(&flow_key(packet, Direction::Inbound), connection);
    }
    belongs(packet, rule, tables)
}

/// The judgement on an outbound packet that belongs to a connection.
#[inline(always)]
pub(super) fn outbound<T: Tables>(
    packet: &Packet,
    at: Circumstances,
    tables: &mut T,
) -> Option<Judgement> {
    if !may_belong(packet, Direction::Outbound) {
        tables.step(Step::Established(Known::No));
        return None;
    }
    let key = flow_key(packet, Direction::Outbound);
    let Some(rule) = known(packet, &key, false, at, tables) else {
        tables.step(Step::Established(Known::No));
        return None;
    };
    tables.step(Step::Established(Known::Table));
    Some(belongs(packet, rule, tables))
}

/// Whether an outbound packet that passes opens a connection.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    No = 0,
    Yes = 1,
    /// Unless an inbound rule, or the default, admits the answers anyway.
    UnlessAdmitted = 2,
}

/// What an outbound packet opens if it passes.
#[inline(always)]
pub(super) fn opening(packet: &Packet) -> Opening {
    if packet.is(mark::ICMP_ERROR) || packet.fragment as u8 == Fragment::Later as u8 {
        return Opening::No;
    }
    match packet.protocol {
        protocol::TCP if packet.is_syn() => Opening::Yes,
        protocol::UDP | protocol::UDPLITE if packet.is(mark::PORTS) => Opening::UnlessAdmitted,
        protocol::ICMP | protocol::ICMPV6 if packet.is(mark::ECHO_REQUEST) => Opening::Yes,
        _ => Opening::No,
    }
}

/// Enters the connection that a passing outbound packet opens.
#[inline(always)]
pub(super) fn open<T: Tables>(packet: &Packet, at: Circumstances, rule: u32, tables: &mut T) {
    let key = flow_key(packet, Direction::Outbound);
    tables.insert_connection(
        &key,
        Connection {
            last_seen: at.now,
            rule,
            flags: 0,
        },
    );
}

/// Whether an outbound packet can be the answer to one that an inbound rule admits (the SYN-ACK and
/// later segments of a visitor's connection, a server's datagram).
#[inline(always)]
pub(super) fn may_answer(packet: &Packet) -> bool {
    let answers = match packet.protocol {
        protocol::TCP => !packet.is_syn(),
        protocol::UDP | protocol::UDPLITE | protocol::SCTP | protocol::DCCP => true,
        protocol::ICMP | protocol::ICMPV6 => {
            packet.is(mark::ECHO_REPLY) || packet.is(mark::ICMP_ERROR)
        }
        _ => packet.is(mark::ICMP_ERROR),
    };
    answers && packet.fragment as u8 != Fragment::Later as u8
}

/// The inbound rule, if any, that decides about the packets of the other direction: of those that an answer
/// answers, or of the answers to come.
#[inline(always)]
pub(super) fn reverse<T: Tables>(
    packet: &Packet,
    reversed: &mut Packet,
    is_answer: bool,
    at: Circumstances,
    tables: &mut T,
) -> Record {
    turn_round(packet, reversed);
    // What an answer will hold is not known: no rule that looks at it can be counted on. What was
    // answered is not known either, but some rule let it in.
    reversed.payload = if is_answer { UNSEEN } else { 0 };
    rules::first_match(
        reversed,
        at,
        Direction::Inbound,
        Packets::Unseen,
        false,
        tables,
    )
}

/// The judgement on an outbound packet that answers what a rule admits.
#[inline(always)]
pub(super) fn answer<T: Tables>(packet: &Packet, rule: u32, tables: &mut T) -> Judgement {
    tables.step(Step::Established(Known::ReplyToAdmitted));
    belongs(packet, rule, tables)
}

/// Makes the packet of the other direction: addresses and ports swapped.
#[inline(always)]
fn turn_round(packet: &Packet, reversed: &mut Packet) {
    *reversed = *packet;
    reversed.source = packet.destination;
    reversed.destination = packet.source;
    reversed.sender = packet.destination;
    if packet.is(mark::PORTS) {
        reversed.source_port = packet.destination_port;
        reversed.destination_port = packet.source_port;
    }
    if packet.is(mark::ECHO_REPLY) {
        reversed.marks = packet.marks & !mark::ECHO_REPLY | mark::ECHO_REQUEST;
        reversed.icmp_type = if packet.is(mark::V6) { 128 } else { 8 };
    } else if packet.protocol == protocol::TCP {
        // What was answered: the opening, or a segment after it.
        let opening = packet.tcp_flags & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK;
        reversed.tcp_flags = if opening { flag::SYN } else { flag::ACK };
    }
}

/// Whether a packet can be part of a connection that was opened before it.
#[inline(always)]
fn may_belong(packet: &Packet, direction: Direction) -> bool {
    if packet.fragment as u8 == Fragment::Later as u8 {
        return false;
    }
    match packet.protocol {
        protocol::TCP => packet.is(mark::PORTS) && continues(packet),
        protocol::UDP | protocol::UDPLITE => packet.is(mark::PORTS),
        protocol::ICMP | protocol::ICMPV6 => {
            if direction as u32 == Direction::Inbound as u32 {
                packet.is(mark::ECHO_REPLY)
            } else {
                packet.is(mark::ECHO_REQUEST)
            }
        }
        _ => false,
    }
}

/// The rule of a live entry; notes that a packet was seen.
#[inline(always)]
fn known<T: Tables>(
    packet: &Packet,
    key: &FlowKey,
    inward: bool,
    at: Circumstances,
    tables: &mut T,
) -> Option<u32> {
    let error = packet.is(mark::ICMP_ERROR);
    tables
        .with_connection(key, |connection| {
            let idle = at.now.saturating_sub(connection.last_seen);
            if idle > timeout(key.protocol, connection.flags) {
                return None;
            }
            if !error {
                let mut flags = connection.flags;
                if inward {
                    flags |= CONNECTION_ASSURED;
                }
                if packet.protocol == protocol::TCP
                    && packet.tcp_flags & (flag::FIN | flag::RST) != 0
                {
                    flags |= CONNECTION_CLOSING;
                }
                if flags != connection.flags {
                    connection.flags = flags;
                }
                if idle > REFRESH {
                    connection.last_seen = at.now;
                }
            }
            Some(connection.rule)
        })
        .flatten()
}

#[inline(always)]
const fn timeout(protocol: u8, flags: u32) -> u64 {
    match protocol {
        protocol::TCP => {
            if flags & CONNECTION_CLOSING != 0 {
                TCP_CLOSING_TIMEOUT
            } else if flags & CONNECTION_ASSURED != 0 {
                TCP_TIMEOUT
            } else {
                TCP_OPENING_TIMEOUT
            }
        }
        protocol::UDP | protocol::UDPLITE => {
            if flags & CONNECTION_ASSURED != 0 {
                UDP_ASSURED_TIMEOUT
            } else {
                UDP_TIMEOUT
            }
        }
        _ => ECHO_TIMEOUT,
    }
}

#[inline(always)]
pub(super) fn belongs<T: Tables>(packet: &Packet, rule: u32, tables: &mut T) -> Judgement {
    if rule != NO_RULE {
        tables.hit(rule, packet.length);
    }
    Judgement::new(Verdict::Pass, Reason::Established, rule)
}
