//! The decision's tables in memory.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use firewall_common::Direction;
use firewall_common::bans::Bans;
use firewall_common::decide::{CLASS_SLOTS, Head, Socket, Step, Tables};
use firewall_common::fragments::{DatagramSet, FRAGMENT_SETS};
use firewall_common::image::{Field, GROUPS, Image, LINE_WORDS, Line, constant};
use firewall_common::layout::{CONNECTIONS, Connection, Counter, FlowKey, RULE_COUNTERS};
use firewall_common::limit::{Limit, LimitTable, Limited, Limits, MemoryLine};
use firewall_common::packet::Packet;
use firewall_common::signature::{PAYLOADS, Shown, SignatureTable};
use ipnet::IpNet;

use crate::bans::{BanSet, BucketCopy, Refused};
use crate::policy::{Compiled, Constants};

/// The kernel's helpers look no farther into a frame.
const MAX_FRAME: usize = 0xffff;

#[derive(Debug)]
pub(super) struct Memory {
    pub(super) compiled: Compiled,
    /// Made for the first ban.
    bans: Option<BanSet>,
    connections: HashMap<FlowKey, Connection>,
    /// Made for the first fragment.
    datagrams: Vec<DatagramSet>,
    classes: [u32; CLASS_SLOTS],
    heads: [Head; GROUPS],
    pub(super) hits: Vec<Counter>,
    /// Present when the policy has limits.
    limits: Option<LimitTable>,
    pub(super) limited: Vec<Counter>,
    pub(super) steps: Option<Vec<Step>>,
    /// The lines of the image that are read, where somebody wants to know.
    pub(super) lines: Option<RefCell<BTreeSet<u32>>>,
    /// The frame in hand, where the policy or a signature looks at payloads.
    frame: Vec<u8>,
    pub(super) signatures: SignatureTable,
}

impl Memory {
    pub(super) fn new(compiled: Compiled) -> Self {
        let has_limits = [&compiled.inbound, &compiled.outbound]
            .into_iter()
            .any(|constants| constants[constant::LIMITS] != 0);
        Self {
            limits: has_limits.then(LimitTable::default),
            limited: vec![
                Counter::default();
                if has_limits {
                    RULE_COUNTERS as usize
                } else {
                    0
                }
            ],
            compiled,
            bans: None,
            connections: HashMap::new(),
            datagrams: Vec::new(),
            classes: [0; CLASS_SLOTS],
            heads: [Head::NONE; GROUPS],
            hits: vec![Counter::default(); RULE_COUNTERS as usize],
            steps: None,
            lines: None,
            frame: Vec::new(),
            signatures: SignatureTable::EMPTY,
        }
    }

    /// Keeps the frame that is judged next, if the policy looks at payloads.
    #[inline]
    pub(super) fn take_frame(&mut self, frame: &[u8]) {
        let patterns = |constants: &Constants| constants[constant::PATTERN_COUNT] != 0;
        if patterns(&self.compiled.inbound)
            || patterns(&self.compiled.outbound)
            || self.signatures.state & PAYLOADS != 0
        {
            self.frame.clear();
            self.frame
                .extend_from_slice(&frame[..frame.len().min(MAX_FRAME)]);
        }
    }

    pub(super) fn ban(&mut self, prefix: IpNet, until: u64) -> Result<(), Refused> {
        let bans = match self.bans.take() {
            Some(bans) => bans,
            None => BanSet::private()?,
        };
        self.bans.insert(bans).insert(prefix, until)
    }

    /// Holds a prefix to a limit.
    pub(super) fn limit(
        &mut self,
        prefix: IpNet,
        until: u64,
        limit: &Limit,
    ) -> Result<(), Refused> {
        self.limits.get_or_insert_with(LimitTable::default);
        let bans = match self.bans.take() {
            Some(bans) => bans,
            None => BanSet::private()?,
        };
        let bans = self.bans.insert(bans);
        bans.set_limit(limit);
        bans.limit(prefix, until)
    }

    pub(super) fn unban(&mut self, prefix: IpNet) -> bool {
        self.bans.as_mut().is_some_and(|bans| bans.remove(prefix))
    }

    pub(super) fn connection(&self, key: &FlowKey) -> Option<Connection> {
        self.connections.get(key).copied()
    }
}

