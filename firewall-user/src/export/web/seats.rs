//! How many connections there may be, in all and from one address, so that a single peer cannot keep all others out, nor use up the
//! daemon's files.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections at a time.
pub const IN_ALL: usize = 128;
/// From one address; loopback may have all.
pub const FROM_ONE: usize = 24;

/// The places, and who has them.
#[derive(Clone, Debug, Default)]
pub struct Seats {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place, free again when this goes.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    peer: IpAddr,
}

impl Seats {
    /// A place for `peer`, if there is one.
    pub fn take(&self, peer: IpAddr) -> Option<Seat> {
        let peer = peer.to_canonical();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let most = if peer.is_loopback() { IN_ALL } else { FROM_ONE };
        let own = taken.get(&peer).copied().unwrap_or(0);
        if own >= most || taken.values().sum::<usize>() >= IN_ALL {
            return None;
        }
        taken.insert(peer, own + 1);
        Some(Seat {
            seats: self.clone(),
            peer,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self
            .seats
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_cannot_take_every_place_and_places_come_back() {
        let seats = Seats::default();
        let greedy: IpAddr = "203.0.113.7".parse().expect("an address");
        let mapped: IpAddr = "::ffff:203.0.113.7".parse().expect("an address");
        let held: Vec<_> = (0..FROM_ONE).filter_map(|_| seats.take(greedy)).collect();
        assert_eq!(held.len(), FROM_ONE);
        assert!(seats.take(greedy).is_none());
        assert!(seats.take(mapped).is_none(), "the same peer");
        let local: IpAddr = "::1".parse().expect("an address");
        let rest: Vec<_> = (0..IN_ALL).filter_map(|_| seats.take(local)).collect();
        assert_eq!(rest.len(), IN_ALL - FROM_ONE);
        drop(held);
        assert!(seats.take(greedy).is_some());
        drop(rest);
        assert!(seats.taken.lock().expect("unlocked").is_empty());
    }
}
