//! Whom a source tried to reach lately: distinct ports and hosts, from the kernel's bitmaps.
//!
//! A bitmap with a bit per hash counts distinct things by its zeros (linear counting: Whang,
//! Vander-Zanden and Taylor, ACM TODS 15(2), 1990). Bitmaps of slices of time are OR-ed, so what is
//! tried again counts once.

use super::Time;

/// Slices per window: how finely old contacts are forgotten.
const SLICES: u64 = 12;

/// First contacts over a sliding window. Holds a slice only for times at which something happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Contacts {
    slices: Vec<Slice>,
}

#[derive(Clone, Copy, Debug)]
struct Slice {
    index: u64,
    began: Time,
    ports: u64,
    hosts: u64,
    failed: u32,
    completed: u32,
    packets: u32,
}

/// What came in since the last tick.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NewContacts {
    pub ports: u64,
    pub hosts: u64,
    pub failed: u32,
    /// TCP connections that came about.
    pub completed: u32,
    pub packets: u64,
}

/// All contacts within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reach {
    pub ports: Distinct,
    pub hosts: Distinct,
    pub failed: f64,
    /// TCP connections that came about.
    pub completed: f64,
    /// Packets of any kind in the same slices of time.
    pub packets: f64,
    /// When the oldest of them began.
    pub began: Time,
}

/// A count of distinct things, read off a 64-bit map.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Distinct {
    pub estimate: f64,
    /// Every bit is set: there are this many or any number more.
    pub at_least: bool,
}

impl Contacts {
    /// Adds what came between `from` and `now`; without contacts only packets to slices there are.
    pub fn add(&mut self, from: Time, now: Time, window: Time, new: NewContacts) {
        let index = slice_index(now, window);
        let oldest = oldest_index(now, window);
        self.slices.retain(|slice| slice.index >= oldest);
        if self.slices.last().is_none_or(|last| last.index < index) {
            let contacted = new.ports | new.hosts != 0 || new.failed != 0;
            if !contacted {
                return;
            }
            // Most sources have one: room for four would be most of what is remembered of them.
            if self.slices.is_empty() {
                self.slices.reserve_exact(1);
            }
            self.slices.push(Slice {
                index,
                began: from,
                ports: 0,
                hosts: 0,
                failed: 0,
                completed: 0,
                packets: 0,
            });
        }
        if let Some(last) = self.slices.last_mut() {
            last.ports |= new.ports;
            last.hosts |= new.hosts;
            last.failed = last.failed.saturating_add(new.failed);
            last.completed = last.completed.saturating_add(new.completed);
            let packets = u32::try_from(new.packets).unwrap_or(u32::MAX);
            last.packets = last.packets.saturating_add(packets);
        }
    }

    /// What was reached within `span` before `now`, which is at most the window.
    pub fn reach(&self, now: Time, window: Time, span: Time) -> Reach {
        let within = now
            .checked_sub(span)
            .map_or(0, |start| slice_index(start, window) + 1);
        let oldest = oldest_index(now, window).max(within);
        let (mut ports, mut hosts) = (0, 0);
        let mut reach = Reach {
            began: now,
            ..Reach::default()
        };
        for slice in self.slices.iter().filter(|slice| slice.index >= oldest) {
            ports |= slice.ports;
            hosts |= slice.hosts;
            reach.failed += f64::from(slice.failed);
            reach.completed += f64::from(slice.completed);
            reach.packets += f64::from(slice.packets);
            reach.began = reach.began.min(slice.began);
        }
        reach.ports = Distinct::in_map(ports);
        reach.hosts = Distinct::in_map(hosts);
        reach
    }

    /// Whether more than one port or host, or any failure, is remembered: worth keeping.
    pub fn is_curious(&self) -> bool {
        let ports = self.slices.iter().fold(0, |map, slice| map | slice.ports);
        let hosts = self.slices.iter().fold(0, |map, slice| map | slice.hosts);
        ports.count_ones() > 1
            || hosts.count_ones() > 1
            || self.slices.iter().any(|slice| slice.failed > 1)
    }
}

