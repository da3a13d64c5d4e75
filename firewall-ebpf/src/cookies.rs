//! SYN cookies: answering a SYN with the kernel's own cookie, sent back by the driver (XDP_TX).
//!
//! Each of the three tasks is a global function, so that the verifier walks through it once and by
//! itself (see `bans`). All that they work on stands in scratch memory: a function that is called from
//! the program has only what is left of the stack's 512 bytes.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::{__sk_buff, bpf_sock_tuple, xdp_md};
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_sk_release, bpf_skb_load_bytes, bpf_skc_lookup_tcp,
    bpf_tcp_raw_check_syncookie_ipv4, bpf_tcp_raw_check_syncookie_ipv6,
    bpf_tcp_raw_gen_syncookie_ipv4, bpf_tcp_raw_gen_syncookie_ipv6, bpf_xdp_adjust_tail,
    bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use firewall_common::cookies::{
    Clock, CookieCounts, Lesson, OPTIONS_ROOM, Offered, Reply, ReplyHeaders, SETTINGS_WORD,
    flow_hash, is_proven, lesson_hash, lesson_slot, milliseconds, proof, proven_slot, read_options,
    setting, write_reply,
};
use firewall_common::decide::{Judgement, Socket};
use firewall_common::image::constant;
use firewall_common::packet::{Fragment, Packet, flag, mark, protocol};
use firewall_common::{Address, Direction, Verdict};

use crate::maps;
use crate::tables::{CURRENT_NAMESPACE, TCP_LISTEN};

/// What the functions work on, per CPU.
#[repr(C)]
pub struct Workspace {
    /// The TCP header of the packet in hand.
    header: [u8; OPTIONS_ROOM],
    /// An IP header of which only the addresses are filled in, and a TCP header, for the kernel.
    question: ReplyHeaders,
    reply: ReplyHeaders,
    /// Both MAC addresses.
    link: [u16; 6],
    offered: Offered,
    tuple: [u32; 9],
}

/// The shortest Ethernet frame, without its check sequence.
const SHORTEST_FRAME: u32 = 60;

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

/// The packet that the program judges.
#[inline(always)]
fn in_hand(direction: Direction) -> Option<&'static Packet> {
    let scratch = maps::SCRATCH.get_ptr(direction as u32)?;
    // SAFETY: this CPU's own entry, which the program that asks has filled and does not change
    // meanwhile.
    Some(unsafe { &(*scratch).packet })
}

#[inline(always)]
fn workspace() -> Option<&'static mut Workspace> {
    let space = maps::COOKIE_SPACE.get_ptr_mut(0)?;
    // SAFETY: this CPU's own entry, used by one program at a time.
    Some(unsafe { &mut *space })
}

#[inline(always)]
fn count(change: impl FnOnce(&mut CookieCounts)) {
    if let Some(counts) = maps::COOKIE_COUNTS.get_ptr_mut(0) {
        // SAFETY: this CPU's own entry.
        change(unsafe { &mut *counts });
    }
}

/// Copies the TCP header of a whole packet with plain IP headers; gives its length.
#[inline(always)]
fn load_header(
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
fn header_word(header: &[u8; OPTIONS_ROOM], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// Whether the host listens for the packet in hand, and knows nothing else of its connection.
#[inline(always)]
fn is_listening(context: *mut xdp_md, packet: &Packet, space: &mut Workspace) -> bool {
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
fn generate(packet: &Packet, space: &mut Workspace, length: u32) -> i64 {
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
fn ask(
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
fn is_cookie(packet: &Packet, space: &mut Workspace) -> bool {
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
fn is_answered(local: Address, port: u16, full: bool, now: u32) -> bool {
    let hash = lesson_hash(local, port, full, maps::SOURCE_SEED.load());
    match maps::COOKIE_LESSONS.get(lesson_slot(hash)) {
        Some(lesson) => Lesson::is_fresh(lesson, hash, now),
        None => false,
    }
}

/// Turns the SYN in hand into the reply that was written, and has it sent.
#[inline(always)]
fn send_back(context: *mut xdp_md, packet: &Packet, space: &mut Workspace, written: u32) -> u64 {
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
