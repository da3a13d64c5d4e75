//! Reads the table of sources through shared memory.
//!
//! The kernel keeps a stripe for each CPU; a source has the same bucket in every stripe, and its counts
//! are the sum over them. A look at the table asks a word of 4 bytes for each place whether something came (see [`fronts`]),
//! and of those sources only that were seen since the look before, their counters: silence costs next to nothing.

mod fronts;
#[cfg(test)]
mod tests;

use firewall_common::layout::{SOURCE_WAYS, SourceBody, SourceCounters, SourceHeads};
use firewall_common::sources::{Meta, STEP_BITS};
use memmap2::MmapMut;

use self::fronts::Fronts;
use crate::detect::{SourceSample, Time};
use crate::engine::source_sample;

/// How far the packet path's clock may be behind: a tick of the slowest kernel (CONFIG_HZ = 100).
const LAG: u64 = 10_000_000;
/// How far back the first look goes.
const FIRST_LOOK: u64 = 60_000_000_000;
/// Sources that were silent for so long leave the table: the time last seen wraps at 2 h 26 min, and then
/// they would seem to be back.
const FORGOTTEN: u64 = 3_600_000_000_000;
/// Buckets whose marks stand in one word.
const BITS: usize = u64::BITS as usize;
/// Each look checks this share of the table for such sources.
const SHARE: usize = 256;

/// The table, mapped.
pub(super) struct SourceTable {
    fronts: Fronts,
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
    /// A bit for each bucket to be looked at.
    marked: Vec<u64>,
    /// Places at which something came lately: a packet that was judged just when they were looked at may have been counted a
    /// moment later.
    recent: Vec<usize>,
}

impl SourceTable {
    /// `buckets` is the number of each stripe's.
    pub(super) fn new(fronts: MmapMut, heads: MmapMut, bodies: MmapMut, buckets: usize) -> Self {
        Self {
            fronts: Fronts::new(fronts),
            stripes: heads.len() / size_of::<SourceHeads>() / buckets,
            heads,
            bodies,
            buckets,
            looked: None,
            search: 0,
            is_new: false,
            marked: vec![0; buckets.div_ceil(BITS)],
            recent: Vec::new(),
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
                // What stands there is of a daemon before, and may be old, and it may have been told.
                if !self.is_new {
                    self.clear_bitmaps();
                }
                self.marked.fill(u64::MAX);
                now.saturating_sub(FIRST_LOOK)
            }
        };
        let steps = steps_between(since, now);
        self.mark(steps, now);
        // Seldom more, as what was found anew is most of it: room for a million is not found by doubling.
        let mut samples = Vec::with_capacity(self.recent.len());
        for word in 0..self.marked.len() {
            let mut marks = std::mem::take(&mut self.marked[word]);
            while marks != 0 {
                let bucket = word * BITS + marks.trailing_zeros() as usize;
                marks &= marks - 1;
                if bucket < self.buckets {
                    self.gather(bucket, steps, now, time, &mut samples);
                }
            }
        }
        self.forget(now);
        samples
    }

    /// Marks the buckets that may hold somebody who was active within the last `steps`.
    ///
    /// These are the same that all records would tell of: since a source was last seen, nobody was told of it; or somebody
    /// was, and then its place is among the recent ones for as long as the time last seen lies in what a look reaches back.
    fn mark(&mut self, steps: u64, now: u64) {
        let (fronts, marked, buckets) = (&self.fronts, &mut self.marked, self.buckets);
        let mut mark = |place: usize| {
            // Stripes hold a power of two of buckets, as hashes choose among them.
            let bucket = (place / SOURCE_WAYS) & (buckets - 1);
            marked[bucket / BITS] |= 1 << (bucket % BITS);
        };
        let mut recent = Vec::new();
        for place in std::mem::take(&mut self.recent) {
            // Of whom nobody was told again is found below.
            if fronts.is_told(place)
                && meta(&self.heads, place / SOURCE_WAYS, place % SOURCE_WAYS).is_within(steps, now)
            {
                mark(place);
                recent.push(place);
            }
        }
        fronts.tell(|place| {
            mark(place);
            recent.push(place);
        });
        self.recent = recent;
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
        self.fronts.empty(index, way);
    }
}

/// What a bucket's line says of one of its ways, beside the key.
#[inline]
#[expect(unsafe_code, reason = "shared memory with a fixed layout")]
fn meta(heads: &MmapMut, index: usize, way: usize) -> Meta {
    let offset = index * size_of::<SourceHeads>();
    let bytes = &heads[offset..offset + size_of::<SourceHeads>()];
    // SAFETY: as in `SourceTable::counters`, of heads.
    unsafe {
        let heads = bytes.as_ptr().cast::<SourceHeads>();
        Meta((&raw const (*heads).metas[way]).read_volatile())
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
