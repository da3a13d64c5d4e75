//! The decision: one fixed order of judgement for every packet.
//!
//! What the link needs, malformed, bans, established, signatures of floods, rules (first match), default; then the limit
//! of the rule that let it through. The order is documented to users; nothing else decides about a
//! packet.

mod classified;
mod established;
mod fields;
mod fragment;
mod limit;
mod link;
mod matrix;
mod payload;
mod rules;
pub mod signature;
mod tables;

pub use classified::Head;
pub use matrix::rows;
pub use payload::Packets;
pub use rules::Search;
pub use tables::Tables;

pub use established::{
    ECHO_TIMEOUT, TCP_CLOSING_TIMEOUT, TCP_OPENING_TIMEOUT, TCP_TIMEOUT, UDP_ASSURED_TIMEOUT,
    UDP_TIMEOUT, flow_key,
};
pub use link::LinkRule;

pub use crate::limit::Limited;

use crate::bans;
use crate::fragments::Follows;
use crate::image::{self, Record, constant};
use crate::layout::{BanKey, NO_RULE};
use crate::packet::{Kind, Packet, flag, mark, protocol};
use crate::{Address, Direction, Reason, Verdict};
use established::{Opening, Standing};

/// Counters of what the policy as a whole would have done while it only observes. They follow the
/// built-in link rules.
pub mod observed {
    /// Would have been dropped as malformed.
    pub const MALFORMED: u32 = 16;
    /// Would have been dropped by a ban.
    pub const BAN: u32 = 17;
    /// Would have been dropped by the default.
    pub const DEFAULT_INBOUND: u32 = 18;
    pub const DEFAULT_OUTBOUND: u32 = 19;
}

/// What the host's socket table has for a TCP connection.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// Nothing, or a listener only.
    None = 0,
    /// A handshake that the host has answered and waits for the end of. Anybody can bring one
    /// about, so that it lets the rest of the handshake in and enters nothing.
    Opening = 1,
    /// A connection.
    Established = 2,
    /// A listener that takes only who proves that it got an answer, and the packet does not.
    Unproven = 3,
}

/// A step of the judgement, as `explain` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A built-in link rule matched, or none.
    Link(Option<LinkRule>),
    /// Whether the packet contradicts itself.
    Malformed(bool),
    /// The ban or automatic limit that covers the source, with whether `never_block` spares it.
    Ban { key: BanKey, spared: bool },
    /// No ban covers the source.
    NoBan,
    /// A later fragment follows the first of its datagram, or overlaps it.
    Fragment(Follows),
    /// Whether the packet belongs to a connection, and by what it was known.
    Established(Known),
    /// The signature of a flood in the place with this counter fits; whether `never_block` spares
    /// the source.
    Signature { counter: u32, spared: bool },
    /// A rule matched (its counter); whether it decided or counted and went on.
    Rule { counter: u32, decided: bool },
    /// The packet was held to the limit of the rule with this counter.
    Limit { counter: u32, limited: Limited },
    /// Nothing decided before the default.
    Default,
}

/// By what a packet was known to belong to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was not.
    No,
    /// An entry of the connection table.
    Table,
    /// An established socket of this host.
    Socket,
    /// An inbound rule admits the packets that this one answers.
    ReplyToAdmitted,
}

/// The outcome for one packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub reason: Reason,
    /// Counter of the rule that decided, or [`NO_RULE`].
    pub rule: u32,
    /// The rule asks for an event.
    pub log: bool,
}

impl Judgement {
    #[inline(always)]
    const fn new(verdict: Verdict, reason: Reason, rule: u32) -> Self {
        Self {
            verdict,
            reason,
            rule,
            log: false,
        }
    }
}

/// What a kernel program leaves behind for its next stage, and for a test run to read.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    pub judgement: Judgement,
    pub packet: Packet,
    /// Where [`Tables::opaque`] puts a value down.
    pub cell: u64,
    /// Room for the packet of the other direction.
    pub reversed: Packet,
    /// See [`Tables::set_class`].
    pub classes: [u32; CLASS_SLOTS],
    /// See [`Tables::set_head`].
    pub heads: [Head; image::GROUPS],
}

/// Room for the class of each field, a power of two so that an index can be masked.
pub const CLASS_SLOTS: usize = image::FIELDS.next_power_of_two();

/// Where a packet came in or goes out, and when.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// CLOCK_MONOTONIC nanoseconds.
    pub now: u64,
    /// Interface slot.
    pub interface: u32,
}

/// Judges a packet that comes in.
#[inline(always)]
pub fn inbound<T: Tables>(packet: &Packet, at: Circumstances, tables: &mut T) -> Judgement {
    let judgement = admitted(packet, at, tables);
    let judgement = limit::hold(judgement, packet, at, Direction::Inbound, tables);
    fragment::lead(packet, judgement, at, Direction::Inbound, tables);
    judgement
}

