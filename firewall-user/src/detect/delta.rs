//! What a source added between two ticks: differences of counters that wrap, and may lose a part
//! when the kernel's table gives a place to another source.

use firewall_common::layout::SourceCounters;

/// What a source did since the last tick.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delta {
    pub packets: u64,
    pub syns: u32,
    pub requests: u32,
    pub failed: u32,
    pub ports: u64,
    pub hosts: u64,
    /// SYNs, of now or before, that turned into connections.
    pub completed: u32,
    /// The source was not in the kernel's table before, nor known from lately.
    pub is_new: bool,
}

impl Delta {
    /// The difference of two readings. The 32-bit counters wrap; counts that went back say nothing,
    /// as part of the table was given to others.
    pub fn between(before: &SourceCounters, after: &SourceCounters) -> Self {
        let Some(packets) = after.packets.checked_sub(before.packets) else {
            return Self::default();
        };
        // No packet is two SYNs: a larger difference is a counter that was set back.
        let at_most_packets = |count: u32| if u64::from(count) > packets { 0 } else { count };
        let failed = after.failed.wrapping_sub(before.failed);
        Self {
            packets,
            syns: at_most_packets(after.syns.wrapping_sub(before.syns)),
            requests: at_most_packets(after.requests.wrapping_sub(before.requests)),
            // Answers to earlier packets count too, so only the impossible is refused.
            failed: if failed > u32::MAX / 2 { 0 } else { failed },
            ports: after.ports,
            hosts: after.hosts,
            completed: 0,
            is_new: false,
        }
    }

    pub fn is_nothing(&self) -> bool {
        self.packets == 0 && self.failed == 0 && self.ports | self.hosts == 0
    }
}

/// Which SYNs were followed up. A source that completes a handshake sends at least two more packets
/// (the ACK, and data, a FIN or a RST); one whose address was forged may answer the SYN-ACK it
/// never asked for with one RST, so a single packet proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Handshakes {
    pending: u32,
    /// Further packets that no SYN was set off against yet: 0 or 1, while a SYN is pending.
    half: u32,
}

impl Handshakes {
    const FOLLOW_UPS: u32 = 2;

    /// How many SYNs turned out to be completed.
    pub fn advance(&mut self, delta: &Delta) -> u32 {
        self.pending = self.pending.saturating_add(delta.syns);
        let others = delta.packets.saturating_sub(u64::from(delta.syns));
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        let follow_ups = self.half.saturating_add(others);
        let completed = self.pending.min(follow_ups / Self::FOLLOW_UPS);
        self.pending -= completed;
        self.half = if self.pending == 0 {
            0
        } else {
            follow_ups - completed * Self::FOLLOW_UPS
        };
        completed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(packets: u64, syns: u32) -> SourceCounters {
        SourceCounters {
            packets,
            syns,
            ..SourceCounters::default()
        }
    }

    #[test]
    fn wrapped_counters_give_the_true_difference() {
        let delta = Delta::between(&counters(50, u32::MAX), &counters(60, 4));
        assert_eq!((delta.packets, delta.syns), (10, 5));
    }

    #[test]
    fn counters_that_were_set_back_say_nothing() {
        let delta = Delta::between(&counters(1_000, 900), &counters(10, 9));
        assert!(delta.is_nothing());
        let delta = Delta::between(&counters(1_000, 900), &counters(1_001, 1));
        assert_eq!((delta.packets, delta.syns), (1, 0));
    }

    #[test]
    fn a_syn_is_completed_by_two_more_packets_even_over_several_ticks() {
        let mut handshakes = Handshakes::default();
        let tick = |packets, syns| Delta {
            packets,
            syns,
            ..Delta::default()
        };
        assert_eq!(handshakes.advance(&tick(3, 3)), 0);
        assert_eq!(handshakes.advance(&tick(3, 0)), 1);
        assert_eq!(handshakes.advance(&tick(1, 0)), 1);
        assert_eq!(handshakes.advance(&tick(100, 0)), 1);
        assert_eq!(handshakes.advance(&tick(1_000, 0)), 0);
    }
}
