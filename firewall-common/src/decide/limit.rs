//! Limits: what a rule lets through, it lets through up to a rate.

use super::{Circumstances, Judgement, Limited, Step, Tables};
use crate::image::constant;
use crate::layout::NO_RULE;
use crate::limit::{Limit, table, ticks};
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
    if tables.constant(direction, constant::LIMITS) == 0
        || judgement.rule == NO_RULE
        || judgement.verdict as u32 == Verdict::Drop as u32
    {
        return judgement;
    }
    let known = judgement.reason as u32 == Reason::Established as u32;
    let over = is_over(judgement.rule, packet, known, at, direction, tables);
    if !over || tables.constant(direction, constant::OBSERVE) != 0 {
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
    if tables.constant(direction, constant::LIMITS) != 0 {
        is_over(counter, packet, false, at, direction, tables);
    }
}

/// Whether a packet is over the limit of a rule, if that has one. `known` is whether it belongs to a
/// connection that was let through before.
#[inline(always)]
fn is_over<T: Tables>(
    counter: u32,
    packet: &Packet,
    known: bool,
    at: Circumstances,
    direction: Direction,
    tables: &mut T,
) -> bool {
    let base = tables.constant(direction, constant::LIMITS);
    let Some(limit) = Limit::of_rule(tables, base, counter) else {
        return false;
    };
    let bytes = packet.length + tables.further_bytes();
    let amount = limit.amount(packet, tables.packets(), bytes, known);
    if amount == 0 {
        let limited = Limited::Unmeasured;
        tables.step(Step::Limit { counter, limited });
        return false;
    }
    let key = limit.key(packet, counter, tables.seed());
    let now = ticks(tables.fine_now(at.now));
    let cost = limit.cost(amount);
    let Some(line) = tables.limit_line(key) else {
        return false;
    };
    let table::Charged { over, owed } = table::charge(&line, key, &limit, now, cost);
    drop(line);
    if over {
        tables.over_limit(counter, packet.length);
    }
    let limited = if over {
        Limited::Over { amount, owed }
    } else {
        Limited::Within { amount, owed }
    };
    tables.step(Step::Limit { counter, limited });
    over
}
