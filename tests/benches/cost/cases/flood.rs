//! What a packet touches in a flood, and what of it the processor's nearer caches do not have: a model, as a
//! virtual machine does not let its processor's counters be read.
//!
//! Each packet has one of all the headers, drawn at random, and the account of a source drawn at random from all of
//! IPv4: forged sources are what drives a policy out of the caches. The lines of the policy are those that the
//! header reads. The frame stands in the next of a ring of buffers, which the network card wrote before, so that
//! no cache has it.

use firewall_common::decide::Scratch;
use firewall_common::image::constant;
use firewall_common::layout::{
    Counter, HostKinds, NO_RULE, SOURCE_BUCKETS, SourceFronts, SourceHeads, Uses, total_index,
};
use firewall_common::{Direction, sampling, sources};
use firewall_user::engine::{Judged, SOURCE_SEED};
use palisade_tests::cache::{Caches, LINE};
use serde::Serialize;

use crate::data::Numbers;

/// Misses of a packet, on average.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Misses {
    /// What the first level of cache has not.
    pub first: f64,
    /// What the second has not either: it comes from the cache that all processors share, or from memory.
    pub second: f64,
}

/// The lines that a header touches, but for those that depend on the packet's place and source.
#[derive(Clone, Debug)]
pub struct Touched(Vec<u64>);

/// Packets before the count begins, and packets that are counted.
const WARM_UP: u32 = 100_000;
const COUNTED: u32 = 200_000;

/// Buffers that a network card writes in turn, and the lines of a frame's headers.
const RING: u64 = 1_024;
const BUFFER_LINES: u64 = 2_048 / LINE as u64;
const FRAME_LINES: u64 = 2;

/// Memory that stands apart, each with room for its lines.
enum Memory {
    Policy,
    Totals,
    Hits,
    Uses,
    /// What every packet touches: constants, scratch memory, counts of kinds, stack.
    Every,
    Fronts,
    Sources,
    Ring,
}

impl Memory {
    fn line(self, line: u64) -> u64 {
        (self as u64) << 40 | line
    }

    /// The line of entry `index` of a table.
    fn entry<T>(self, index: u32) -> u64 {
        self.line(u64::from(index) * size_of::<T>() as u64 / LINE as u64)
    }
}

impl Touched {
    /// Of a header that was judged and read these lines of the policy.
    pub fn new(judged: &Judged, policy: &[u32]) -> Self {
        let judgement = judged.judgement;
        let mut lines: Vec<u64> = policy
            .iter()
            .map(|&line| Memory::Policy.line(u64::from(line)))
            .collect();
        let total = total_index(
            0,
            Direction::Inbound as u32,
            judgement.verdict as u32,
            judgement.reason as u32,
        );
        lines.push(Memory::Totals.entry::<Counter>(total));
        if judgement.rule != NO_RULE {
            lines.push(Memory::Hits.entry::<Counter>(judgement.rule));
            let uses = sampling::uses(&judged.packet, judgement);
            if uses.connections | uses.requests != 0 {
                lines.push(Memory::Uses.entry::<Uses>(judgement.rule));
            }
        }
        Self(lines)
    }
}

/// Lines that every packet touches, and the bytes of a program's stack.
const EVERY: u64 = (constant::COUNT * size_of::<u32>() / LINE
    + size_of::<Scratch>() / LINE
    + size_of::<HostKinds>() / LINE
    + 512 / LINE
    + 4) as u64;

/// The misses of a packet in a flood of these headers; `None` where the kernel does not tell how large the
/// caches are, or there is no header.
pub fn misses(headers: &[Touched]) -> Option<Misses> {
    let mut caches = Caches::of_this_machine()?;
    if headers.is_empty() {
        return None;
    }
    let mut numbers = Numbers::new(0xf100d);
    for packet in 0..WARM_UP + COUNTED {
        if packet == WARM_UP {
            caches.misses = [0; 2];
        }
        let buffer = u64::from(packet) % RING * BUFFER_LINES;
        for line in (buffer..buffer + FRAME_LINES).map(|line| Memory::Ring.line(line)) {
            caches.overwrite(line);
            caches.touch(line);
        }
        let key = 1 << 32 | u64::from(numbers.draw());
        let bucket = sources::bucket_of(sources::hash(key, SOURCE_SEED), SOURCE_BUCKETS);
        caches.touch(Memory::Fronts.entry::<SourceFronts>(bucket));
        // Written for a stranger that gets a place, and then not waited for: counted for all.
        caches.touch(Memory::Sources.entry::<SourceHeads>(bucket));
        (0..EVERY).for_each(|line| caches.touch(Memory::Every.line(line)));
        let Touched(lines) = &headers[numbers.draw() as usize % headers.len()];
        lines.iter().for_each(|&line| caches.touch(line));
    }
    let [first, second] = caches
        .misses
        .map(|misses| misses as f64 / f64::from(COUNTED));
    Some(Misses { first, second })
}
