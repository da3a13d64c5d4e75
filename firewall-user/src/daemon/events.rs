//! The latest sampled packets, in a ring in memory: enough to see what is going on, bounded
//! whatever happens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use firewall_common::layout::Event;
use jiff::{SignedDuration, Timestamp};

/// The ring, shared between the task that fills it and those who ask.
#[derive(Clone, Debug)]
pub struct EventRing {
    keep: usize,
    events: Arc<Mutex<VecDeque<(Timestamp, Event)>>>,
}

impl EventRing {
    /// A ring of the latest `keep` events.
    pub fn new(keep: usize) -> Self {
        Self {
            keep,
            events: Arc::default(),
        }
    }

    /// Takes in an event.
    pub fn push(&self, event: Event) {
        let stamped = (wall_clock(event.time), event);
        // A panic elsewhere leaves the queue as whole as it was.
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= self.keep {
            events.pop_front();
        }
        if self.keep > 0 {
            events.push_back(stamped);
        }
    }

    /// The latest `limit` events, the latest first.
    pub fn latest(&self, limit: usize) -> Vec<(Timestamp, Event)> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().rev().take(limit).copied().collect()
    }
}

/// When it was by the wall clock at `monotonic` nanoseconds of the kernel's.
fn wall_clock(monotonic: u64) -> Timestamp {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = SignedDuration::new(clock.tv_sec, i32::try_from(clock.tv_nsec).unwrap_or(0));
    let then = SignedDuration::from_nanos(i64::try_from(monotonic).unwrap_or(i64::MAX));
    let wall = Timestamp::now();
    wall.checked_sub(now.saturating_sub(then)).unwrap_or(wall)
}

#[cfg(test)]
mod tests {
    use firewall_common::Address;
    use firewall_common::layout::{EVENT_BYTES, NO_RULE};

    use super::*;

    fn event(length: u32) -> Event {
        Event {
            time: 0,
            source: Address::v4(1),
            destination: Address::v4(2),
            rule: NO_RULE,
            interface: 0,
            length,
            source_port: 0,
            destination_port: 0,
            direction: 0,
            verdict: 1,
            reason: 1,
            protocol: 6,
            tcp_flags: 2,
            icmp_type: 0,
            captured: 0,
            marks: 0,
            bytes: [0; EVENT_BYTES],
        }
    }

    #[test]
    fn the_ring_keeps_the_latest_and_shows_them_latest_first() {
        let ring = EventRing::new(3);
        for length in 1..=5 {
            ring.push(event(length));
        }
        let lengths = |limit| -> Vec<u32> {
            let latest = ring.latest(limit);
            latest.iter().map(|(_, event)| event.length).collect()
        };
        assert_eq!(lengths(10), [5, 4, 3]);
        assert_eq!(lengths(1), [5]);
    }

    #[test]
    fn a_ring_of_nothing_keeps_nothing() {
        let ring = EventRing::new(0);
        ring.push(event(1));
        assert!(ring.latest(1).is_empty());
    }

    #[test]
    fn an_event_of_just_now_is_stamped_just_now() {
        let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let stamped = wall_clock(clock.tv_sec as u64 * 1_000_000_000 + clock.tv_nsec as u64);
        let off = Timestamp::now().duration_since(stamped).abs();
        assert!(off < SignedDuration::from_secs(1), "{off}");
    }
}
