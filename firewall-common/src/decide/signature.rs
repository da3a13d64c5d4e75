//! Signatures of floods, ahead of the rules: temporary, and put in force without loading a policy.

use super::{Judgement, Step, Tables, is_protected, payload};
use crate::packet::Packet;
use crate::signature::{PAYLOAD, PAYLOADS, SLOTS};
use crate::{Direction, Reason, Verdict};

/// Counters of the places of signatures. They follow those of what is only observed.
pub const FIRST_COUNTER: u32 = 24;

/// The judgement on an inbound packet that fits a signature in force. A protected source is
/// spared, and a policy that only observes counts and goes on.
#[inline(always)]
pub(super) fn judge<T: Tables>(
    packet: &Packet,
    now: u64,
    observe: bool,
    tables: &mut T,
) -> Option<Judgement> {
    let state = tables.signatures();
    if state == 0 {
        return None;
    }
    let mut bytes = [0_u64; 2];
    let mut length = 0;
    if state & PAYLOADS != 0
        && let Some(header) = payload::header(packet, Direction::Inbound, tables)
        && header < packet.payload
    {
        let rest = packet.payload - header;
        // Between 1 and 16, in a form that the verifier sees.
        let most = if rest > PAYLOAD { PAYLOAD } else { rest };
        let wanted = ((most - 1) & (PAYLOAD - 1)) + 1;
        if let Some(found) = tables.bytes(Direction::Inbound, packet.transport + header, wanted) {
            bytes = found;
            length = wanted;
        }
    }
    let slot = tables.signature(packet, now, bytes, length);
    if slot >= SLOTS as u32 {
        return None;
    }
    let counter = FIRST_COUNTER + slot;
    let spared = is_protected(packet.sender, tables);
    tables.step(Step::Signature { counter, spared });
    if spared {
        return None;
    }
    tables.hit(counter, packet.length);
    if observe {
        return None;
    }
    Some(Judgement::new(Verdict::Drop, Reason::Signature, counter))
}
