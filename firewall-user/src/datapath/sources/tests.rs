//! What the kernel counts, and what a look tells of it.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use firewall_common::layout::SourceFronts;
use firewall_common::sources::{self, Observation};
use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
const BUCKETS: usize = 4;
const STRIPES: usize = 3;
/// Between two packets.
const PAUSES: [u64; 6] = [
    0,
    SECOND / 1000,
    SECOND / 50,
    SECOND / 4,
    9 * SECOND,
    15 * SECOND,
];
/// When the tests begin: late enough to look back.
const START: u64 = 100 * SECOND;

fn table() -> SourceTable {
    let map = |bytes| MmapMut::map_anon(BUCKETS * STRIPES * bytes).unwrap();
    SourceTable::new(
        map(size_of::<SourceFronts>()),
        map(size_of::<SourceHeads>()),
        map(size_of::<SourceBody>()),
        BUCKETS,
    )
}

/// The memory of a table, as the kernel has it.
#[derive(Clone, Copy)]
struct Memory {
    fronts: *mut SourceFronts,
    heads: *mut SourceHeads,
    bodies: *mut SourceBody,
}

#[expect(unsafe_code, reason = "the kernel's side of the shared memory")]
// SAFETY: the kernel's CPUs write to the memory while it is read, each its own stripe, and so do the threads of a test.
unsafe impl Send for Memory {}

impl Memory {
    /// What the kernel does for a packet on a CPU.
    #[expect(unsafe_code, reason = "the kernel's side of the shared memory")]
    fn packet(self, cpu: usize, source: u32, now: u64) {
        let observation = Observation {
            key: 1 << 32 | u64::from(source),
            packets: 1,
            bytes: 60,
            contact: true,
            port: (source % 64) as u8,
            ..Observation::default()
        };
        let bucket = sources::bucket_index(observation.key, 1, BUCKETS as u32);
        let at = cpu * BUCKETS + bucket as usize;
        // What was read before is not taken for what is there now.
        let memory = black_box(self);
        // SAFETY: the memory is large enough and aligned, and nobody else counts on this CPU.
        unsafe {
            let (fronts, heads) = (memory.fronts.add(at), memory.heads.add(at));
            let body = memory.bodies.add(at);
            sources::record(&mut *fronts, &mut *heads, &mut *body, &observation, now);
        }
        black_box(self);
    }
}

impl SourceTable {
    fn memory(&mut self) -> Memory {
        Memory {
            fronts: self.fronts.as_mut_ptr(),
            heads: self.heads.as_mut_ptr().cast(),
            bodies: self.bodies.as_mut_ptr().cast(),
        }
    }

    fn packet(&mut self, cpu: usize, source: u32, now: u64) {
        self.memory().packet(cpu, source, now);
    }

    /// What a look would tell that asks every record.
    fn all_that_were_active(&self, now: u64) -> Vec<(IpAddr, u64)> {
        let since = self
            .looked
            .map_or(now.saturating_sub(FIRST_LOOK), |looked| {
                looked.saturating_sub(LAG)
            });
        let steps = steps_between(since, now);
        let mut active: BTreeMap<IpAddr, (bool, u64)> = BTreeMap::new();
        for at in 0..BUCKETS * STRIPES {
            for way in 0..SOURCE_WAYS {
                if let Some(sample) = self.sample(at, way, now, now) {
                    let (is_active, packets) = active.entry(sample.source).or_default();
                    *is_active |= meta(&self.heads, at, way).is_within(steps, now);
                    *packets += sample.counters.packets;
                }
            }
        }
        let active = active.into_iter().filter(|(_, (is_active, _))| *is_active);
        active
            .map(|(source, (_, packets))| (source, packets))
            .collect()
    }

    /// Another daemon takes the table over.
    fn take_over(&mut self) {
        self.looked = None;
        self.recent.clear();
    }

    fn shown(&mut self, now: u64) -> Vec<(IpAddr, u64)> {
        let mut shown: Vec<_> = self
            .active(now, now)
            .iter()
            .map(|sample| (sample.source, sample.counters.packets))
            .collect();
        shown.sort_unstable();
        shown
    }
}

fn address(source: u32) -> IpAddr {
    std::net::Ipv4Addr::from(source).into()
}

#[test]
fn only_who_sent_since_the_last_look_is_told_with_all_that_every_cpu_counted() {
    let mut table = table();
    table.packet(0, 7, START);
    table.packet(1, 7, START);
    table.packet(1, 7, START);
    table.packet(2, 8, START);
    let later = START + SECOND;
    assert_eq!(table.shown(later), [(address(7), 3), (address(8), 1)]);
    assert_eq!(table.shown(later + SECOND / 2), []);
    table.packet(2, 7, later + SECOND);
    assert_eq!(table.shown(later + SECOND), [(address(7), 4)]);
}

#[test]
fn what_is_counted_while_the_table_is_read_is_told_at_once_or_the_next_time() {
    let mut table = table();
    table.shown(START);
    // The kernel's clock is ahead of the time at which reading began.
    table.packet(0, 7, START + SECOND + 40_000_000);
    assert_eq!(table.shown(START + SECOND), [(address(7), 1)]);
    // And behind the time at which it was read last.
    table.packet(0, 8, START + 2 * SECOND - 9_000_000);
    table.shown(START + 2 * SECOND);
    table.packet(0, 9, START + 2 * SECOND - 9_000_000);
    let shown = table.shown(START + 3 * SECOND);
    assert!(shown.contains(&(address(9), 1)), "{shown:?}");
}

