//! SYN cookies: answering a SYN with the kernel's own cookie, sent back by the driver (XDP_TX).
//!
//! Each of the three tasks is a global function, so that the verifier walks through it once and by
//! itself (see `bans`). All that they work on stands in scratch memory: a function that is called from
//! the program has only what is left of the stack's 512 bytes.

mod parts;

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::programs::{TcContext, XdpContext};
use firewall_common::cookies::{
    Clock, Offered, Reply, SETTINGS_WORD, flow_hash, is_proven, lesson_hash, lesson_slot,
    milliseconds, proof, proven_slot, read_options, setting, write_reply,
};
use firewall_common::decide::{Judgement, Socket};
use firewall_common::image::constant;
use firewall_common::packet::{Packet, flag, mark, protocol};
use firewall_common::{Direction, Verdict};

pub use self::parts::Workspace;
use self::parts::{
    ask, count, generate, header_word, in_hand, is_answered, is_cookie, is_listening, load_header,
    send_back, workspace,
};
use crate::maps;

/// What becomes of a packet that came in and passes: it goes on, or back as an answer.
#[inline(always)]
pub fn answer(context: &XdpContext, packet: &Packet, judgement: Judgement, now: u64) -> u32 {
    if maps::COOKIES.load() == 0
        || maps::constants(Direction::Inbound).get(constant::OBSERVE) != 0
        || !packet.is_syn()
        || packet.is(mark::ICMP_ERROR)
        || judgement.verdict as u32 != Verdict::Pass as u32
        || !is_armed(packet.destination_port)
    {
        return XDP_PASS;
    }
    palisade_cookie_answer(context.as_ptr().cast(), now) as u32
}

/// Looks at a packet that goes out: is it a SYN-ACK of the stack, it shows how to answer.
#[inline(always)]
pub fn learn(context: &TcContext, packet: &Packet, judgement: Judgement, now: u64) {
    const BOTH: u8 = flag::SYN | flag::ACK;
    if maps::COOKIES.load() != 0
        && packet.protocol == protocol::TCP
        && packet.tcp_flags & BOTH == BOTH
        && !packet.is(mark::ICMP_ERROR)
        && judgement.verdict as u32 == Verdict::Pass as u32
        && is_armed(packet.source_port)
    {
        palisade_cookie_learn(context.as_ptr().cast(), now);
    }
}

/// What a packet is to a listener that may be armed: of no connection that is known.
#[inline(always)]
pub fn standing(context: *mut c_void, port: u16) -> Socket {
    if maps::COOKIES.load() == 0 || !is_armed(port) {
        return Socket::None;
    }
    match palisade_cookie_check(context.cast(), crate::circumstances().now) {
        PROVEN => Socket::Opening,
        UNPROVEN => Socket::Unproven,
        _ => Socket::None,
    }
}

const NOT_ASKED: u64 = 0;
const PROVEN: u64 = 1;
const UNPROVEN: u64 = 2;

#[inline(always)]
fn is_armed(port: u16) -> bool {
    ports_word((port >> 6) as u32) >> (port & 63) & 1 != 0
}

#[inline(always)]
fn ports_word(index: u32) -> u64 {
    match maps::COOKIE_PORTS.get_ptr(index) {
        // SAFETY: a whole word of the map, which user space stores whole.
        Some(word) => unsafe { word.read_volatile() },
        None => 0,
    }
}

/// Answers the SYN in hand, unless that is the stack's task; gives the XDP action.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_cookie_answer(context: *mut xdp_md, now: u64) -> u64 {
    const PASS: u64 = XDP_PASS as u64;
    if maps::COOKIES.load() == 0 {
        return PASS;
    }
    let (Some(packet), Some(space)) = (in_hand(Direction::Inbound), workspace()) else {
        return PASS;
    };
    let Some(length) = load_header(context.cast(), packet, space, Direction::Inbound) else {
        return PASS;
    };
    read_options(&space.header, length, &mut space.offered, |offered| {
        crate::forget(offered)
    });
    if space.offered.has(Offered::SIGNED) {
        return PASS;
    }
    let full = space.offered.is_full() && ports_word(SETTINGS_WORD) & setting::PLAIN == 0;
    let seed = maps::SOURCE_SEED.load();
    let hash = lesson_hash(packet.destination, packet.destination_port, full, seed);
    let now = milliseconds(now);
    let Some(lesson) = maps::COOKIE_LESSONS.get_ptr_mut(lesson_slot(hash)) else {
        return PASS;
    };
    // SAFETY: the map's memory stays. Other CPUs write the fields as well, each whole; a mixture of two
    // lessons lasts until the next is learned, in a second.
    let lesson = unsafe { &mut *lesson };
    if !lesson.is_fresh(hash, now) || lesson.is_due(now) {
        lesson.asked = now;
        count(|counts| counts.shown += 1);
        return PASS;
    }
    if !is_listening(context, packet, space) {
        return PASS;
    }
    let cookie = generate(packet, space, length);
    if cookie < 0 {
        return PASS;
    }
    // SAFETY: reads the clock from which the stack takes its timestamps.
    let clock = unsafe { bpf_ktime_get_ns() } / 1_000_000;
    let written = write_reply(
        &mut space.reply,
        &Reply {
            source: packet.destination,
            destination: packet.sender,
            source_port: packet.destination_port,
            destination_port: packet.source_port,
            sequence: header_word(&space.header, 4),
            cookie: cookie as u32,
            offered: &space.offered,
            lesson,
            clock: full.then_some(Clock(clock as u32)),
        },
    );
    send_back(context, packet, space, written)
}

