//! What came of each first contact, and of each connection: from a sample of packets, the exchanges
//! behind them.
//!
//! A first contact waits for its answer; what it came to is an [`Attempt`]. A TCP connection is
//! followed to its end, a [`Session`]: sequence numbers tell how much each side sent, however few of its
//! packets were seen. Memory is bounded: the oldest makes room.

mod connection;
mod parties;

use std::collections::VecDeque;

use firewall_common::Address;
use firewall_common::packet::{Kind, Packet, flag, mark, protocol};
use firewall_common::sampling::Class;
use firewall_common::{Direction, Reason, Verdict};

use super::fifo::Fifo;
use super::sources::Interval;
use super::{Sighting, Time};

pub(super) use connection::{Connection, Session};
pub(super) use parties::Parties;

/// How long an answer is waited for; and to what was dropped, to which one comes in recordings only.
const PATIENCE: Time = 2_000_000_000;
const PATIENCE_IF_DROPPED: Time = 500_000_000;
/// A connection that was not seen for so long is forgotten.
const FORGOTTEN: Time = 1_800_000_000_000;
/// After a gap of this length, nobody knows what came in it.
const GAP: Time = 120_000_000_000;
/// For so long one answer shows that answers can be seen.
const SHOWN: Time = 3_600_000_000_000;
/// For so long after an answer may have been left out, none is missed.
const THINNED: Time = 4_000_000_000;

/// Contacts that wait, and datagrams that are remembered.
const CONTACTS: usize = 1 << 15;
/// Connections that are followed.
const CONNECTIONS: usize = 1 << 16;

const ARRANGEMENTS: usize = 1 << 12;

/// Ports whose services arrange further connections: FTP, portmap, RPC, RTSP, SIP.
const ARRANGING: [u16; 5] = [21, 111, 135, 554, 5060];

/// What a first contact looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// A SYN, a datagram, an echo request: what clients send too.
    Ordinary,
    /// A segment of a connection that nobody knows.
    Stray,
    /// What no client sends, and its flags: a segment with neither SYN nor ACK, or with SYN and FIN.
    Impossible(u8),
}

/// What became of a first contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Something came back, and use was made of it.
    Answered,
    /// A connection that was given up before a byte was sent.
    Unused,
    /// A RST, or an ICMP error.
    Refused,
    /// Dropped by the policy, and nothing came back.
    Dropped,
    /// Let through, and nothing came back where answers can be seen.
    Unanswered,
    /// Let through, and nothing came back where answers were never seen.
    Unknown,
}

/// A first contact and what it came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub time: Time,
    pub parties: Parties,
    pub probe: Probe,
    pub outcome: Outcome,
    /// TTL or hop limit of the contact; 0 when only its refusal was seen.
    pub ttl: u8,
}

impl Attempt {
    /// Whether it came to nothing, or could not come to anything.
    pub fn is_in_vain(&self) -> bool {
        let failed = matches!(
            self.outcome,
            Outcome::Refused | Outcome::Dropped | Outcome::Unanswered
        );
        failed || matches!(self.probe, Probe::Impossible(_))
    }
}

/// What is told of exchanges.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Attempt(Attempt),
    Ended(Session),
}

/// All exchanges under way.
#[derive(Debug)]
pub(super) struct Exchanges {
    waiting: Fifo<Parties, Contact>,
    dropped: Fifo<Parties, Contact>,
    /// Datagrams and echoes that were seen before, so that an answer is not taken for a contact.
    met: Fifo<Parties, ()>,
    connections: Fifo<Parties, Connection>,
    /// Connections of which it is not yet known whether use is made of them.
    fresh: VecDeque<(Time, Parties)>,
    /// When the latest answer came.
    answered: Option<Time>,
    /// When answers were last thinned out.
    thinned: Option<Time>,
    /// Time went on without anybody looking.
    gap: bool,
    /// Who has a connection to a service that arranges further ones.
    arranging: Fifo<(Address, Address), ()>,
}

/// A first contact without an answer so far.
#[derive(Clone, Copy, Debug)]
struct Contact {
    time: Time,
    probe: Probe,
    inbound: bool,
    ttl: u8,
    sequence: u32,
}

impl Exchanges {
    pub fn new() -> Self {
        Self {
            waiting: Fifo::new(CONTACTS),
            dropped: Fifo::new(CONTACTS),
            met: Fifo::new(CONTACTS),
            connections: Fifo::new(CONNECTIONS),
            fresh: VecDeque::new(),
            answered: None,
            thinned: None,
            gap: false,
            arranging: Fifo::new(ARRANGEMENTS),
        }
    }

    /// Forgets everything, because time has been lost.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// The connections from outside that are open, as far as was seen.
    pub fn open(&self) -> impl Iterator<Item = (&Parties, &Connection)> {
        self.connections
            .iter()
            .filter(|(_, connection)| connection.inbound)
    }

    /// Whether these two have, or lately had, a connection that arranges others.
    pub fn arranges(&self, parties: &Parties) -> bool {
        self.arranging.contains(&(parties.client, parties.server))
    }

