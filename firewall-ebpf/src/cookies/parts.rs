//! What the tasks of SYN cookies are made of: reading the packet in hand, asking the kernel, and sending back.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::{bpf_sock_tuple, xdp_md};
use aya_ebpf::helpers::generated::{
    bpf_sk_release, bpf_skb_load_bytes, bpf_skc_lookup_tcp, bpf_tcp_raw_check_syncookie_ipv4,
    bpf_tcp_raw_check_syncookie_ipv6, bpf_tcp_raw_gen_syncookie_ipv4,
    bpf_tcp_raw_gen_syncookie_ipv6, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use firewall_common::cookies::{
    CookieCounts, Lesson, OPTIONS_ROOM, Offered, ReplyHeaders, lesson_hash, lesson_slot,
};
use firewall_common::packet::{Fragment, Packet, flag, mark};
use firewall_common::{Address, Direction};

use crate::maps;
use crate::tables::{CURRENT_NAMESPACE, TCP_LISTEN};

/// What the functions work on, per CPU.
#[repr(C)]
pub struct Workspace {
    /// The TCP header of the packet in hand.
    pub(super) header: [u8; OPTIONS_ROOM],
    /// An IP header of which only the addresses are filled in, and a TCP header, for the kernel.
    question: ReplyHeaders,
    pub(super) reply: ReplyHeaders,
    /// Both MAC addresses.
    link: [u16; 6],
    pub(super) offered: Offered,
    tuple: [u32; 9],
}

/// The shortest Ethernet frame, without its check sequence.
const SHORTEST_FRAME: u32 = 60;

/// The packet that the program judges.
#[inline(always)]
pub(super) fn in_hand(direction: Direction) -> Option<&'static Packet> {
    let scratch = maps::SCRATCH.get_ptr(direction as u32)?;
    // SAFETY: this CPU's own entry, which the program that asks has filled and does not change
    // meanwhile.
    Some(unsafe { &(*scratch).packet })
}

#[inline(always)]
pub(super) fn workspace() -> Option<&'static mut Workspace> {
    let space = maps::COOKIE_SPACE.get_ptr_mut(0)?;
    // SAFETY: this CPU's own entry, used by one program at a time.
    Some(unsafe { &mut *space })
}

#[inline(always)]
pub(super) fn count(change: impl FnOnce(&mut CookieCounts)) {
    if let Some(counts) = maps::COOKIE_COUNTS.get_ptr_mut(0) {
        // SAFETY: this CPU's own entry.
        change(unsafe { &mut *counts });
    }
}

/// Copies the TCP header of a whole packet with plain IP headers; gives its length.
#[inline(always)]
pub(super) fn load_header(
    context: *mut c_void,
    packet: &Packet,
    space: &mut Workspace,
    direction: Direction,
) -> Option<u32> {
    let network = if packet.is(mark::V6) { 40 } else { 20 };
    if packet.fragment as u8 != Fragment::Whole as u8
        || packet.ip_length.wrapping_sub(packet.payload) != network
    {
        return None;
    }
    let at = packet.transport;
    let header = space.header.as_mut_ptr().cast::<c_void>();
    // SAFETY: the context is the program's own, XDP's on the way in and tc's on the way out; the
    // header has room for 64 bytes, and the verifier proves that it is enough.
    let load = |length: u32| unsafe {
        match direction {
            Direction::Inbound => bpf_xdp_load_bytes(context.cast(), at, header, length),
            Direction::Outbound => bpf_skb_load_bytes(context, at, header, length),
        }
    };
    if load(20) != 0 {
        return None;
    }
    crate::forget(&mut space.header);
    let length = within(20, 60, (space.header[12] as u64 >> 4) * 4)? as u32;
    if load(length) != 0 {
        return None;
    }
    crate::forget(&mut space.header);
    Some(length)
}

/// The value, if it is in bounds: compared one by one, as the verifier can follow.
#[inline(always)]
fn within(least: u64, most: u64, value: u64) -> Option<u64> {
    let value = barrier(value);
    if value < least {
        return None;
    }
    let value = barrier(value);
    if value > most {
        return None;
    }
    Some(barrier(value))
}

/// The value itself, of which the compiler knows nothing any more.
#[inline(always)]
fn barrier(mut value: u64) -> u64 {
    // SAFETY: copies a register to itself.
    unsafe {
        asm!("{0} = {0}", inout(reg) value, options(nostack, preserves_flags));
    }
    value
}

