//! SYN cookies: answering a SYN in the kernel program, before the host spends anything on it.
//!
//! Under a flood with forged sources the only proof that a client exists is that it got an answer.
//! A SYN cookie (D. J. Bernstein, 1996; RFC 4987 3.6) puts all that the host would have to remember into
//! the sequence number of its SYN-ACK, and the ACK brings it back. The kernel's own secret makes
//! the cookie and its own TCP stack takes the ACK, so a connection goes on as if the stack had answered.
//!
//! What the SYN-ACK says of the host (window, segment size, scale, TTL) is learned from the stack's own: about one SYN a second is let
//! through to it. That also keeps the stack willing to take cookies, and where the stack does
//! not answer with a valid cookie, for whatever reason, nothing else does.

mod options;
mod reply;
mod table;

pub use options::{OPTIONS_ROOM, Offered, read_options};
pub use reply::{Clock, Reply, ReplyHeaders, write_reply};
pub use table::{
    FRESH, LESSONS, Lesson, PROVEN, REFRESH, flow_hash, is_proven, lesson_hash, lesson_slot,
    milliseconds, proof, proven_slot,
};

/// Words of the map of armed ports: a bit for each TCP port, and a word of [`setting`]s.
pub const PORT_WORDS: u32 = 65_536 / 64 + 1;
/// The word of [`setting`]s.
pub const SETTINGS_WORD: u32 = PORT_WORDS - 1;

/// Bits of the word of settings.
pub mod setting {
    /// The stack cannot take the options of a client back from a timestamp: answer without any
    /// but the segment size.
    pub const PLAIN: u64 = 1;
}

/// What was done, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CookieCounts {
    /// SYN-ACKs sent in place of the stack's.
    pub sent: u64,
    /// Bytes of the SYNs that they answered, and their own.
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// SYNs let through to the stack for it to show how it answers.
    pub shown: u64,
    /// Handshakes ended with a valid cookie.
    pub accepted: u64,
    /// Packets dropped that pretend to end a handshake or belong to a connection.
    pub rejected: u64,
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: repr(C), made of integers only, without padding; any bit pattern is valid.
    unsafe impl aya::Pod for super::CookieCounts {}
}