/// The judgement on a packet that comes in, apart from limits.
#[inline(always)]
fn admitted<T: Tables>(packet: &Packet, at: Circumstances, tables: &mut T) -> Judgement {
    const IN: Direction = Direction::Inbound;
    let observe = tables.constant(IN, constant::OBSERVE) != 0;
    if let Some(rule) = link::matching(packet, IN) {
        tables.step(Step::Link(Some(rule)));
        tables.hit(rule as u32, packet.length);
        return Judgement::new(Verdict::Pass, Reason::Link, rule as u32);
    }
    tables.step(Step::Link(None));
    let malformed = is_malformed(packet);
    tables.step(Step::Malformed(malformed));
    if malformed {
        return malformed_here(packet, observe, tables);
    }
    if packet.kind as u8 != Kind::Ip as u8 {
        return default(packet, IN, tables);
    }
    match bans::covering(packet.sender, at.now, tables) {
        Some(key) => {
            let spared = is_protected(packet.sender, tables);
            tables.step(Step::Ban { key, spared });
            // Who is only held to a limit goes on to be judged as others are, up to that.
            let limited = key.limited != 0;
            if !spared && (!limited || tables.is_over_automatic(&key, at.now)) {
                if !observe {
                    let reason = if limited { Reason::Limit } else { Reason::Ban };
                    return Judgement::new(Verdict::Drop, reason, NO_RULE);
                }
                tables.hit(observed::BAN, packet.length);
            }
        }
        None => tables.step(Step::NoBan),
    }
    match fragment::follow(packet, at, IN, tables) {
        Follows::None => {}
        Follows::Rule(rule) => return established::belongs(packet, rule, tables),
        Follows::Overlaps => return malformed_here(packet, observe, tables),
    }
    let socket = match established::inbound(packet, at, tables) {
        Standing::Connection(judgement) => return judgement,
        Standing::Socket(socket) => socket,
        Standing::Stranger => Socket::None,
    };
    let unproven = socket as u32 == Socket::Unproven as u32;
    let has_socket = socket as u32 != Socket::None as u32 && !unproven;
    if !has_socket && let Some(judgement) = signature::judge(packet, at.now, observe, tables) {
        return judgement;
    }
    // One search serves both: whoever has a socket passes, and the rule only answers for it.
    let first = rules::first_match(packet, at, IN, Packets::Seen, !has_socket, tables);
    if has_socket {
        return established::by_socket(packet, at, socket, first, tables);
    }
    let judgement = if first.is_some() {
        decided(first, observe)
    } else {
        default(packet, IN, tables)
    };
    if unproven && !observe && judgement.verdict as u32 == Verdict::Pass as u32 {
        // Who keeps to the automatic limit of a service brings a cookie.
        return Judgement {
            verdict: Verdict::Drop,
            reason: Reason::Limit,
            ..judgement
        };
    }
    judgement
}

/// Judges a packet that goes out. `reversed` is room for the packet of the other direction.
#[inline(always)]
pub fn outbound<T: Tables>(
    packet: &Packet,
    reversed: &mut Packet,
    at: Circumstances,
    tables: &mut T,
) -> Judgement {
    let judgement = released(packet, reversed, at, tables);
    fragment::lead(packet, judgement, at, Direction::Outbound, tables);
    judgement
}

#[inline(always)]
fn released<T: Tables>(
    packet: &Packet,
    reversed: &mut Packet,
    at: Circumstances,
    tables: &mut T,
) -> Judgement {
    const OUT: Direction = Direction::Outbound;
    if let Some(rule) = link::matching(packet, OUT) {
        tables.step(Step::Link(Some(rule)));
        tables.hit(rule as u32, packet.length);
        return Judgement::new(Verdict::Pass, Reason::Link, rule as u32);
    }
    tables.step(Step::Link(None));
    if packet.kind as u8 != Kind::Ip as u8 {
        return default(packet, OUT, tables);
    }
    // What overlaps is judged on the way in; our own host's follows the rules.
    if let Follows::Rule(rule) = fragment::follow(packet, at, OUT, tables) {
        let judgement = established::belongs(packet, rule, tables);
        return limit::hold(judgement, packet, at, OUT, tables);
    }
    if let Some(judgement) = established::outbound(packet, at, tables) {
        return limit::hold(judgement, packet, at, OUT, tables);
    }
    let first = rules::first_match(packet, at, OUT, Packets::Seen, true, tables);
    let opening = established::opening(packet);
    let drops = tables.constant(OUT, constant::DEFAULT_DROP) != 0;
    let may_answer = drops && !first.is_some() && established::may_answer(packet);
    // One search serves both: whether this answers what an inbound rule admits, and whether one
    // admits the answers to it.
    let mut admitted = tables.constant(Direction::Inbound, constant::DEFAULT_DROP) == 0;
    if may_answer || opening as u32 == Opening::UnlessAdmitted as u32 {
        let rule = established::reverse(packet, reversed, may_answer, at, tables);
        if rule.is_some() {
            admitted = rule.accepts();
            if may_answer && admitted {
                return established::answer(packet, rule.counter, tables);
            }
        }
    } else {
        admitted = false;
    }
    let judgement = if first.is_some() {
        decided(first, tables.constant(OUT, constant::OBSERVE) != 0)
    } else {
        default(packet, OUT, tables)
    };
    let judgement = limit::hold(judgement, packet, at, OUT, tables);
    if judgement.verdict as u32 == Verdict::Pass as u32
        && opening as u32 != Opening::No as u32
        && !admitted
    {
        established::open(packet, at, judgement.rule, tables);
    }
    judgement
}

