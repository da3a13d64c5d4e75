//! Who the newcomers are: how widely they are spread over networks, and what they come for. The entropy of sources rises and that of ports
//! falls when an attack is distributed (Lakhina, Crovella, Diot: Mining anomalies using traffic feature distributions, SIGCOMM 2005).

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::Time;

/// How long a slot is; the one before stands for how it was.
const SLOT: Time = 60_000_000_000;
/// Most networks and ports that are told apart in a slot.
const MOST: usize = 4_096;

/// New sources of the minute under way and of the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowd {
    began: Time,
    now: Slot,
    before: Slot,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    networks: HashMap<u64, u32>,
    ports: HashMap<u16, u32>,
}

impl Crowd {
    pub fn add(&mut self, time: Time, source: IpAddr, port: u16) {
        if time.saturating_sub(self.began) >= SLOT || time < self.began {
            self.before = std::mem::take(&mut self.now);
            self.began = time;
        }
        count(&mut self.now.networks, network(source));
        count(&mut self.now.ports, port);
    }

    /// Entropies in bits, with how many there are of each.
    pub fn evidence(&self) -> Map<String, Value> {
        let mut evidence = Map::new();
        for (when, slot) in [("", &self.now), ("_before", &self.before)] {
            let mut put = |name: &str, value: Value| {
                evidence.insert(format!("{name}{when}"), value);
            };
            put("source_networks", json!(slot.networks.len()));
            put("source_entropy", json!(entropy(slot.networks.values())));
            put("ports", json!(slot.ports.len()));
            put("port_entropy", json!(entropy(slot.ports.values())));
        }
        evidence
    }
}

fn count<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: K) {
    if counts.len() < MOST || counts.contains_key(&key) {
        let count = counts.entry(key).or_default();
        *count = count.saturating_add(1);
    }
}

/// The /16 or /32 that an address is in, as a number of its own.
fn network(source: IpAddr) -> u64 {
    match source {
        IpAddr::V4(address) => u64::from(address.to_bits() >> 16),
        IpAddr::V6(address) => (1 << 32) | (address.to_bits() >> 96) as u64,
    }
}

/// Shannon's entropy in bits, to two digits.
fn entropy<'a>(counts: impl Iterator<Item = &'a u32> + Clone) -> f64 {
    let total: f64 = counts.clone().map(|count| f64::from(*count)).sum();
    let bits: f64 = counts
        .map(|count| {
            let share = f64::from(*count) / total;
            -share * share.log2()
        })
        .sum();
    (bits * 100.0).round().abs() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_from_everywhere_have_a_higher_entropy_than_neighbours() {
        let mut crowd = Crowd::default();
        for _ in 0..64 {
            crowd.add(0, "198.51.100.7".parse().unwrap(), 443);
        }
        for host in 0..64_u32 {
            let stranger = (host << 24) | 0x000b_0c0d;
            crowd.add(SLOT, IpAddr::from(stranger.to_be_bytes()), 443);
        }
        let evidence = crowd.evidence();
        let number = |name: &str| evidence[name].as_f64().unwrap();
        assert!(number("source_entropy") > 5.0, "{evidence:?}");
        assert_eq!(number("source_entropy_before"), 0.0);
        assert_eq!(number("port_entropy"), 0.0);
    }
}