#[test]
fn bitmaps_are_told_once_and_what_was_seen_before_the_first_look_never() {
    let mut table = table();
    for _ in 0..2 {
        table.packet(0, 7, START - SECOND);
    }
    assert_eq!(table.active(START - SECOND, START)[0].counters.ports, 0);
    table.packet(0, 7, START);
    let ports = |table: &mut SourceTable, now| table.active(now, now)[0].counters.ports;
    assert_eq!(ports(&mut table, START), 1 << 7);
    assert_eq!(ports(&mut table, START), 0);
}

#[test]
fn a_source_that_is_silent_for_hours_leaves_the_table_and_does_not_seem_to_be_back() {
    let mut table = table();
    for source in 0..8 {
        table.packet(0, source, START);
    }
    table.packet(1, 7, START);
    table.shown(START + SECOND);
    let mut told = 0;
    // A minute at a time, past the moment at which the time last seen has wrapped.
    for minute in 1..200 {
        let now = START + minute * 60 * SECOND;
        for _ in 0..4 {
            told += table.shown(now).len();
        }
        let expected = if minute < 60 { 8 } else { 0 };
        if !(60..=65).contains(&minute) {
            assert_eq!(table.count().1, expected, "after {minute} minutes");
        }
    }
    assert_eq!(told, 0);
}

#[test]
fn a_source_entered_when_the_first_cpu_saw_it_also_when_milliseconds_wrap() {
    // 32 bits of milliseconds are 49.7 days.
    let wrap = (1_u64 << 32) * 1_000_000;
    for begin in [START, wrap - SECOND, 3 * wrap - SECOND] {
        let mut table = table();
        table.active(begin - SECOND, begin);
        table.packet(1, 7, begin);
        let later = begin + 2 * SECOND;
        table.packet(0, 7, later);
        table.packet(0, 7, later);
        let entered = table.active(later, later)[0].entered;
        let early = (begin / 1_000_000).saturating_sub(entered);
        assert!(early < 17, "{early} ms before its first packet");
    }
}

#[test]
fn places_and_sources_are_counted_apart() {
    let mut table = table();
    for (cpu, source) in [(0, 1), (1, 1), (2, 1), (0, 2)] {
        table.packet(cpu, source, START);
    }
    assert_eq!(table.count(), (4, 2));
}

#[test]
fn nothing_is_missed_that_is_counted_while_the_table_is_read() {
    const SOURCES: u32 = 6;
    const PACKETS: usize = 200_000;
    let mut table = table();
    let memory = table.memory();
    let began = Instant::now();
    let now = move || START + began.elapsed().as_nanos() as u64;
    table.shown(now());
    let counting = AtomicUsize::new(STRIPES);
    let mut told: BTreeMap<IpAddr, u64> = BTreeMap::new();
    let sent = std::thread::scope(|scope| {
        let cpus: Vec<_> = (0..STRIPES)
            .map(|cpu| {
                let counting = &counting;
                scope.spawn(move || {
                    let mut sent = [0_u64; SOURCES as usize];
                    let mut random = 0x9e37_79b9_7f4a_7c15_u64 + cpu as u64;
                    for _ in 0..PACKETS {
                        // xorshift64 (Marsaglia, Journal of Statistical Software, 2003).
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let source = random as u32 % SOURCES;
                        // A thread may be held up half way, a program in the kernel is not: then another packet comes.
                        loop {
                            let time = now();
                            memory.packet(cpu, source, time);
                            sent[source as usize] += 1;
                            if now() - time < LAG / 2 {
                                break;
                            }
                        }
                    }
                    counting.fetch_sub(1, Ordering::Release);
                    sent
                })
            })
            .collect();
        while counting.load(Ordering::Acquire) > 0 {
            told.extend(table.shown(now()));
        }
        let sent = cpus.into_iter().map(|cpu| cpu.join().unwrap());
        sent.fold([0; SOURCES as usize], |sums, sent| {
            std::array::from_fn(|source| sums[source] + sent[source])
        })
    });
    // Nothing comes any more; what was counted during the latest look is told by the next.
    told.extend(table.shown(now()));
    for (source, sent) in (0..).zip(sent) {
        assert_eq!(told.get(&address(source)), Some(&sent), "source {source}");
    }
}

proptest! {
    #[test]
    fn a_look_by_what_changed_tells_the_same_as_one_at_all_records(
        steps in prop::collection::vec((0..60_u32, 0..STRIPES, 0..PAUSES.len(), 0..LAG, 0..8_u8), 1..400),
    ) {
        // More sources than there are places for, so that some are displaced; and no longer than it takes for the
        // time last seen to wrap.
        let mut table = table();
        let mut now = START;
        table.begin_new();
        for (source, cpu, pause, late, what) in steps {
            now += PAUSES[pause];
            // The packet path's clock is behind at most so far.
            table.packet(cpu, source, now - late);
            if what < 3 {
                let expected = table.all_that_were_active(now);
                prop_assert_eq!(table.shown(now), expected);
            } else if what == 3 && source % 8 == 0 {
                table.take_over();
                // It takes a while to start.
                now += SECOND / 4;
            }
        }
    }

    #[test]
    fn every_source_that_sent_is_told_and_its_counts_never_shrink(
        steps in prop::collection::vec((0..6_u32, 0..STRIPES, 0..SECOND / 4, any::<bool>()), 1..200),
    ) {
        // Few enough sources, and a time short enough, that none is displaced.
        let mut table = table();
        let mut truth: BTreeMap<IpAddr, u64> = BTreeMap::new();
        let mut told: BTreeMap<IpAddr, u64> = BTreeMap::new();
        let mut now = START;
        table.shown(now);
        for (source, cpu, later, look) in steps {
            now += later;
            table.packet(cpu, source, now);
            *truth.entry(address(source)).or_default() += 1;
            if look {
                told.extend(table.shown(now));
                prop_assert_eq!(&told, &truth);
            }
        }
    }
}
