//! What is remembered: how the stack answers for a listener, and who has proven where it is.
//!
//! Both tables are fixed arrays in which the newer takes the older's place. A forgotten lesson sends
//! the next SYN to the stack, a forgotten proof asks for the cookie again; neither grants anything.

use crate::Address;

/// Listeners of which it is known how the stack answers for them; a power of two.
pub const LESSONS: u32 = 4_096;
/// Connections kept whose first ACK brought a valid cookie; a power of two.
pub const PROVEN: u32 = 8_192;

/// How long an answer of the stack serves as an example. The stack takes cookies for 120 s after
/// it has sent one itself.
pub const FRESH: u32 = 60_000;
/// After this time the stack is asked anew.
pub const REFRESH: u32 = 1_000;
/// How long a proof stands in for the socket that the stack is about to make.
const PROOF: u32 = 3_000;

/// Milliseconds as they are counted here: of 2^20 nanoseconds, wrapping after 52 days.
#[inline(always)]
pub const fn milliseconds(now: u64) -> u32 {
    (now >> 20) as u32
}

/// How the stack answered for a listener, once with options and once without.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lesson {
    /// Upper half of the listener's hash.
    pub tag: u32,
    /// When the stack answered.
    pub learned: u32,
    /// When a SYN was let through to it.
    pub asked: u32,
    /// The window and the segment size that it announced.
    pub window: u32,
    pub segment_size: u32,
    /// The window's scale in the upper half, the TTL in the lower.
    pub scale_and_ttl: u32,
}

impl Lesson {
    /// Whether this is about the listener with this hash and not too old.
    #[inline(always)]
    pub const fn is_fresh(&self, hash: u64, now: u32) -> bool {
        self.tag == (hash >> 32) as u32 && now.wrapping_sub(self.learned) < FRESH
    }

    /// Whether it is time for the stack to show again how it answers.
    #[inline(always)]
    pub const fn is_due(&self, now: u32) -> bool {
        now.wrapping_sub(self.asked) >= REFRESH
    }

    #[inline(always)]
    pub const fn window_scale(&self) -> u32 {
        self.scale_and_ttl >> 16 & 15
    }

    #[inline(always)]
    pub const fn ttl(&self) -> u32 {
        self.scale_and_ttl & 0xff
    }
}

/// The hash of a listener, apart for SYNs that offer all options and others.
#[inline(always)]
pub const fn lesson_hash(local: Address, port: u16, full: bool, seed: u32) -> u64 {
    let word = port as u64 | (full as u64) << 16 | (seed as u64) << 32;
    mix(mix(mix(0, local.high), local.low), word)
}

#[inline(always)]
pub const fn lesson_slot(hash: u64) -> u32 {
    hash as u32 & (LESSONS - 1)
}

/// The hash of a connection.
#[inline(always)]
pub const fn flow_hash(local: Address, remote: Address, ports: u32, seed: u32) -> u64 {
    let hash = mix(mix(seed as u64, local.high), local.low);
    mix(mix(mix(hash, remote.high), remote.low), ports as u64)
}

#[inline(always)]
pub const fn proven_slot(hash: u64) -> u32 {
    hash as u32 & (PROVEN - 1)
}

/// What is kept of a connection that has proven itself.
#[inline(always)]
pub const fn proof(hash: u64, now: u32) -> u64 {
    hash & 0xffff_ffff_0000_0000 | now as u64
}

/// Whether `kept` is a proof of the connection with this hash, and not too old.
#[inline(always)]
pub const fn is_proven(kept: u64, hash: u64, now: u32) -> bool {
    kept >> 32 == hash >> 32 && now.wrapping_sub(kept as u32) < PROOF
}

/// One round of a multiplicative hash whose upper bits come down again.
#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    // The fraction of the golden ratio (Knuth, The Art of Computer Programming 3, 6.4).
    let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Address = Address::v4(0xc633_6401);

    #[test]
    fn a_lesson_serves_its_listener_and_no_other_and_gets_old() {
        let hash = lesson_hash(HOST, 443, true, 7);
        let lesson = Lesson {
            tag: (hash >> 32) as u32,
            learned: u32::MAX - 10,
            asked: u32::MAX - 10,
            ..Lesson::default()
        };
        // Also across the wrap of the clock.
        assert!(lesson.is_fresh(hash, FRESH - 12));
        assert!(!lesson.is_fresh(hash, FRESH));
        assert!(!lesson.is_due(REFRESH - 12));
        assert!(lesson.is_due(REFRESH));
        for other in [
            lesson_hash(HOST, 443, false, 7),
            lesson_hash(HOST, 80, true, 7),
            lesson_hash(Address::v6(0x2001_0db8 << 32, 1), 443, true, 7),
        ] {
            assert!(!lesson.is_fresh(other, u32::MAX), "{other:x}");
        }
    }

    #[test]
    fn a_proof_is_for_one_connection_and_a_few_seconds() {
        let remote = Address::v4(0xcb00_7107);
        let hash = flow_hash(HOST, remote, 443 << 16 | 50_000, 7);
        let kept = proof(hash, 100);
        assert!(is_proven(kept, hash, 100 + PROOF - 1));
        assert!(!is_proven(kept, hash, 100 + PROOF));
        let other = flow_hash(HOST, remote, 443 << 16 | 50_001, 7);
        assert!(!is_proven(kept, other, 100));
        assert!(!is_proven(0, hash, PROOF));
    }
}
