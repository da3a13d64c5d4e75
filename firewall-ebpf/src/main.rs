//! Palisade's kernel programs: XDP on the way in, tc on the way out.
//!
//! The parser, the decision and the accounting are firewall-common's; here is the glue that lets
//! them read the packet and the maps.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod account;
mod bans;
mod cookies;
mod events;
mod frame;
mod limits;
mod maps;
mod search;
mod signatures;
mod tables;
mod trial;

use core::arch::asm;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use firewall_common::decide::{self, Circumstances, Scratch};
use firewall_common::packet::{self, NO_VLAN, Packet};
use firewall_common::{Direction, Verdict};

use frame::Frame;
use tables::{Maps, Words};

// TCX_NEXT lets other tcx programs have their say; clsact takes it for TC_ACT_UNSPEC, which is the
// same there.
const TC_NEXT: i32 = -1;
const TC_DROP: i32 = 2;

/// Judges what comes in, also from drivers that hand over a frame in several buffers.
#[xdp(frags)]
#[inline(always)]
pub fn palisade_in(context: XdpContext) -> u32 {
    ingress(&context)
}

/// Judges what goes out.
#[classifier]
#[inline(always)]
pub fn palisade_out(context: TcContext) -> i32 {
    egress(&context)
}

#[inline(always)]
fn ingress(context: &XdpContext) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(Direction::Inbound as u32) else {
        return XDP_DROP;
    };
    let Some(image) = Words::new() else {
        return XDP_DROP;
    };
    // SAFETY: this CPU's own entry, used by one program at a time.
    let Scratch {
        packet,
        judgement,
        cell,
        classes,
        heads,
        ..
    } = unsafe { &mut *scratch };
    let mut frame = Frame::of_xdp(context);
    *packet = Packet::default();
    packet::parse(&mut frame, NO_VLAN, packet);
    forget(packet);
    let sender = account::approach(packet);
    let at = circumstances();
    let mut tables = Maps {
        context: context.as_ptr(),
        packets: 1,
        further_bytes: 0,
        image,
        owner: Direction::Inbound,
        cell: &raw mut *cell,
        classes: &raw mut *classes,
        heads: &raw mut *heads,
    };
    *judgement = decide::inbound(packet, at, &mut tables);
    forget(judgement);
    account::count(
        packet,
        *judgement,
        sender,
        Direction::Inbound,
        at.now,
        1,
        packet.length,
    );
    trace(context, packet, *judgement);
    events::sample(
        context,
        packet,
        *judgement,
        Direction::Inbound,
        at.now,
        1,
        packet.length,
    );
    match judgement.verdict {
        Verdict::Pass => cookies::answer(context, packet, *judgement, at.now),
        Verdict::Drop => XDP_DROP,
    }
}

#[inline(always)]
fn egress(context: &TcContext) -> i32 {
    // SAFETY: the context is the one that the program was called with.
    let (tag, segments, wire) = unsafe {
        let skb = &*context.skb.skb;
        let tag = if skb.vlan_present != 0 {
            skb.vlan_tci as u16 & 0xfff
        } else {
            NO_VLAN
        };
        (tag, skb.gso_segs, skb.wire_len)
    };
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(Direction::Outbound as u32) else {
        return TC_DROP;
    };
    let Some(image) = Words::new() else {
        return TC_DROP;
    };
    // SAFETY: this CPU's own entry, used by one program at a time.
    let Scratch {
        packet,
        judgement,
        cell,
        reversed,
        classes,
        heads,
    } = unsafe { &mut *scratch };
    let mut frame = Frame::of_skb(context);
    *packet = Packet::default();
    packet::parse(&mut frame, tag, packet);
    forget(packet);
    let at = circumstances();
    let packets = if segments > 1 { segments } else { 1 };
    let further_bytes = if segments > 1 && wire > packet.length {
        wire - packet.length
    } else {
        0
    };
    let mut tables = Maps {
        context: context.as_ptr(),
        packets,
        further_bytes,
        image,
        owner: Direction::Outbound,
        cell: &raw mut *cell,
        classes: &raw mut *classes,
        heads: &raw mut *heads,
    };
    *judgement = decide::outbound(packet, reversed, at, &mut tables);
    forget(judgement);
    account::count(
        packet,
        *judgement,
        account::Account::NONE,
        Direction::Outbound,
        at.now,
        packets,
        packet.length + further_bytes,
    );
    trace(context, packet, *judgement);
    events::sample(
        context,
        packet,
        *judgement,
        Direction::Outbound,
        at.now,
        packets,
        packet.length + further_bytes,
    );
    cookies::learn(context, packet, *judgement, at.now);
    match judgement.verdict {
        Verdict::Pass => TC_NEXT,
        Verdict::Drop => TC_DROP,
    }
}

/// Makes compiler and verifier forget what they know of what `memory` points to: past this point
/// each path through the stage before looks the same, and the verifier follows one of them
/// instead of all.
#[inline(always)]
fn forget<T>(memory: &mut T) {
    // SAFETY: copies a register to itself; the pointer is handed over so that the memory counts as
    // written. (Assembly without an instruction upsets the line information.)
    unsafe {
        asm!("{0} = {0}", inout(reg) &raw mut *memory => _, options(nostack, preserves_flags));
    }
}

#[inline(always)]
fn circumstances() -> Circumstances {
    let now = if maps::REPLAY.load() != 0 {
        maps::REPLAY_CLOCK.get(0).copied().unwrap_or(0)
    } else if maps::TICK_LENGTH.load() != 0 {
        // SAFETY: reads the tick counter; the JIT compiler makes a load of it.
        let ticks = unsafe { bpf_jiffies64() };
        ticks
            .wrapping_mul(maps::TICK_LENGTH.load())
            .wrapping_add(maps::TICK_OFFSET.load())
    } else {
        // SAFETY: reads the clock.
        unsafe { bpf_ktime_get_coarse_ns() }
    };
    Circumstances {
        now,
        interface: maps::INTERFACE.load(),
    }
}

#[cfg(feature = "trace")]
#[inline(always)]
fn trace<C: EbpfContext>(context: &C, packet: &Packet, judgement: decide::Judgement) {
    aya_log_ebpf::debug!(
        context,
        "protocol {} port {} to {}: verdict {} reason {}",
        packet.protocol,
        packet.source_port,
        packet.destination_port,
        judgement.verdict as u32,
        judgement.reason as u32
    );
}

#[cfg(not(feature = "trace"))]
#[inline(always)]
fn trace<C: EbpfContext>(_context: &C, _packet: &Packet, _judgement: decide::Judgement) {}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
