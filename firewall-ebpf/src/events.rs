//! Samples of packets for people, throttled per CPU before the ring buffer's lock is taken.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use firewall_common::decide::Judgement;
use firewall_common::layout::{EVENT_BYTES, Event};
use firewall_common::packet::Packet;
use firewall_common::{Direction, Verdict};

use crate::maps;

/// Length of a throttle interval: about 0.13 s, by shifting nanoseconds.
const INTERVAL_SHIFT: u32 = 27;
/// Events that a CPU may send in an interval.
const PER_INTERVAL: u32 = 64;
/// One passing packet in this many is a sample.
const PASSES_PER_SAMPLE: u32 = 1024;

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

/// Sends a sample of a drop, of one pass in many, and of what a rule asks to be logged.
#[inline(always)]
pub fn sample<S: Sampled>(
    context: &S,
    packet: &Packet,
    judgement: Judgement,
    direction: Direction,
    now: u64,
) {
    let Some(health) = maps::HEALTH.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own entry.
    let health = unsafe { &mut *health };
    if judgement.verdict as u32 == Verdict::Pass as u32 && !judgement.log {
        health.passes += 1;
        if health.passes < PASSES_PER_SAMPLE {
            return;
        }
        health.passes = 0;
    }
    let interval = now >> INTERVAL_SHIFT;
    if health.interval != interval {
        health.interval = interval;
        health.sent = 0;
    }
    if health.sent >= PER_INTERVAL {
        health.events_throttled += 1;
        return;
    }
    health.sent += 1;
    let Some(mut entry) = maps::EVENTS.reserve_untyped::<Event>(0) else {
        health.events_lost += 1;
        return;
    };
    let captured = if packet.length < EVENT_BYTES as u32 {
        packet.length
    } else {
        EVENT_BYTES as u32
    };
    entry.write(Event {
        time: now,
        source: packet.sender,
        destination: packet.destination,
        rule: judgement.rule,
        interface: maps::INTERFACE.load(),
        length: packet.length,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
        direction: direction as u8,
        verdict: judgement.verdict as u8,
        reason: judgement.reason as u8,
        protocol: packet.protocol,
        tcp_flags: packet.tcp_flags,
        icmp_type: packet.icmp_type,
        captured: captured as u8,
        marks: packet.marks,
        bytes: [0; EVENT_BYTES],
    });
    if captured >= 14 && captured <= EVENT_BYTES as u32 {
        // SAFETY: the entry was written above; the field is EVENT_BYTES long.
        let to = unsafe { (*entry.as_mut_ptr()).bytes.as_mut_ptr() };
        context.copy(to, captured);
    }
    entry.submit(0);
}
