//! Counts a judged packet: totals, kinds, its source.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use firewall_common::decide::Judgement;
use firewall_common::layout::{TRAFFIC_KINDS, total_index};
use firewall_common::packet::Packet;
use firewall_common::sources::{self, Observation, Recorded};
use firewall_common::{Direction, Reason};

use crate::maps;

/// Counts a packet. `packets` is how many the frame stands for (GSO on the way out).
#[inline(always)]
pub fn count(
    packet: &Packet,
    judgement: Judgement,
    direction: Direction,
    now: u64,
    packets: u32,
    bytes: u32,
) {
    let index = total_index(
        maps::INTERFACE.load(),
        direction as u32,
        judgement.verdict as u32,
        judgement.reason as u32,
    );
    if let Some(total) = maps::VERDICTS.get_ptr_mut(index) {
        // SAFETY: this CPU's own entry.
        let total = unsafe { &mut *total };
        total.packets += packets as u64;
        total.bytes += bytes as u64;
    }
    if let Some(kinds) = maps::HOST_KINDS.get_ptr_mut(direction as u32) {
        // SAFETY: this CPU's own entry.
        let kinds = unsafe { &mut *kinds };
        sources::kinds(packet, |kind| {
            kinds.counts[kind as usize & (TRAFFIC_KINDS - 1)] += packets as u64;
        });
    }
    if sources::is_accounted(direction) {
        let established = judgement.reason as u32 == Reason::Established as u32;
        record(
            &sources::observe(packet, judgement.verdict, established),
            now,
        );
    }
    // Only this host's own refusals are believed: a forged one could blame anybody. A recording may
    // have both sides coming in.
    if (direction as u32 == Direction::Outbound as u32 || maps::REPLAY.load() != 0)
        && let Some(refusal) = sources::observe_refusal(packet)
    {
        record(&refusal, now);
    }
}

/// Begins to fetch the account of a packet's sender, which is seldom in the cache when many send.
/// The processor goes on meanwhile, and what the decision has to fetch comes at the same time.
#[inline(always)]
pub fn approach(packet: &Packet) {
    let buckets = maps::SOURCE_BUCKETS.load();
    let index = sources::bucket_index(
        packet.sender.source_key(),
        maps::SOURCE_SEED.load(),
        buckets,
    );
    // SAFETY: reads the number of the CPU.
    let stripe = unsafe { bpf_get_smp_processor_id() } * buckets;
    if let Some(bucket) = maps::SOURCES.get_ptr(stripe + index) {
        // SAFETY: a word of the map; what it says does not matter.
        unsafe { bucket.cast::<u64>().read_volatile() };
    }
}

#[inline(always)]
fn record(observation: &Observation, now: u64) {
    let buckets = maps::SOURCE_BUCKETS.load();
    let index = sources::bucket_index(observation.key, maps::SOURCE_SEED.load(), buckets);
    // SAFETY: reads the number of the CPU.
    let stripe = unsafe { bpf_get_smp_processor_id() } * buckets;
    let Some(bucket) = maps::SOURCES.get_ptr_mut(stripe + index) else {
        return;
    };
    // SAFETY: only this CPU writes its stripe; a program that interrupts another one on it can at
    // worst lose a count.
    let recorded = sources::record(unsafe { &mut *bucket }, observation, now);
    if recorded as u8 != Recorded::Kept as u8
        && let Some(health) = maps::HEALTH.get_ptr_mut(0)
    {
        // SAFETY: this CPU's own entry.
        unsafe { (*health).sources_contended += 1 };
    }
}