/// The judgement on a packet that contradicts itself, or others.
#[inline(always)]
fn malformed_here<T: Tables>(packet: &Packet, observe: bool, tables: &mut T) -> Judgement {
    if observe {
        tables.hit(observed::MALFORMED, packet.length);
        return Judgement::new(Verdict::Pass, Reason::Malformed, NO_RULE);
    }
    Judgement::new(Verdict::Drop, Reason::Malformed, NO_RULE)
}

#[inline(always)]
fn decided(record: Record, observe: bool) -> Judgement {
    // A policy that only observes takes the same steps as one in force; nothing is dropped.
    let verdict = if record.flags & image::record::DROP != 0 && !observe {
        Verdict::Drop
    } else {
        Verdict::Pass
    };
    Judgement {
        verdict,
        reason: Reason::Rule,
        rule: record.counter,
        log: record.flags & image::record::LOG != 0,
    }
}

#[inline(always)]
fn default<T: Tables>(packet: &Packet, direction: Direction, tables: &mut T) -> Judgement {
    tables.step(Step::Default);
    let mut verdict = Verdict::Pass;
    if tables.constant(direction, constant::DEFAULT_DROP) != 0 {
        if tables.constant(direction, constant::OBSERVE) == 0 {
            verdict = Verdict::Drop;
        } else {
            tables.hit(observed::DEFAULT_INBOUND + direction as u32, packet.length);
        }
    }
    Judgement::new(verdict, Reason::Default, NO_RULE)
}

/// A packet whose lengths contradict themselves, or whose addresses cannot stand in it: source
/// equal to destination ("Land"), or a source in 127/8, ::1, 0/8, a multicast or the broadcast
/// address (RFC 1122 3.2.1.3, RFC 6890). 0.0.0.0 may still ask for an address.
#[inline(always)]
fn is_malformed(packet: &Packet) -> bool {
    match packet.kind {
        Kind::Malformed => return true,
        Kind::Other => return false,
        Kind::Ip => {}
    }
    let source = packet.sender;
    if source == packet.destination {
        return true;
    }
    if source.is_v4() {
        let address = source.as_v4();
        match address >> 24 {
            127 | 224..=239 => true,
            0 => address != 0 || !may_lack_address(packet),
            255 => address == u32::MAX,
            _ => false,
        }
    } else {
        // ::1, and multicast. "::" is what duplicate address detection uses; that is a link rule.
        source.high >> 56 == 0xff || (source.high == 0 && source.low <= 1)
    }
}

/// Whether a packet may come from 0.0.0.0: it asks for an address, or reports a group.
#[inline(always)]
fn may_lack_address(packet: &Packet) -> bool {
    let asks = packet.protocol == protocol::UDP && packet.destination_port == 67;
    (asks || packet.protocol == protocol::IGMP) && !packet.is(mark::ICMP_ERROR)
}

/// Whether `never_block` covers an address.
#[inline(always)]
fn is_protected<T: Tables>(address: Address, tables: &T) -> bool {
    let v4_table = tables.constant(Direction::Inbound, constant::PROTECTED_V4);
    let v6_table = tables.constant(Direction::Inbound, constant::PROTECTED_V6);
    let v6 = !address.is_v4();
    if (if v6 { v6_table } else { v4_table }) == 0 {
        return false;
    }
    let row = fields::of_address(address, v6, v4_table, v6_table, tables);
    row != 0
}

/// Whether a TCP packet can belong to a connection that exists already.
#[inline(always)]
const fn continues(packet: &Packet) -> bool {
    packet.tcp_flags & (flag::SYN | flag::ACK) != flag::SYN
}