/// Whether the packet in hand, of a connection that is not known to a listener that is, proves
/// that its sender got an answer.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_cookie_check(context: *mut xdp_md, now: u64) -> u64 {
    if maps::COOKIES.load() == 0 {
        return NOT_ASKED;
    }
    let (Some(packet), Some(space)) = (in_hand(Direction::Inbound), workspace()) else {
        return NOT_ASKED;
    };
    if packet.tcp_flags & (flag::SYN | flag::ACK | flag::RST) != flag::ACK
        || packet.is(mark::ICMP_ERROR)
    {
        return NOT_ASKED;
    }
    let now = milliseconds(now);
    let seed = maps::SOURCE_SEED.load();
    let (local, port) = (packet.destination, packet.destination_port);
    if !is_answered(local, port, false, now) && !is_answered(local, port, true, now) {
        return NOT_ASKED;
    }
    let ports = (port as u32) << 16 | packet.source_port as u32;
    let hash = flow_hash(local, packet.sender, ports, seed);
    let Some(place) = maps::COOKIE_PROVEN.get_ptr_mut(proven_slot(hash)) else {
        return NOT_ASKED;
    };
    // What follows the ACK at once comes before the stack has made the socket.
    // SAFETY: an aligned word of the map; another CPU may write it, whole.
    if is_proven(unsafe { place.read_volatile() }, hash, now) {
        return PROVEN;
    }
    if load_header(context.cast(), packet, space, Direction::Inbound).is_none() {
        return NOT_ASKED;
    }
    let sequence = header_word(&space.header, 4);
    let acknowledged = header_word(&space.header, 8);
    ask(
        space,
        packet.sender,
        local,
        ports.rotate_left(16),
        sequence,
        acknowledged,
    );
    if !is_cookie(packet, space) {
        count(|counts| counts.rejected += 1);
        return UNPROVEN;
    }
    // SAFETY: as above.
    unsafe { place.write_volatile(proof(hash, now)) };
    count(|counts| counts.accepted += 1);
    PROVEN
}

/// Learns from the SYN-ACK in hand, if it came from this host's stack and holds a cookie.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_cookie_learn(context: *mut __sk_buff, now: u64) -> u64 {
    if maps::COOKIES.load() == 0 {
        return 0;
    }
    // SAFETY: the context is the program's. A packet that is forwarded came in somewhere.
    if unsafe { (*context).ingress_ifindex } != 0 {
        return 0;
    }
    let (Some(packet), Some(space)) = (in_hand(Direction::Outbound), workspace()) else {
        return 0;
    };
    let Some(length) = load_header(context.cast(), packet, space, Direction::Outbound) else {
        return 0;
    };
    // The ACK that would answer it is what the kernel can judge.
    let sequence = header_word(&space.header, 8);
    let acknowledged = header_word(&space.header, 4).wrapping_add(1);
    let ports = (packet.destination_port as u32) << 16 | packet.source_port as u32;
    ask(
        space,
        packet.destination,
        packet.source,
        ports,
        sequence,
        acknowledged,
    );
    if !is_cookie(packet, space) {
        return 0;
    }
    read_options(&space.header, length, &mut space.offered, |offered| {
        crate::forget(offered)
    });
    let full = space.offered.is_full();
    if full {
        // SAFETY: reads the clock.
        let clock = unsafe { bpf_ktime_get_ns() } / 1_000_000;
        // With an offset of its own for each client, a timestamp cannot be made here.
        if (clock as u32).wrapping_sub(space.offered.timestamp) > LATEST_STAMP {
            return 0;
        }
    }
    let seed = maps::SOURCE_SEED.load();
    let hash = lesson_hash(packet.source, packet.source_port, full, seed);
    let Some(lesson) = maps::COOKIE_LESSONS.get_ptr_mut(lesson_slot(hash)) else {
        return 0;
    };
    // SAFETY: as in `palisade_cookie_answer`.
    let lesson = unsafe { &mut *lesson };
    let now = milliseconds(now);
    lesson.window = packet.tcp_window as u32;
    lesson.segment_size = space.offered.segment_size;
    lesson.scale_and_ttl = space.offered.window_scale << 16 | packet.ttl as u32;
    lesson.learned = now;
    lesson.asked = now;
    lesson.tag = (hash >> 32) as u32;
    1
}

/// How many milliseconds old the timestamp of a cookie can be when it leaves: its lower six bits hold
/// something else.
const LATEST_STAMP: u32 = 250;