impl Memory {
    #[inline]
    fn note(&self, line: u32) {
        if let Some(lines) = &self.lines {
            lines.borrow_mut().insert(line);
        }
    }
}

impl Image for Memory {
    #[inline]
    fn line(&self, index: u32) -> Option<&Line> {
        self.note(index);
        let start = index as usize * LINE_WORDS;
        self.compiled.image.get(start..)?.first_chunk()
    }

    #[inline]
    fn word(&self, index: u32) -> u64 {
        self.note(index / LINE_WORDS as u32);
        self.compiled
            .image
            .get(index as usize)
            .copied()
            .unwrap_or(0)
    }
}

impl Bans for Memory {
    type Bucket = BucketCopy;

    #[inline]
    fn ban_filter(&self, word: u32) -> u64 {
        self.bans.as_ref().map_or(0, |bans| bans.ban_filter(word))
    }

    #[inline]
    fn bans_v4(&self, bucket: u32) -> Option<BucketCopy> {
        self.bans.as_ref()?.bans_v4(bucket)
    }

    #[inline]
    fn bans_v6(&self, bucket: u32) -> Option<BucketCopy> {
        self.bans.as_ref()?.bans_v6(bucket)
    }

    #[inline]
    fn forget_bits(&mut self, bits: u64) -> u64 {
        bits
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

    fn datagrams(&mut self, set: u32) -> Option<&mut DatagramSet> {
        if self.datagrams.is_empty() {
            self.datagrams
                .resize(FRAGMENT_SETS as usize, DatagramSet::default());
        }
        self.datagrams.get_mut(set as usize)
    }

    /// A recording's host has no sockets.
    #[inline]
    fn socket(&self, _key: &FlowKey) -> Socket {
        Socket::None
    }

    #[inline]
    fn bytes(&mut self, _direction: Direction, offset: u32, length: u32) -> Option<[u64; 2]> {
        let (offset, length) = (offset as usize, length as usize);
        let there = self.frame.get(offset..offset + length)?;
        let mut bytes = [0; 16];
        bytes.get_mut(..length)?.copy_from_slice(there);
        let bits = u128::from_be_bytes(bytes);
        Some([(bits >> 64) as u64, bits as u64])
    }

    #[inline]
    fn set_class(&mut self, field: Field, class: u32) {
        self.classes[field as usize] = class;
    }

    #[inline]
    fn class(&self, field: usize) -> u32 {
        self.classes[field]
    }

    #[inline]
    fn set_head(&mut self, group: usize, head: Head) {
        self.heads[group] = head;
    }

    #[inline]
    fn head(&self, group: usize) -> Head {
        self.heads[group]
    }

    #[inline]
    fn hit(&mut self, counter: u32, bytes: u32) {
        if let Some(hits) = self.hits.get_mut(counter as usize) {
            hits.packets += 1;
            hits.bytes += u64::from(bytes);
        }
    }

    #[inline]
    fn over_limit(&mut self, counter: u32, bytes: u32) {
        if let Some(limited) = self.limited.get_mut(counter as usize) {
            limited.packets += 1;
            limited.bytes += u64::from(bytes);
        }
    }

    #[inline]
    fn signatures(&self) -> u64 {
        self.signatures.state
    }

    #[inline]
    fn signature(&mut self, packet: &Packet, now: u64, payload: [u64; 2], length: u32) -> u32 {
        let shown = Shown::of(packet, payload, length);
        self.signatures.find(&shown, now)
    }

    #[inline]
    fn step(&mut self, step: Step) {
        if let Some(steps) = &mut self.steps {
            steps.push(step);
        }
    }
}

impl Limits for Memory {
    type LimitLine<'a> = &'a MemoryLine;

    #[inline]
    fn limit_line(&mut self, key: u64) -> Option<&MemoryLine> {
        self.limits.as_ref().map(|limits| limits.line(key))
    }

    /// As in a test run of the kernel programs, so that both displace alike.
    #[inline]
    fn seed(&self) -> u32 {
        0
    }

    #[inline]
    fn limited(&mut self, counter: u32, limited: Limited) {
        self.step(Step::Limit { counter, limited });
    }
}
