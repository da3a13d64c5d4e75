//! The stream of sampled packets: what detection and people are shown.

use core::ptr;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_RB_NO_WAKEUP, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use firewall_common::Direction;
use firewall_common::decide::Judgement;
use firewall_common::layout::{EVENT_BYTES, Event};
use firewall_common::packet::Packet;
use firewall_common::sampling;

use crate::maps;

/// Where an event's bytes come from.
pub trait Sampled {
    /// Copies the first `length` bytes of the frame to `to`.
    fn copy(&self, to: *mut u8, length: u32);
}

impl Sampled for XdpContext {
    #[inline(always)]
    fn copy(&self, to: *mut u8, length: u32) {
        // SAFETY: `to` has room for EVENT_BYTES and `length` is at most that.
        unsafe { bpf_xdp_load_bytes(self.as_ptr().cast::<xdp_md>(), 0, to.cast(), length) };
    }
}

impl Sampled for TcContext {
    #[inline(always)]
    fn copy(&self, to: *mut u8, length: u32) {
        // SAFETY: `to` has room for EVENT_BYTES and `length` is at most that.
        unsafe { bpf_skb_load_bytes(self.as_ptr(), 0, to.cast(), length) };
    }
}

/// Shows a packet, if it is due. `packets` and `bytes` are what the frame stands for.
#[inline(always)]
pub fn sample<S: Sampled>(
    context: &S,
    packet: &Packet,
    judgement: Judgement,
    direction: Direction,
    now: u64,
    packets: u32,
    bytes: u32,
) {
    let Some(health) = maps::HEALTH.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own entry.
    let health = unsafe { &mut *health };
    let class = sampling::class(packet, judgement);
    let unit = maps::SAMPLE_UNIT.load();
    let Some(spoken) = sampling::offer(
        &mut health.thinning,
        class,
        direction,
        packets,
        bytes,
        unit,
        now,
    ) else {
        return;
    };
    let Some(mut entry) = maps::EVENTS.reserve_untyped::<Event>(0) else {
        health.events_lost += spoken.packets;
        return;
    };
    let captured = if packet.length < EVENT_BYTES as u32 {
        packet.length
    } else {
        EVENT_BYTES as u32
    };
    // Field by field: as a whole it would be put together on the stack, which has no room for it.
    let event = entry.as_mut_ptr();
    // SAFETY: the entry is as large as an event, and all of it is ours.
    unsafe {
        (&raw mut (*event).time).write(now);
        (&raw mut (*event).packets).write(spoken.packets);
        (&raw mut (*event).bytes).write(spoken.bytes);
        ptr::copy_nonoverlapping(packet, &raw mut (*event).packet, 1);
        (&raw mut (*event).rule).write(judgement.rule);
        (&raw mut (*event).interface).write(maps::INTERFACE.load());
        (&raw mut (*event).direction).write(direction as u8);
        (&raw mut (*event).verdict).write(judgement.verdict as u8);
        (&raw mut (*event).reason).write(judgement.reason as u8);
        (&raw mut (*event).class).write(class as u8);
        (&raw mut (*event).captured).write(0);
        if captured >= 14 && captured <= EVENT_BYTES as u32 {
            context.copy((&raw mut (*event).frame).cast(), captured);
            (&raw mut (*event).captured).write(captured as u8);
        }
    }
    // The reader comes by itself, some times a second: waking it for each would cost more than all else.
    entry.submit(BPF_RB_NO_WAKEUP as u64);
}
