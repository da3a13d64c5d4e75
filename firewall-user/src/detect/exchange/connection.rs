//! A TCP connection, as far as a few of its packets tell: sequence numbers say how many bytes each
//! side had sent by then, whether those bytes were seen or not.

use firewall_common::packet::flag;

use super::{Attempt, Event, Outcome, Parties, Probe};
use crate::detect::{Sighting, Time};

/// More than this was not sent: the numbers belong to something else.
const PLAUSIBLE: u32 = 1 << 31;

/// A connection that was accepted.
#[derive(Clone, Copy, Debug)]
pub(in crate::detect) struct Connection {
    pub opened: Time,
    /// When a packet of it was last seen.
    pub seen: Time,
    /// Begun from outside.
    pub inbound: bool,
    /// One side has ended it.
    pub closing: bool,
    /// What became of it was told.
    told: bool,
    ttl: u8,
    /// TTL of the client's latest packet after the handshake: it knew the server's number, so it is who
    /// it says.
    pub proven_ttl: Option<u8>,
    client_start: u32,
    server_start: u32,
    /// Bytes that the client, and the server, had sent when last seen.
    pub client_sent: u32,
    pub server_sent: u32,
    /// How many they had sent with their FIN, which takes up a number of its own.
    client_end: Option<u32>,
    server_end: Option<u32>,
}

/// A connection that came to its end.
#[derive(Clone, Copy, Debug)]
pub(in crate::detect) struct Session {
    pub parties: Parties,
    pub opened: Time,
    pub ended: Time,
    pub client_sent: u32,
    pub server_sent: u32,
    pub proven_ttl: Option<u8>,
}

impl Connection {
    /// The connection that a SYN-ACK makes of the contact whose sequence number was `client_start`.
    pub fn new(accepted: &Sighting, client_start: u32, inbound: bool, ttl: u8) -> Self {
        Self {
            opened: accepted.time,
            seen: accepted.time,
            inbound,
            closing: false,
            told: false,
            ttl,
            proven_ttl: None,
            client_start: client_start.wrapping_add(1),
            server_start: sequence(accepted).wrapping_add(1),
            client_sent: 0,
            server_sent: 0,
            client_end: None,
            server_end: None,
        }
    }

    /// Whether a SYN is the one that it began with, sent again.
    pub fn began_with(&self, syn: &Sighting) -> bool {
        sequence(syn).wrapping_add(1) == self.client_start
    }

    /// Learns from one of its packets how far both sides are.
    pub fn learn(&mut self, sighting: &Sighting, by_client: bool) {
        self.seen = self.seen.max(sighting.time);
        let length = sighting.payload_length();
        let sent = sequence(sighting).wrapping_add(length);
        let acknowledged = (sighting.packet.tcp_flags & flag::ACK != 0)
            .then(|| number(sighting, 8))
            .flatten();
        let (own_start, other_start) = if by_client {
            (self.client_start, self.server_start)
        } else {
            (self.server_start, self.client_start)
        };
        let own = sent.wrapping_sub(own_start);
        let other = acknowledged.map(|number| number.wrapping_sub(other_start));
        let plausible = |count: u32| if count < PLAUSIBLE { count } else { 0 };
        let (client, server) = if by_client {
            if other.is_some_and(|other| other < PLAUSIBLE) {
                self.proven_ttl = Some(sighting.packet.ttl);
            }
            (own, other.unwrap_or(0))
        } else {
            (other.unwrap_or(0), own)
        };
        if sighting.packet.tcp_flags & flag::FIN != 0 {
            let end = if by_client {
                &mut self.client_end
            } else {
                &mut self.server_end
            };
            *end = end.or(Some(plausible(own)));
        }
        let up_to = |count: u32, end: Option<u32>| end.map_or(count, |end| count.min(end));
        self.client_sent = up_to(self.client_sent.max(plausible(client)), self.client_end);
        self.server_sent = up_to(self.server_sent.max(plausible(server)), self.server_end);
    }

    /// Tells, once, what became of the attempt to connect.
    pub fn told(&mut self, parties: Parties, outcome: Outcome, tell: &mut impl FnMut(Event)) {
        if self.inbound && !std::mem::replace(&mut self.told, true) {
            tell(Event::Attempt(Attempt {
                time: self.opened,
                parties,
                probe: Probe::Ordinary,
                outcome,
                ttl: self.ttl,
            }));
        }
    }

    /// Tells of its end.
    pub fn finish(&mut self, parties: Parties, ended: Time, tell: &mut impl FnMut(Event)) {
        let session = Session {
            parties,
            opened: self.opened,
            ended,
            client_sent: self.client_sent,
            server_sent: self.server_sent,
            proven_ttl: self.proven_ttl,
        };
        let used = session.client_sent > 0 || session.server_sent > 0;
        let outcome = if used {
            Outcome::Answered
        } else {
            Outcome::Unused
        };
        self.told(parties, outcome, tell);
        if self.inbound {
            tell(Event::Ended(session));
        }
    }
}

/// A segment's sequence number; 0 for what is no segment.
pub(super) fn sequence(sighting: &Sighting) -> u32 {
    number(sighting, 4).unwrap_or(0)
}

fn number(sighting: &Sighting, offset: usize) -> Option<u32> {
    let at = sighting.packet.transport as usize + offset;
    let bytes = sighting.frame().get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}
