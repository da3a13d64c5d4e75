//! Counts a judged packet: totals, kinds, its source.

use core::arch::asm;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use firewall_common::decide::Judgement;
use firewall_common::layout::{NO_RULE, TRAFFIC_KINDS, total_index};
use firewall_common::packet::Packet;
use firewall_common::sampling;
use firewall_common::sources::{self, Front, Observation};
use firewall_common::{Direction, Reason};

use crate::maps;

/// Counts a packet. `sender` is where its account is (see [`approach`]). `packets` is how many the frame stands for (GSO on the way out).
#[inline(always)]
pub fn count(
    packet: &Packet,
    judgement: Judgement,
    sender: Account,
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
    // What is let in makes use of a service; only what opens or asks is looked up.
    if direction as u32 == Direction::Inbound as u32 && judgement.rule != NO_RULE {
        let uses = sampling::uses(packet, judgement);
        if (uses.connections | uses.requests) != 0
            && let Some(sum) = maps::of_rule(&maps::RULE_USES, judgement.rule)
        {
            // SAFETY: this CPU's own entry.
            let sum = unsafe { &mut *sum };
            sum.connections += uses.connections;
            sum.requests += uses.requests;
        }
    }
    if sources::is_accounted(direction) {
        let established = judgement.reason as u32 == Reason::Established as u32;
        record(
            sender,
            &sources::observe(packet, judgement.verdict, established),
            now,
        );
    }
    // Only this host's own refusals are believed: a forged one could blame anybody. A recording may
    // have both sides coming in.
    if (direction as u32 == Direction::Outbound as u32 || maps::REPLAY.load() != 0)
        && let Some(refusal) = sources::observe_refusal(packet)
    {
        record(Account::of(refusal.key), &refusal, now);
    }
}

/// Begins to fetch the account of a packet's sender, which is seldom in the cache when many send;
/// tells where it is. The processor goes on meanwhile, and what the decision has to fetch comes at the
/// same time. Of a sender that seems to be unknown, as all are in a flood, nothing more than that is fetched.
#[inline(always)]
pub fn approach(packet: &Packet) -> Account {
    let account = Account::of(packet.sender.source_key());
    let Some(fronts) = maps::SOURCE_FRONTS.get_ptr(account.index()) else {
        return account;
    };
    // SAFETY: this CPU's stripe of the map.
    let words = unsafe { (*fronts).words };
    if words.iter().any(|word| Front(*word).may_be(account.mark()))
        && let Some(heads) = maps::SOURCES.get_ptr(account.index())
    {
        // SAFETY: a word of the map; what it says does not matter.
        unsafe { heads.cast::<u64>().read_volatile() };
    }
    account
}

/// Where a source's account is in this CPU's stripe, and the source's mark above that: one word, as the
/// stack has little room.
#[derive(Clone, Copy)]
pub struct Account(u64);

impl Account {
    /// Nobody's.
    pub const NONE: Self = Self(0);

    #[inline(always)]
    fn of(key: u64) -> Self {
        let buckets = maps::SOURCE_BUCKETS.load();
        let hash = sources::hash(key, maps::SOURCE_SEED.load());
        // SAFETY: reads the number of the CPU.
        let stripe = unsafe { bpf_get_smp_processor_id() } * buckets;
        let index = stripe + sources::bucket_of(hash, buckets);
        Self(index as u64 | (sources::mark_of(hash) as u64) << 32)
    }

    #[inline(always)]
    const fn index(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    const fn mark(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[inline(always)]
fn record(account: Account, observation: &Observation, now: u64) {
    let index = account.index();
    let Some(fronts) = maps::SOURCE_FRONTS.get_ptr_mut(index) else {
        return;
    };
    let Some(heads) = maps::SOURCES.get_ptr_mut(index) else {
        return;
    };
    // SAFETY: only this CPU writes its stripe; a program that interrupts another one on it can at
    // worst lose a count.
    let (fronts, heads) = unsafe { (&mut *fronts, &mut *heads) };
    let placed = sources::place(fronts, heads, account.mark(), observation, now, opaque);
    if placed.adds
        && let Some(body) = maps::SOURCE_COUNTERS.get_ptr_mut(account.index())
    {
        // SAFETY: as above.
        sources::add(unsafe { &mut *body }, &placed, observation, now);
    }
    if placed.contended
        && let Some(health) = maps::HEALTH.get_ptr_mut(0)
    {
        // SAFETY: this CPU's own entry.
        unsafe { (*health).sources_contended += 1 };
    }
}

/// The word, of which the compiler knows nothing any more.
#[inline(always)]
fn opaque(mut word: u64) -> u64 {
    // SAFETY: copies a register to itself.
    unsafe {
        asm!("{0} = {0}", inout(reg) word, options(nomem, nostack, preserves_flags));
    }
    word
}
