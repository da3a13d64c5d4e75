//! The decision's tables in memory.

use std::collections::HashMap;

use firewall_common::Direction;
use firewall_common::decide::{Step, Tables};
use firewall_common::image::Image;
use firewall_common::layout::{BanKey, CONNECTIONS, Connection, Counter, FlowKey, RULE_COUNTERS};
use ipnet::IpNet;

use super::address;
use crate::policy::Compiled;

#[derive(Debug)]
pub(super) struct Memory {
    pub(super) compiled: Compiled,
    bans: HashMap<BanKey, u64>,
    lengths: [u64; 3],
    connections: HashMap<FlowKey, Connection>,
    pub(super) hits: Vec<Counter>,
    pub(super) steps: Option<Vec<Step>>,
}

impl Memory {
    pub(super) fn new(compiled: Compiled) -> Self {
        Self {
            compiled,
            bans: HashMap::new(),
            lengths: [0; 3],
            connections: HashMap::new(),
            hits: vec![Counter::default(); RULE_COUNTERS as usize],
            steps: None,
        }
    }

    pub(super) fn ban(&mut self, prefix: IpNet, until: u64) {
        let key = ban_key(prefix);
        let (word, bit) = length_bit(&key);
        self.bans.insert(key, until);
        self.lengths[word] |= bit;
    }

    pub(super) fn connection(&self, key: &FlowKey) -> Option<Connection> {
        self.connections.get(key).copied()
    }

    pub(super) fn unban(&mut self, prefix: IpNet) -> bool {
        self.bans.remove(&ban_key(prefix)).is_some()
    }
}

/// The key under which a prefix is banned.
pub fn ban_key(prefix: IpNet) -> BanKey {
    let length = u32::from(prefix.prefix_len()) + if prefix.addr().is_ipv4() { 96 } else { 0 };
    BanKey {
        address: address(prefix.network()),
        length,
        reserved: 0,
    }
}

/// Word and bit of a ban's length in the length bitmap.
pub fn length_bit(key: &BanKey) -> (usize, u64) {
    if key.address.is_v4() && key.length >= 96 {
        (0, 1 << (key.length.max(97) - 97))
    } else if key.length > 64 {
        (2, 1 << (key.length - 65))
    } else {
        (1, 1 << (key.length.max(1) - 1))
    }
}

impl Image for Memory {
    #[inline]
    fn word(&self, index: u32) -> u64 {
        self.compiled
            .image
            .get(index as usize)
            .copied()
            .unwrap_or(0)
    }
}

impl Tables for Memory {
    #[inline]
    fn constant(&self, direction: Direction, index: usize) -> u32 {
        match direction {
            Direction::Inbound => self.compiled.inbound[index],
            Direction::Outbound => self.compiled.outbound[index],
        }
    }

    #[inline]
    fn ban_lengths(&self, word: u32) -> u64 {
        self.lengths.get(word as usize).copied().unwrap_or(0)
    }

    #[inline]
    fn ban(&self, key: &BanKey) -> Option<u64> {
        self.bans.get(key).copied()
    }

    #[inline]
    fn with_connection<R>(
        &mut self,
        key: &FlowKey,
        change: impl FnOnce(&mut Connection) -> R,
    ) -> Option<R> {
        self.connections.get_mut(key).map(change)
    }

    fn insert_connection(&mut self, key: &FlowKey, connection: Connection) {
        if self.connections.len() >= CONNECTIONS as usize && !self.connections.contains_key(key) {
            // As in the kernel, the one that was silent longest gives way. Rare enough to search.
            let oldest = self
                .connections
                .iter()
                .min_by_key(|(_, c)| c.last_seen)
                .map(|(k, _)| *k);
            if let Some(oldest) = oldest {
                self.connections.remove(&oldest);
            }
        }
        self.connections.insert(*key, connection);
    }

    /// A recording's host has no sockets.
    #[inline]
    fn has_socket(&self, _key: &FlowKey) -> bool {
        false
    }

    #[inline]
    fn hit(&mut self, counter: u32, bytes: u32) {
        if let Some(hits) = self.hits.get_mut(counter as usize) {
            hits.packets += 1;
            hits.bytes += u64::from(bytes);
        }
    }

    #[inline]
    fn step(&mut self, step: Step) {
        if let Some(steps) = &mut self.steps {
            steps.push(step);
        }
    }
}