    /// Takes a packet in.
    pub fn see(&mut self, sighting: &Sighting, tell: &mut impl FnMut(Event)) {
        let packet = &sighting.packet;
        if packet.kind != Kind::Ip || matches!(sighting.reason, Reason::Malformed | Reason::Link) {
            return;
        }
        if sighting.class == Class::Control && sighting.packets > 1 {
            self.thinned = Some(sighting.time);
        }
        if packet.is(mark::ICMP_ERROR) {
            self.refused(sighting, tell);
        } else if packet.protocol == protocol::TCP && packet.is(mark::PORTS) {
            self.segment(sighting, tell);
        } else {
            self.datagram(sighting, tell);
        }
    }

    /// Gives up waiting where it has been long enough.
    pub fn settle(&mut self, interval: Interval, tell: &mut impl FnMut(Event)) {
        let Interval { from, now } = interval;
        self.gap = now.saturating_sub(from) > GAP;
        let late = now.saturating_sub(PATIENCE);
        while let Some((parties, contact)) = self.waiting.pop_if(|contact| contact.time < late) {
            let outcome = self.without_answer(&contact, parties.protocol);
            attempted(tell, parties, &contact, outcome);
        }
        let soon = now.saturating_sub(PATIENCE_IF_DROPPED);
        while let Some((parties, contact)) = self.dropped.pop_if(|contact| contact.time < soon) {
            attempted(tell, parties, &contact, Outcome::Dropped);
        }
        while let Some((opened, parties)) = self.fresh.front().copied() {
            if opened >= late {
                break;
            }
            self.fresh.pop_front();
            if let Some(connection) = self.connections.get_mut(&parties)
                && connection.opened == opened
            {
                connection.told(parties, Outcome::Answered, tell);
            }
        }
        let forgotten = now.saturating_sub(FORGOTTEN);
        while self
            .connections
            .pop_if(|connection| connection.seen < forgotten)
            .is_some()
        {}
    }

    fn segment(&mut self, sighting: &Sighting, tell: &mut impl FnMut(Event)) {
        let packet = &sighting.packet;
        let flags = packet.tcp_flags;
        let parties = Parties::of(packet);
        if packet.is_syn() {
            // A new connection over the same ports.
            if let Some(connection) = self.connections.get(&parties) {
                if connection.began_with(sighting) {
                    return;
                }
                self.connections.remove(&parties);
            }
            self.contact(sighting, parties);
        } else if flags & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK {
            self.accepted(sighting, parties.turned());
        } else if self.known(sighting, parties, tell) {
            // It has been learned from.
        } else if flags & flag::RST != 0 {
            self.refused(sighting, tell);
        } else if flags & flag::ACK == 0 || flags & (flag::SYN | flag::FIN) == flag::SYN | flag::FIN
        {
            // It says enough by itself; what it is answered is its own affair.
            self.met.insert(parties, ());
            if !answers(packet) && !is_for_many(packet) {
                let contact = Contact::new(sighting, Probe::Impossible(flags));
                attempted(tell, parties, &contact, Outcome::Unknown);
            }
        } else if decided_against(sighting) && !answers(packet) {
            let contact = Contact::new(sighting, Probe::Stray);
            attempted(tell, parties, &contact, Outcome::Dropped);
        }
    }

    /// A segment of a connection that is followed, in either direction.
    fn known(
        &mut self,
        sighting: &Sighting,
        parties: Parties,
        tell: &mut impl FnMut(Event),
    ) -> bool {
        for (parties, by_client) in [(parties, true), (parties.turned(), false)] {
            let Some(connection) = self.connections.get_mut(&parties) else {
                continue;
            };
            connection.learn(sighting, by_client);
            let flags = sighting.packet.tcp_flags;
            // After the first FIN the other side may go on sending, but hardly does.
            let over = flags & flag::RST != 0 || (flags & flag::FIN != 0 && connection.closing);
            connection.closing |= flags & flag::FIN != 0;
            if over && let Some(mut connection) = self.connections.remove(&parties) {
                connection.finish(parties, sighting.time, tell);
            }
            return true;
        }
        false
    }

    /// A SYN-ACK.
    fn accepted(&mut self, sighting: &Sighting, parties: Parties) {
        let Some(contact) = self.take_waiting(&parties) else {
            return;
        };
        self.answered = Some(sighting.time);
        if ARRANGING.contains(&parties.server_port) {
            self.arranging.insert((parties.client, parties.server), ());
        }
        let connection = Connection::new(sighting, contact.sequence, contact.inbound, contact.ttl);
        self.fresh.push_back((connection.opened, parties));
        if self.fresh.len() > CONTACTS {
            self.fresh.pop_front();
        }
        self.connections.insert(parties, connection);
    }

