//! Reads the table of sources through shared memory.
//!
//! The kernel keeps a stripe for each CPU; a source has the same bucket in every stripe, and its counts
//! are the sum over them. A look at the table reads one cache line for each bucket, and of those
//! sources only that were seen since the look before, their counters: silence costs next to nothing.

use firewall_common::layout::{SOURCE_WAYS, SourceBody, SourceCounters, SourceFronts, SourceHeads};
use firewall_common::sources::{Meta, STEP_BITS};
use memmap2::MmapMut;

use crate::detect::{SourceSample, Time};
use crate::engine::source_sample;

/// How far the packet path's clock may be behind: a tick of the slowest kernel (CONFIG_HZ = 100).
const LAG: u64 = 10_000_000;
/// How far back the first look goes.
const FIRST_LOOK: u64 = 60_000_000_000;
/// Sources that were silent for so long leave the table: the time last seen wraps at 2 h 26 min, and then
/// they would seem to be back.
const FORGOTTEN: u64 = 3_600_000_000_000;
/// Each look checks this share of the table for such sources.
const SHARE: usize = 256;

/// The table, mapped.
pub(super) struct SourceTable {
    fronts: MmapMut,
    heads: MmapMut,
    bodies: MmapMut,
    /// Of each stripe.
    buckets: usize,
    stripes: usize,
    /// When the table was looked at last, on the packet path's clock.
    looked: Option<u64>,
    /// Where the search for forgotten sources goes on.
    search: usize,
    /// Nobody looked at the table before, so all that it holds is told.
    is_new: bool,
}

impl SourceTable {
    /// `buckets` is the number of each stripe's.
    pub(super) fn new(fronts: MmapMut, heads: MmapMut, bodies: MmapMut, buckets: usize) -> Self {
        Self {
            fronts,
            stripes: heads.len() / size_of::<SourceHeads>() / buckets,
            heads,
            bodies,
            buckets,
            looked: None,
            search: 0,
            is_new: false,
        }
    }

    /// Takes the table for one that was empty just now.
    pub(super) fn begin_new(&mut self) {
        self.is_new = true;
    }

    /// The sources that sent something since the last call; the first has those of the last minute. `now`
    /// on the packet path's clock is `time`. Bitmaps of what is told start anew.
    pub(super) fn active(&mut self, now: u64, time: Time) -> Vec<SourceSample> {
        let since = match self.looked.replace(now) {
            Some(looked) => looked.saturating_sub(LAG),
            None => {
                // What stands there is of a daemon before, and may be old.
                if !self.is_new {
                    self.clear_bitmaps();
                }
                now.saturating_sub(FIRST_LOOK)
            }
        };
        let steps = steps_between(since, now);
        let mut samples = Vec::new();
        for bucket in 0..self.buckets {
            let mut is_active = false;
            for stripe in 0..self.stripes {
                let metas = self.metas(stripe * self.buckets + bucket);
                // No key is asked for: an empty place seems active for a few steps in hours.
                is_active |= metas.iter().any(|meta| meta.is_within(steps, now));
            }
            if is_active {
                self.gather(bucket, steps, now, time, &mut samples);
            }
        }
        self.forget(now);
        samples
    }

    /// Adds the sources of a bucket that were active within the last `steps`.
    fn gather(
        &mut self,
        bucket: usize,
        steps: u64,
        now: u64,
        time: Time,
        samples: &mut Vec<SourceSample>,
    ) {
        let from = samples.len();
        for stripe in 0..self.stripes {
            let at = stripe * self.buckets + bucket;
            let heads = self.heads(at);
            for way in 0..SOURCE_WAYS {
                if heads.keys[way] != 0
                    && Meta(heads.metas[way]).is_within(steps, now)
                    && let Some(sample) = self.sample(at, way, now, time)
                    && !samples[from..]
                        .iter()
                        .any(|known| known.source == sample.source)
                {
                    samples.push(sample);
                    self.gather_others(bucket, stripe, heads.keys[way], now, time, samples);
                    self.clear_bitmap(at, way);
                }
            }
        }
    }

