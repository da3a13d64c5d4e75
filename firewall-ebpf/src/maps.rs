//! The maps and the constants that the loader sets. What outlives a generation is pinned by the
//! loader; the image belongs to its generation.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::{Array, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::macros::btf_map;
use firewall_common::Direction;
use firewall_common::bans::{BucketV4, BucketV6, FILTER_WORDS, V4_BUCKETS, V6_BUCKETS};
use firewall_common::cookies::{CookieCounts, LESSONS, Lesson, PORT_WORDS, PROVEN};
use firewall_common::decide::Scratch;
use firewall_common::fragments::{DatagramSet, FRAGMENT_SETS};
use firewall_common::image::{UNSET_WORDS, constant};
use firewall_common::layout::{
    CONNECTIONS, Connection, Counter, EVENTS_BYTES, FlowKey, Health, HostKinds, LIMIT_LINES,
    LimitLine, RULE_COUNTERS, SourceBody, SourceFronts, SourceHeads, TOTALS, Uses,
};
use firewall_common::signature::{Shown, SignatureTable};

use crate::cookies::Workspace;

pub const BPF_F_MMAPABLE: usize = 1 << 10;

/// The compiled policy. It is one value, looked up once for each packet: from there on a read costs a
/// comparison, where each look into a map of many costs as much as some reads. Its length is set
/// when it is loaded.
#[btf_map]
pub static IMAGE: Array<[u64; UNSET_WORDS], 1, BPF_F_MMAPABLE> = Array::new();

/// Bans: the filter and the exact tables. User space writes them through shared memory.
#[btf_map]
pub static BAN_FILTER: Array<u64, { FILTER_WORDS as usize }, BPF_F_MMAPABLE> = Array::new();
#[btf_map]
pub static BANS_V4: Array<BucketV4, { V4_BUCKETS as usize }, BPF_F_MMAPABLE> = Array::new();
#[btf_map]
pub static BANS_V6: Array<BucketV6, { V6_BUCKETS as usize }, BPF_F_MMAPABLE> = Array::new();

/// Connections. Only the inside enters one, so that a flood cannot push others out; when the
/// host itself opens more than fit, the least recently used gives way.
#[btf_map]
pub static CONNECTION_TABLE: LruHashMap<FlowKey, Connection, { CONNECTIONS as usize }> =
    LruHashMap::new();

/// Datagrams of which the first fragment was let through.
#[btf_map]
pub static DATAGRAMS: Array<DatagramSet, { FRAGMENT_SETS as usize }> = Array::new();

/// Source buckets: a stripe of `SOURCE_BUCKETS` for each CPU. What decides about strangers.
#[btf_map]
pub static SOURCE_FRONTS: Array<SourceFronts, 1, BPF_F_MMAPABLE> = Array::new();
/// Who has the places.
#[btf_map]
pub static SOURCES: Array<SourceHeads, 1, BPF_F_MMAPABLE> = Array::new();
/// Their counters.
#[btf_map]
pub static SOURCE_COUNTERS: Array<SourceBody, 1, BPF_F_MMAPABLE> = Array::new();

/// Packets and bytes by interface, direction, verdict and reason.
#[btf_map]
pub static VERDICTS: PerCpuArray<Counter, { TOTALS as usize }> = PerCpuArray::new();

/// Packets and bytes by rule: a stripe of `RULE_COUNTERS` for each CPU. As a per-CPU array, the kernel would
/// allocate each entry by itself, which takes a large part of a start; and user space could not map it.
#[btf_map]
pub static RULE_HITS: Array<Counter, 1, BPF_F_MMAPABLE> = Array::new();

/// Connections and requests by rule, in stripes like [`RULE_HITS`].
#[btf_map]
pub static RULE_USES: Array<Uses, 1, BPF_F_MMAPABLE> = Array::new();

/// Packets and bytes over a rule's limit, by rule, in stripes like [`RULE_HITS`].
#[btf_map]
pub static LIMITED: Array<Counter, 1, BPF_F_MMAPABLE> = Array::new();

/// A rule's counter in this CPU's stripe. A number that is none has none.
#[inline(always)]
pub fn of_rule<T>(stripes: &Array<T, 1, BPF_F_MMAPABLE>, rule: u32) -> Option<*mut T> {
    if rule >= RULE_COUNTERS {
        return None;
    }
    // SAFETY: reads the number of the CPU.
    let stripe = unsafe { bpf_get_smp_processor_id() } * RULE_COUNTERS;
    stripes.get_ptr_mut(stripe + rule)
}