#[inline(always)]
pub(super) fn header_word(header: &[u8; OPTIONS_ROOM], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// Whether the host listens for the packet in hand, and knows nothing else of its connection.
#[inline(always)]
pub(super) fn is_listening(context: *mut xdp_md, packet: &Packet, space: &mut Workspace) -> bool {
    let ports =
        (packet.source_port.to_be() as u32) | (packet.destination_port.to_be() as u32) << 16;
    let size = if packet.is(mark::V6) {
        put_v6(&mut space.tuple, 0, packet.sender);
        put_v6(&mut space.tuple, 4, packet.destination);
        space.tuple[8] = ports;
        36
    } else {
        space.tuple[0] = packet.sender.as_v4().to_be();
        space.tuple[1] = packet.destination.as_v4().to_be();
        space.tuple[2] = ports;
        12
    };
    let tuple = space.tuple.as_mut_ptr().cast::<bpf_sock_tuple>();
    // SAFETY: the context is this program's; a socket that is found is released.
    unsafe {
        let socket = bpf_skc_lookup_tcp(context.cast(), tuple, size, CURRENT_NAMESPACE, 0);
        if socket.is_null() {
            return false;
        }
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        state == TCP_LISTEN
    }
}

#[inline(always)]
fn put_v6(words: &mut [u32], at: usize, address: Address) {
    words[at] = ((address.high >> 32) as u32).to_be();
    words[at + 1] = (address.high as u32).to_be();
    words[at + 2] = ((address.low >> 32) as u32).to_be();
    words[at + 3] = (address.low as u32).to_be();
}

/// Fills in the addresses of the IP header that the kernel is shown.
#[inline(always)]
fn put_addresses(space: &mut Workspace, source: Address, destination: Address) {
    if source.is_v4() {
        space.question.ip[3] = source.as_v4().to_be();
        space.question.ip[4] = destination.as_v4().to_be();
    } else {
        put_v6(&mut space.question.ip, 2, source);
        put_v6(&mut space.question.ip, 6, destination);
    }
}

/// The cookie for the SYN in hand, or an error's number.
#[inline(always)]
pub(super) fn generate(packet: &Packet, space: &mut Workspace, length: u32) -> i64 {
    put_addresses(space, packet.sender, packet.destination);
    let ip = space.question.ip.as_mut_ptr();
    let header = space.header.as_mut_ptr();
    // SAFETY: the kernel reads a whole header of each kind.
    unsafe {
        if packet.is(mark::V6) {
            bpf_tcp_raw_gen_syncookie_ipv6(ip.cast(), header.cast(), length)
        } else {
            bpf_tcp_raw_gen_syncookie_ipv4(ip.cast(), header.cast(), length)
        }
    }
}

/// Puts down the ACK whose cookie is in question; `ports` are its source's and destination's.
#[inline(always)]
pub(super) fn ask(
    space: &mut Workspace,
    source: Address,
    destination: Address,
    ports: u32,
    sequence: u32,
    acknowledged: u32,
) {
    put_addresses(space, source, destination);
    space.question.tcp[0] = ports.to_be();
    space.question.tcp[1] = sequence.to_be();
    space.question.tcp[2] = acknowledged.to_be();
    space.question.tcp[3] = (0x5000_0000 | (flag::ACK as u32) << 16).to_be();
    space.question.tcp[4] = 0;
}

/// Whether the ACK that was put down acknowledges a cookie of this host.
#[inline(always)]
pub(super) fn is_cookie(packet: &Packet, space: &mut Workspace) -> bool {
    let ip = space.question.ip.as_mut_ptr();
    let tcp = space.question.tcp.as_mut_ptr();
    // SAFETY: as in `generate`.
    let failed = unsafe {
        if packet.is(mark::V6) {
            bpf_tcp_raw_check_syncookie_ipv6(ip.cast(), tcp.cast())
        } else {
            bpf_tcp_raw_check_syncookie_ipv4(ip.cast(), tcp.cast())
        }
    };
    failed == 0
}

/// Whether SYNs for a listener may have been answered here.
#[inline(always)]
pub(super) fn is_answered(local: Address, port: u16, full: bool, now: u32) -> bool {
    let hash = lesson_hash(local, port, full, maps::SOURCE_SEED.load());
    match maps::COOKIE_LESSONS.get(lesson_slot(hash)) {
        Some(lesson) => Lesson::is_fresh(lesson, hash, now),
        None => false,
    }
}

/// Turns the SYN in hand into the reply that was written, and has it sent.
#[inline(always)]
pub(super) fn send_back(
    context: *mut xdp_md,
    packet: &Packet,
    space: &mut Workspace,
    written: u32,
) -> u64 {
    const PASS: u64 = XDP_PASS as u64;
    let network = if packet.is(mark::V6) { 40 } else { 20 };
    let link = space.link.as_mut_ptr();
    // SAFETY: the context is this program's; both addresses are 12 bytes, as `link` is.
    if unsafe { bpf_xdp_load_bytes(context, 0, link.cast(), 12) } != 0 {
        return PASS;
    }
    crate::forget(&mut space.link);
    let Some(written) = within(20, 40, written as u64) else {
        return PASS;
    };
    let written = written as u32;
    // A group never answers.
    if space.link[0].to_be() & 0x0100 != 0 {
        return PASS;
    }
    let wanted = packet.transport + written;
    let length = if wanted < SHORTEST_FRAME {
        SHORTEST_FRAME
    } else {
        wanted
    };
    let mut sent = packet.length;
    if sent > length {
        sent = length;
        // SAFETY: the context is this program's.
        if unsafe { bpf_xdp_adjust_tail(context, length.wrapping_sub(packet.length) as i32) } != 0 {
            return PASS;
        }
    }
    let [a, b, c, d, e, f] = space.link;
    space.link = [d, e, f, a, b, c];
    let ip = space.reply.ip.as_mut_ptr();
    let tcp = space.reply.tcp.as_mut_ptr();
    let transport = packet.transport;
    // SAFETY: what is stored lies within the workspace. From here on the packet is no SYN any more: a
    // store that fails leaves something that nobody should get.
    let failed = unsafe {
        bpf_xdp_store_bytes(context, 0, link.cast(), 12)
            | bpf_xdp_store_bytes(context, transport.wrapping_sub(network), ip.cast(), network)
            | bpf_xdp_store_bytes(context, transport, tcp.cast(), written)
    };
    if failed != 0 {
        return XDP_DROP as u64;
    }
    let received = packet.length;
    count(|counts| {
        counts.sent += 1;
        counts.bytes_received += received as u64;
        counts.bytes_sent += sent as u64;
    });
    XDP_TX as u64
}