    /// A RST that belongs to no connection, or an ICMP error.
    fn refused(&mut self, sighting: &Sighting, tell: &mut impl FnMut(Event)) {
        let packet = &sighting.packet;
        let parties = Parties::of(packet).turned();
        if packet.is(mark::ICMP_ERROR) && !is_unreachable(packet) {
            return;
        }
        if let Some(contact) = self.take_waiting(&parties) {
            self.answered = Some(sighting.time);
            attempted(tell, parties, &contact, Outcome::Refused);
        } else if sighting.direction == Direction::Outbound
            && is_refusal(packet)
            && !self.met.contains(&parties)
        {
            // What it refuses looked like a segment of a connection, or was not shown. Only this host is
            // believed: anybody may send refusals in.
            let contact = Contact {
                inbound: true,
                ttl: 0,
                ..Contact::new(sighting, Probe::Stray)
            };
            attempted(tell, parties, &contact, Outcome::Refused);
        }
    }

    /// Anything but TCP.
    fn datagram(&mut self, sighting: &Sighting, tell: &mut impl FnMut(Event)) {
        let parties = Parties::of(&sighting.packet);
        let turned = parties.turned();
        if let Some(contact) = self.take_waiting(&turned) {
            attempted(tell, turned, &contact, Outcome::Answered);
        }
        if self.met.contains(&turned) || self.met.contains(&parties) || !is_contact(sighting) {
            return;
        }
        self.met.insert(parties, ());
        self.contact(sighting, parties);
    }

    fn contact(&mut self, sighting: &Sighting, parties: Parties) {
        // One that is banned or over a limit would have got its answer otherwise.
        if matches!(sighting.reason, Reason::Ban | Reason::Limit)
            || is_for_many(&sighting.packet)
            || self.waiting.contains(&parties)
            || self.dropped.contains(&parties)
        {
            return;
        }
        let waiting = match sighting.verdict {
            Verdict::Drop => &mut self.dropped,
            Verdict::Pass => &mut self.waiting,
        };
        waiting.insert(parties, Contact::new(sighting, Probe::Ordinary));
    }

    fn take_waiting(&mut self, parties: &Parties) -> Option<Contact> {
        let contact = self.waiting.remove(parties);
        contact.or_else(|| self.dropped.remove(parties))
    }

    fn without_answer(&self, contact: &Contact, protocol: u8) -> Outcome {
        let within = |moment: Option<Time>, reach: Time| {
            moment.is_some_and(|moment| contact.time.abs_diff(moment) <= reach)
        };
        if protocol == protocol::TCP
            && within(self.answered, SHOWN)
            && !self.gap
            && !within(self.thinned, THINNED)
        {
            Outcome::Unanswered
        } else {
            Outcome::Unknown
        }
    }
}

impl Contact {
    fn new(sighting: &Sighting, probe: Probe) -> Self {
        Self {
            time: sighting.time,
            probe,
            inbound: sighting.direction == Direction::Inbound,
            ttl: sighting.packet.ttl,
            sequence: connection::sequence(sighting),
        }
    }
}

/// Tells of an attempt from outside.
fn attempted(tell: &mut impl FnMut(Event), parties: Parties, contact: &Contact, outcome: Outcome) {
    if contact.inbound {
        tell(Event::Attempt(Attempt {
            time: contact.time,
            parties,
            probe: contact.probe,
            outcome,
            ttl: contact.ttl,
        }));
    }
}

/// Whether a policy dropped it, and not what was done about its source.
fn decided_against(sighting: &Sighting) -> bool {
    sighting.verdict == Verdict::Drop && matches!(sighting.reason, Reason::Rule | Reason::Default)
}

/// From a service's port to a client's: rather an answer than a contact.
fn answers(packet: &Packet) -> bool {
    packet.source_port < 1024 && packet.destination_port >= 1024
}

/// A datagram or a protocol that opens something.
fn is_contact(sighting: &Sighting) -> bool {
    let packet = &sighting.packet;
    match sighting.class {
        Class::Contact => true,
        Class::Query | Class::Log => {
            packet.is(mark::ECHO_REQUEST)
                || (packet.is(mark::PORTS) && packet.destination_port < 1024)
        }
        _ => false,
    }
}

/// Multicast and broadcast are heard by many, and answered by few.
fn is_for_many(packet: &Packet) -> bool {
    let to = packet.destination;
    if to.is_v4() {
        to.as_v4() >> 28 >= 0xe || to.as_v4() & 0xff == 0xff
    } else {
        to.high >> 56 == 0xff
    }
}

/// An ICMP error that says that something cannot be reached, for whatever reason.
fn is_unreachable(packet: &Packet) -> bool {
    packet.icmp_type == if packet.is(mark::V6) { 1 } else { 3 }
}

/// Nobody listens, or somebody forbids it; not that a host or network cannot be reached.
fn is_refusal(packet: &Packet) -> bool {
    if !packet.is(mark::ICMP_ERROR) {
        packet.is(mark::REFUSAL)
    } else if packet.is(mark::V6) {
        packet.icmp_type == 1 && matches!(packet.icmp_code, 1 | 4)
    } else {
        packet.icmp_type == 3 && matches!(packet.icmp_code, 2 | 3 | 9 | 10 | 13)
    }
}
