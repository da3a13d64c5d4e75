//! Limits: what a rule lets through, it lets through up to a rate.

use super::{Circumstances, Judgement, Tables};
use crate::image::constant;
use crate::layout::NO_RULE;
use crate::limit::Held;
use crate::packet::Packet;
use crate::{Direction, Reason, Verdict};

/// Holds a packet that was let through to the limit of the rule that did so, or that admitted its
/// connection.
#[inline(always)]
pub(super) fn hold<T: Tables>(
    judgement: Judgement,
    packet: &Packet,
    at: Circumstances,
    direction: Direction,
    tables: &mut T,
) -> Judgement {
    let base = tables.constant(direction, constant::LIMITS);
    if base == 0 || judgement.rule == NO_RULE || judgement.verdict as u32 == Verdict::Drop as u32 {
        return judgement;
    }
    let held = Held {
        packet,
        direction,
        base,
        counter: judgement.rule,
        known: judgement.reason as u32 == Reason::Established as u32,
        now: at.now,
    };
    if !is_over(&held, tables) || tables.constant(direction, constant::OBSERVE) != 0 {
        return judgement;
    }
    Judgement {
        verdict: Verdict::Drop,
        reason: Reason::Limit,
        ..judgement
    }
}

/// Counts what the limit of a rule that is only observed would have dropped.
#[inline(always)]
pub(super) fn watch<T: Tables>(
    counter: u32,
    packet: &Packet,
    at: Circumstances,
    direction: Direction,
    tables: &mut T,
) {
    let base = tables.constant(direction, constant::LIMITS);
    if base != 0 {
        let held = Held {
            packet,
            direction,
            base,
            counter,
            known: false,
            now: at.now,
        };
        is_over(&held, tables);
    }
}

/// Whether a packet is over a limit; if so, it is counted.
#[inline(always)]
fn is_over<T: Tables>(held: &Held<'_>, tables: &mut T) -> bool {
    let over = tables.is_over(held);
    if over {
        tables.over_limit(held.counter, held.packet.length);
    }
    over
}