impl Distinct {
    /// `n = -m ln(z / m)` with `z` zeros of `m` = 64 bits. With no zero left it takes half a zero,
    /// and says that it is a lower bound.
    pub fn in_map(map: u64) -> Self {
        const BITS: f64 = 64.0;
        let zeros = f64::from(map.count_zeros());
        Self {
            estimate: BITS * (BITS / zeros.max(0.5)).ln(),
            at_least: map == u64::MAX,
        }
    }
}

fn slice_index(now: Time, window: Time) -> u64 {
    now / (window / SLICES).max(1)
}

fn oldest_index(now: Time, window: Time) -> u64 {
    (slice_index(now, window) + 1).saturating_sub(SLICES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Time = 1_000_000_000;
    const WINDOW: Time = 60 * SECOND;

    fn port(bit: u32) -> NewContacts {
        NewContacts {
            ports: 1 << bit,
            hosts: 1,
            failed: 1,
            completed: 0,
            packets: 1,
        }
    }

    #[test]
    fn a_map_tells_about_how_many_there_are() {
        for distinct in [5_u64, 10, 20, 40, 70, 100] {
            // splitmix64 stands in for the kernel's hash.
            let map = (1..=distinct).fold(0_u64, |map, item| {
                let mut hash = item.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                map | 1 << ((hash ^ hash >> 31) >> 58)
            });
            let estimate = Distinct::in_map(map).estimate;
            let error = (estimate - distinct as f64).abs() / distinct as f64;
            assert!(error < 0.3, "{distinct} counted as {estimate}");
        }
        assert_eq!(Distinct::in_map(0).estimate, 0.0);
    }

    #[test]
    fn a_full_map_is_a_lower_bound() {
        let full = Distinct::in_map(u64::MAX);
        assert!(full.at_least && full.estimate > Distinct::in_map(u64::MAX - 1).estimate);
    }

    #[test]
    fn the_same_port_again_counts_once() {
        let mut contacts = Contacts::default();
        for second in 0..30 {
            contacts.add(second * SECOND, (second + 1) * SECOND, WINDOW, port(5));
        }
        let reach = contacts.reach(30 * SECOND, WINDOW, WINDOW);
        assert!((reach.ports.estimate - 1.0).abs() < 0.1);
        assert_eq!(reach.failed, 30.0);
    }

    #[test]
    fn old_contacts_are_forgotten() {
        let mut contacts = Contacts::default();
        contacts.add(0, SECOND, WINDOW, port(1));
        contacts.add(70 * SECOND, 71 * SECOND, WINDOW, port(2));
        let reach = contacts.reach(71 * SECOND, WINDOW, WINDOW);
        assert!((reach.ports.estimate - 1.0).abs() < 0.1);
        assert_eq!(reach.began, 70 * SECOND);
    }

    #[test]
    fn a_shorter_span_sees_only_its_own() {
        let mut contacts = Contacts::default();
        for second in 0..60 {
            let bit = if second < 40 { 1 } else { 2 };
            contacts.add(second * SECOND, (second + 1) * SECOND, WINDOW, port(bit));
        }
        let ports = |span| {
            contacts
                .reach(60 * SECOND, WINDOW, span)
                .ports
                .estimate
                .round()
        };
        assert_eq!((ports(WINDOW), ports(15 * SECOND)), (2.0, 1.0));
    }

    #[test]
    fn memory_is_bounded_by_the_slices() {
        let mut contacts = Contacts::default();
        for tick in 0..10_000 {
            let now = tick * SECOND / 4;
            contacts.add(now, now + SECOND / 4, WINDOW, port((tick % 64) as u32));
            assert!(contacts.slices.len() as u64 <= SLICES);
        }
    }

    #[test]
    fn packets_without_a_contact_open_no_slice() {
        let mut contacts = Contacts::default();
        let packets = NewContacts {
            packets: 100,
            ..NewContacts::default()
        };
        contacts.add(0, SECOND, WINDOW, packets);
        assert!(contacts.slices.is_empty());
    }
}