    /// Adds what other stripes hold of a source to the latest sample.
    fn gather_others(
        &mut self,
        bucket: usize,
        but: usize,
        key: u64,
        now: u64,
        time: Time,
        samples: &mut [SourceSample],
    ) {
        let Some(sum) = samples.last_mut() else {
            return;
        };
        for stripe in (0..self.stripes).filter(|stripe| *stripe != but) {
            let at = stripe * self.buckets + bucket;
            let keys = self.heads(at).keys;
            let Some(way) = keys.iter().position(|other| *other == key) else {
                continue;
            };
            if let Some(sample) = self.sample(at, way, now, time) {
                merge(sum, &sample);
                self.clear_bitmap(at, way);
            }
        }
    }

    fn sample(&self, at: usize, way: usize, now: u64, time: Time) -> Option<SourceSample> {
        let heads = self.heads(at);
        let key = heads.keys[way];
        (key != 0).then(|| {
            let meta = Meta(heads.metas[way]);
            source_sample(key, meta, || self.counters(at, way), now, time)
        })
    }

    /// Takes sources out of the table that have been silent for long: a share of it in each call.
    fn forget(&mut self, now: u64) {
        let lines = self.buckets * self.stripes;
        let steps = steps_between(now.saturating_sub(FORGOTTEN), now);
        for _ in 0..lines.div_ceil(SHARE) {
            let at = self.search;
            self.search = (at + 1) % lines;
            let heads = self.heads(at);
            for way in 0..SOURCE_WAYS {
                if heads.keys[way] != 0 && !Meta(heads.metas[way]).is_within(steps, now) {
                    self.empty(at, way);
                }
            }
        }
    }

    fn clear_bitmaps(&mut self) {
        for at in 0..self.buckets * self.stripes {
            let keys = self.heads(at).keys;
            for (way, _) in keys.iter().enumerate().filter(|(_, key)| **key != 0) {
                self.clear_bitmap(at, way);
            }
        }
    }

    /// How many sources the table holds: places taken, and distinct sources.
    pub(super) fn count(&self) -> (u64, u64) {
        let (mut taken, mut distinct) = (0, 0);
        let mut keys = Vec::with_capacity(self.stripes * SOURCE_WAYS);
        for bucket in 0..self.buckets {
            for stripe in 0..self.stripes {
                let heads = self.heads(stripe * self.buckets + bucket);
                keys.extend(heads.keys.into_iter().filter(|key| *key != 0));
            }
            taken += keys.len() as u64;
            keys.sort_unstable();
            keys.dedup();
            distinct += keys.len() as u64;
            keys.clear();
        }
        (taken, distinct)
    }

    pub(super) fn capacity(&self) -> u64 {
        (self.buckets * self.stripes * SOURCE_WAYS) as u64
    }

    #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
    fn heads(&self, index: usize) -> SourceHeads {
        let offset = index * size_of::<SourceHeads>();
        let bytes = &self.heads[offset..offset + size_of::<SourceHeads>()];
        // SAFETY: the slice has the size of the heads, and any bytes are such. The kernel may write
        // meanwhile: counts are then those of a moment before or after.
        unsafe { bytes.as_ptr().cast::<SourceHeads>().read_volatile() }
    }

    /// The second half of a bucket's line.
    #[inline]
    #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
    fn metas(&self, index: usize) -> [Meta; SOURCE_WAYS] {
        let offset = index * size_of::<SourceHeads>();
        let bytes = &self.heads[offset..offset + size_of::<SourceHeads>()];
        // SAFETY: as in `heads`.
        let metas = unsafe {
            let heads = bytes.as_ptr().cast::<SourceHeads>();
            (&raw const (*heads).metas).read_volatile()
        };
        metas.map(Meta)
    }