/// The buckets of limits. Mappable memory begins on a page, so that a line is one cache line.
#[btf_map]
pub static LIMIT_TABLE: Array<LimitLine, { LIMIT_LINES as usize }, BPF_F_MMAPABLE> = Array::new();

/// Signatures of floods that are in force. User space writes them through shared memory.
#[btf_map]
pub static SIGNATURES: Array<SignatureTable, 1, BPF_F_MMAPABLE> = Array::new();

/// Packets by kind, inbound and outbound.
#[btf_map]
pub static HOST_KINDS: PerCpuArray<HostKinds, 2> = PerCpuArray::new();

#[btf_map]
pub static HEALTH: PerCpuArray<Health, 1> = PerCpuArray::new();

/// Sampled packets.
#[btf_map]
pub static EVENTS: RingBuf<(), { EVENTS_BYTES as usize }> = RingBuf::new();

/// What a program hands from one stage to the next, by direction.
#[btf_map]
pub static SCRATCH: PerCpuArray<Scratch, 2> = PerCpuArray::new();

/// The TCP ports at which SYNs are answered with cookies, a bit each, and a word of settings.
#[btf_map]
pub static COOKIE_PORTS: Array<u64, { PORT_WORDS as usize }, BPF_F_MMAPABLE> = Array::new();
/// How the stack answers for a listener.
#[btf_map]
pub static COOKIE_LESSONS: Array<Lesson, { LESSONS as usize }> = Array::new();
/// Connections whose first ACK brought a valid cookie.
#[btf_map]
pub static COOKIE_PROVEN: Array<u64, { PROVEN as usize }> = Array::new();
#[btf_map]
pub static COOKIE_COUNTS: PerCpuArray<CookieCounts, 1> = PerCpuArray::new();
#[btf_map]
pub static COOKIE_SPACE: PerCpuArray<Workspace, 1> = PerCpuArray::new();

/// What the packet in hand shows of what signatures look at.
#[btf_map]
pub static SIGNATURE_SPACE: PerCpuArray<Shown, 1> = PerCpuArray::new();

/// The time of a replay.
#[btf_map]
pub static REPLAY_CLOCK: Array<u64, 1, BPF_F_MMAPABLE> = Array::new();

/// Constants of a direction, read one at a time so that the verifier knows each.
#[repr(transparent)]
pub struct Constants([Global<u32>; constant::COUNT]);

impl Constants {
    const fn new() -> Self {
        Self([const { Global::new(0) }; constant::COUNT])
    }

    #[inline(always)]
    pub fn get(&self, index: usize) -> u32 {
        self.0[index].load()
    }
}

#[unsafe(no_mangle)]
static INBOUND: Constants = Constants::new();
#[unsafe(no_mangle)]
static OUTBOUND: Constants = Constants::new();

/// The constants of a direction.
#[inline(always)]
pub fn constants(direction: Direction) -> &'static Constants {
    match direction {
        Direction::Inbound => &INBOUND,
        Direction::Outbound => &OUTBOUND,
    }
}

/// Lines of [`IMAGE`].
#[unsafe(no_mangle)]
pub static IMAGE_LINES: Global<u32> = Global::new(0);
/// Slot of the interface that this copy of the programs is attached to.
#[unsafe(no_mangle)]
pub static INTERFACE: Global<u32> = Global::new(0);
/// Buckets in a stripe, a power of two.
#[unsafe(no_mangle)]
pub static SOURCE_BUCKETS: Global<u32> = Global::new(1);
/// Seed of the source hash.
#[unsafe(no_mangle)]
pub static SOURCE_SEED: Global<u32> = Global::new(0);
/// What turns the kernel's tick counter into CLOCK_MONOTONIC nanoseconds: the length of a tick, 0
/// where the counter cannot be used, and what to add.
#[unsafe(no_mangle)]
pub static TICK_LENGTH: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static TICK_OFFSET: Global<u64> = Global::new(0);
/// This CPU's share of what sampled packets there may be (see [`firewall_common::sampling`]).
#[unsafe(no_mangle)]
pub static SAMPLE_UNIT: Global<u32> = Global::new(1);
/// 1 in a replay: the time comes from [`REPLAY_CLOCK`], and sockets are not asked.
#[unsafe(no_mangle)]
pub static REPLAY: Global<u32> = Global::new(0);
/// 1 where the kernel can make and check SYN cookies, and may.
#[unsafe(no_mangle)]
pub static COOKIES: Global<u32> = Global::new(0);
/// 1 where signatures may be put in force; with 0, nothing looks for them.
#[unsafe(no_mangle)]
pub static MAY_SIGN: Global<u32> = Global::new(0);
