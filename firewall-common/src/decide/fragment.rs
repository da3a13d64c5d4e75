//! Later fragments follow the first: see [`crate::fragments`].

use super::{Circumstances, Judgement, Step, Tables};
use crate::fragments::{self, DatagramKey, Follows};
use crate::packet::{Kind, Packet};
use crate::{Direction, Verdict};

/// What a packet is to datagrams of which the first fragment was let through.
#[inline(always)]
pub(super) fn follow<T: Tables>(
    packet: &Packet,
    at: Circumstances,
    direction: Direction,
    tables: &mut T,
) -> Follows {
    if !fragments::may_follow(packet) {
        return Follows::None;
    }
    let key = DatagramKey::of(packet, direction);
    let set = key.set(tables.seed());
    let follows = match tables.datagrams(set) {
        Some(set) => fragments::follows(set, &key, packet, at.now),
        None => Follows::None,
    };
    tables.step(Step::Fragment(follows));
    follows
}

/// Remembers a first fragment that was let through.
#[inline(always)]
pub(super) fn lead<T: Tables>(
    packet: &Packet,
    judgement: Judgement,
    at: Circumstances,
    direction: Direction,
    tables: &mut T,
) {
    if packet.kind as u8 != Kind::Ip as u8
        || !fragments::leads(packet)
        || judgement.verdict as u32 == Verdict::Drop as u32
    {
        return;
    }
    let key = DatagramKey::of(packet, direction);
    let set = key.set(tables.seed());
    if let Some(set) = tables.datagrams(set) {
        fragments::remember(set, &key, packet.fragment_at, judgement.rule, at.now);
    }
}