    #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
    fn counters(&self, index: usize, way: usize) -> SourceCounters {
        let offset = index * size_of::<SourceBody>();
        let bytes = &self.bodies[offset..offset + size_of::<SourceBody>()];
        // SAFETY: as in `heads`, of a body; `way` is less than `SOURCE_WAYS`, or the index panics.
        unsafe {
            let body = bytes.as_ptr().cast::<SourceBody>();
            (&raw const (*body).counters[way]).read_volatile()
        }
    }

    #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
    fn clear_bitmap(&mut self, index: usize, way: usize) {
        let offset = index * size_of::<SourceBody>();
        let bytes = &mut self.bodies[offset..offset + size_of::<SourceBody>()];
        // SAFETY: as in `counters`; both fields are aligned words. A bit that the kernel sets at this
        // very moment may be lost, as sampling allows.
        unsafe {
            let body = bytes.as_mut_ptr().cast::<SourceBody>();
            let counters = &raw mut (*body).counters[way];
            // Most have none: memory that was not written need not be written back.
            if (&raw const (*counters).ports).read_volatile() != 0 {
                (&raw mut (*counters).ports).write_volatile(0);
            }
            if (&raw const (*counters).hosts).read_volatile() != 0 {
                (&raw mut (*counters).hosts).write_volatile(0);
            }
        }
    }

    /// Empties a place. Should its source come back at this very moment, a packet of it is lost.
    #[expect(unsafe_code, reason = "shared memory with a fixed layout")]
    fn empty(&mut self, index: usize, way: usize) {
        let offset = index * size_of::<SourceHeads>();
        let bytes = &mut self.heads[offset..offset + size_of::<SourceHeads>()];
        // SAFETY: as in `counters`, of heads.
        unsafe {
            let heads = bytes.as_mut_ptr().cast::<SourceHeads>();
            (&raw mut (*heads).keys[way]).write_volatile(0);
            (&raw mut (*heads).metas[way]).write_volatile(0);
        }
        let offset = index * size_of::<SourceFronts>();
        let bytes = &mut self.fronts[offset..offset + size_of::<SourceFronts>()];
        // SAFETY: as in `counters`, of fronts.
        unsafe {
            let fronts = bytes.as_mut_ptr().cast::<SourceFronts>();
            (&raw mut (*fronts).words[way]).write_volatile(0);
        }
    }
}

/// Steps of the time last seen from that of `since` to that of `now`.
fn steps_between(since: u64, now: u64) -> u64 {
    (now >> STEP_BITS).saturating_sub(since >> STEP_BITS)
}

fn merge(known: &mut SourceSample, more: &SourceSample) {
    let (to, from) = (&mut known.counters, &more.counters);
    to.packets += from.packets;
    to.bytes += from.bytes;
    to.drops += from.drops;
    to.syns = to.syns.wrapping_add(from.syns);
    to.requests = to.requests.wrapping_add(from.requests);
    to.failed = to.failed.wrapping_add(from.failed);
    to.ports |= from.ports;
    to.hosts |= from.hosts;
    // The earliest entry counts: a source that is new to one CPU only is not new.
    known.entered = known.entered.min(more.entered);
    known.last_seen = known.last_seen.max(more.last_seen);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use firewall_common::sources::{self, Observation};
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const BUCKETS: usize = 4;
    const STRIPES: usize = 3;
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

    impl SourceTable {
        /// What the kernel does for a packet on a CPU.
        #[expect(unsafe_code, reason = "the kernel's side of the shared memory")]
        fn packet(&mut self, cpu: usize, source: u32, now: u64) {
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
            // SAFETY: nobody else looks at this memory, and it is large enough and aligned.
            unsafe {
                let fronts = self.fronts.as_mut_ptr().cast::<SourceFronts>().add(at);
                let heads = self.heads.as_mut_ptr().cast::<SourceHeads>().add(at);
                let body = self.bodies.as_mut_ptr().cast::<SourceBody>().add(at);
                sources::record(&mut *fronts, &mut *heads, &mut *body, &observation, now);
            }
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

    proptest! {
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
}
