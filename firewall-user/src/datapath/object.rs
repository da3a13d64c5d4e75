//! The embedded kernel programs: a fresh copy of them for each interface and generation, with the
//! constants set and the maps shared.

#[cfg(test)]
mod loops;

use std::os::fd::AsFd;
use std::path::Path;
use std::thread::{Builder, ScopedJoinHandle};

use anyhow::{Context, anyhow};
use aya::maps::{Map, MapData, ProgramArray};
use aya::programs::{ProgramError, ProgramFd, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use firewall_common::cookies::{CookieCounts, LESSONS, Lesson, PORT_WORDS, PROVEN};
use firewall_common::decide::Scratch;
use firewall_common::fragments::{DatagramSet, FRAGMENT_SETS};
use firewall_common::image::LINE_WORDS;
use firewall_common::layout::{
    CONNECTIONS, Connection, Counter, EVENTS_BYTES, FlowKey, Health, HostKinds, LIMIT_LINES,
    LimitLine, RULE_COUNTERS, SOURCE_WAYS, SourceBody, SourceFronts, SourceHeads, TOTALS, Uses,
};
use firewall_common::sampling::UNITS;
use firewall_common::signature::SignatureTable;
use memmap2::{MmapMut, MmapOptions};

use super::KERNEL_SOURCES;
use super::pins::{Pins, Shape, Shelf, Side, remove};
use crate::bans;
use crate::policy::Compiled;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/palisade-ebpf"));
/// Where in it the length of the image stands, in words; the build script found it.
const LENGTH_AT: usize = include!(concat!(env!("OUT_DIR"), "/length_at.rs"));

const INGRESS: &str = "palisade_in";
const EGRESS: &str = "palisade_out";

/// Programs of one interface and generation, loaded and not attached.
#[derive(Debug)]
pub(super) struct Programs {
    ebpf: Ebpf,
}

/// What a copy of the programs is loaded for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    /// Slot of the interface.
    pub(super) interface: u32,
    pub(super) source_seed: u32,
    /// The time comes from a map and no sockets are asked.
    pub(super) replay: bool,
    /// SYNs may be answered with cookies, where the kernel can make them.
    pub(super) cookies: bool,
    /// Signatures of floods may be put in force.
    pub(super) signatures: bool,
    pub(super) sources: SourceSize,
}

/// How large the table of sources is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceSize {
    /// Buckets of each CPU's stripe, a power of two.
    buckets: u32,
}

impl SourceSize {
    /// With places for so many sources on each CPU; rounded up to a power of two.
    pub(super) fn of(sources: u32) -> Self {
        let buckets = sources.div_ceil(SOURCE_WAYS as u32);
        Self {
            buckets: buckets.max(1).next_power_of_two(),
        }
    }

    /// Buckets of all stripes together.
    fn entries(self) -> anyhow::Result<u32> {
        let cpus = cpus()?;
        self.buckets.checked_mul(cpus).with_context(|| {
            format!(
                "the table of sources is too large for {cpus} processors: lower `kernel_sources`"
            )
        })
    }
}

/// Maps with a stripe of entries for each rule on each CPU.
const OF_RULES: [&str; 3] = ["RULE_HITS", "RULE_USES", "LIMITED"];

/// Entries of each of [`OF_RULES`].
fn rule_entries() -> anyhow::Result<u32> {
    Ok(RULE_COUNTERS * cpus()?)
}

/// CPUs that this host may come to have: those of per-CPU maps.
fn cpus() -> anyhow::Result<u32> {
    let cpus = aya::util::nr_cpus().map_err(|(file, error)| anyhow!("{file}: {error}"))?;
    // The kernel's own numbers are of 32 bits, and far smaller.
    Ok(u32::try_from(cpus)?)
}

impl Default for SourceSize {
    fn default() -> Self {
        Self::of(KERNEL_SOURCES)
    }
}

/// Maps that outlive a generation, with the shape that they must have.
fn shared_maps(sources: SourceSize) -> anyhow::Result<Vec<(&'static str, Shape)>> {
    let shape = |key, value, entries| Shape {
        key,
        value: value as u32,
        entries,
    };
    let (buckets, rules) = (sources.entries()?, rule_entries()?);
    let array = |of: bans::Shape| shape(4, of.bytes, of.entries);
    Ok(vec![
        (
            "DATAGRAMS",
            shape(4, size_of::<DatagramSet>(), FRAGMENT_SETS),
        ),
        ("BAN_FILTER", array(bans::Memory::FILTER)),
        ("BANS_V4", array(bans::Memory::V4)),
        ("BANS_V6", array(bans::Memory::V6)),
        (
            "CONNECTION_TABLE",
            shape(
                size_of::<FlowKey>() as u32,
                size_of::<Connection>(),
                CONNECTIONS,
            ),
        ),
        (
            "SOURCE_FRONTS",
            shape(4, size_of::<SourceFronts>(), buckets),
        ),
        ("SOURCES", shape(4, size_of::<SourceHeads>(), buckets)),
        (
            "SOURCE_COUNTERS",
            shape(4, size_of::<SourceBody>(), buckets),
        ),
        ("VERDICTS", shape(4, size_of::<Counter>(), TOTALS)),
        ("RULE_HITS", shape(4, size_of::<Counter>(), rules)),
        ("RULE_USES", shape(4, size_of::<Uses>(), rules)),
        ("LIMITED", shape(4, size_of::<Counter>(), rules)),
        ("LIMIT_TABLE", shape(4, size_of::<LimitLine>(), LIMIT_LINES)),
        ("SIGNATURES", shape(4, size_of::<SignatureTable>(), 1)),
        ("HOST_KINDS", shape(4, size_of::<HostKinds>(), 2)),
        ("HEALTH", shape(4, size_of::<Health>(), 1)),
        ("COOKIE_PORTS", shape(4, size_of::<u64>(), PORT_WORDS)),
        ("COOKIE_LESSONS", shape(4, size_of::<Lesson>(), LESSONS)),
        ("COOKIE_PROVEN", shape(4, size_of::<u64>(), PROVEN)),
        ("COOKIE_COUNTS", shape(4, size_of::<CookieCounts>(), 1)),
        ("EVENTS", shape(0, 0, EVENTS_BYTES)),
        ("SCRATCH", shape(4, size_of::<Scratch>(), 2)),
        #[cfg(feature = "trace")]
        (super::trace::MAP, super::trace::SHAPE),
    ])
}

/// A CPU's share of the sampled packets.
fn sample_unit() -> anyhow::Result<u32> {
    Ok((UNITS / cpus()?).max(1))
}

/// Sees to it that pinned maps fit before they are reused.
pub(super) fn check_pins(pins: &Pins, sources: SourceSize) -> anyhow::Result<()> {
    for (name, shape) in shared_maps(sources)? {
        pins.keep_if_fits(name, shape)?;
    }
    Ok(())
}

/// Loads a generation: one copy of the programs for each purpose, all with one image. With `pins`
/// the state is shared with earlier generations; without, each map is new and private.
pub(super) fn load(
    compiled: &Compiled,
    purposes: &[Purpose],
    pins: Option<&Pins>,
) -> anyhow::Result<Vec<Programs>> {
    if let Some(pins) = pins {
        // One that a failed load left would be reused, whatever its size.
        remove(&pins.image())?;
    }
    let loaded = load_all(compiled, purposes, pins);
    if let Some(pins) = pins {
        remove(&pins.image())?;
    }
    loaded
}

fn load_all(
    compiled: &Compiled,
    purposes: &[Purpose],
    pins: Option<&Pins>,
) -> anyhow::Result<Vec<Programs>> {
    let mut loaded = Vec::new();
    for purpose in purposes {
        let mut programs = Programs::prepare(compiled, *purpose, pins)?;
        // The image is filled once; the other copies share it.
        if loaded.is_empty() {
            programs.fill_image(&compiled.image)?;
        }
        programs.verify()?;
        #[cfg(feature = "trace")]
        if pins.is_some() {
            super::trace::listen(&mut programs.ebpf)?;
        }
        loaded.push(programs);
    }
    Ok(loaded)
}

/// Makes the maps that outlive generations and are not there.
pub(super) fn make_maps(pins: &Pins, sources: SourceSize) -> anyhow::Result<()> {
    let mut loader = EbpfLoader::new();
    share_maps(&mut loader, sources, pins)?;
    // The image belongs to a generation, and what is loaded here to none: it goes at once.
    loader
        .load(&object_with(1))
        .map_err(|error| refused("the kernel programs", &error))?;
    Ok(())
}

/// Has a loader take the maps that outlive generations from their pins, or make and pin those that are not there.
fn share_maps(loader: &mut EbpfLoader<'_>, sources: SourceSize, pins: &Pins) -> anyhow::Result<()> {
    size_maps(loader, sources)?;
    for (name, _) in shared_maps(sources)? {
        loader.map_pin_path(name, pins.map(name));
    }
    Ok(())
}

/// Has a loader make those maps as large as they are to be whose size this host says.
fn size_maps(loader: &mut EbpfLoader<'_>, sources: SourceSize) -> anyhow::Result<()> {
    for name in ["SOURCE_FRONTS", "SOURCES", "SOURCE_COUNTERS"] {
        loader.map_max_entries(name, sources.entries()?);
    }
    for name in OF_RULES {
        loader.map_max_entries(name, rule_entries()?);
    }
    Ok(())
}

/// The kernel programs with an image of so many lines. It is one value of its map, and the loader takes
/// a value's size from the type that the object names.
fn object_with(lines: u32) -> Vec<u8> {
    let words = lines * LINE_WORDS as u32;
    let mut object = OBJECT.to_vec();
    object[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&words.to_le_bytes());
    object
}

impl Programs {
    /// Makes the maps that are not there, and all that the programs need to be verified.
    fn prepare(compiled: &Compiled, purpose: Purpose, pins: Option<&Pins>) -> anyhow::Result<Self> {
        let replay = u32::from(purpose.replay);
        let may_sign = u32::from(purpose.signatures);
        let lines = compiled.image.len().div_ceil(LINE_WORDS);
        let lines = u32::try_from(lines).context("the image is too large")?;
        let ticks = super::ticks::ticks();
        let sample_unit = sample_unit()?;
        let cookies = u32::from(purpose.cookies && super::cookies::unsupported().is_none());
        let mut loader = EbpfLoader::new();
        loader
            .override_global("TICK_LENGTH", &ticks.length, true)
            .override_global("TICK_OFFSET", &ticks.offset, true)
            .override_global("INBOUND", compiled.inbound.as_slice(), true)
            .override_global("OUTBOUND", compiled.outbound.as_slice(), true)
            .override_global("IMAGE_LINES", &lines, true)
            .override_global("INTERFACE", &purpose.interface, true)
            .override_global("SOURCE_BUCKETS", &purpose.sources.buckets, true)
            .override_global("SOURCE_SEED", &purpose.source_seed, true)
            .override_global("SAMPLE_UNIT", &sample_unit, true)
            .override_global("REPLAY", &replay, true)
            .override_global("COOKIES", &cookies, true)
            .override_global("MAY_SIGN", &may_sign, true);
        match pins {
            Some(pins) => {
                share_maps(&mut loader, purpose.sources, pins)?;
                loader.map_pin_path("IMAGE", pins.image());
            }
            None => size_maps(&mut loader, purpose.sources)?,
        }
        let ebpf = loader
            .load(&object_with(lines))
            .map_err(|error| refused("the kernel programs", &error))?;
        Ok(Self { ebpf })
    }

    /// Has the kernel verify both programs. It does so in the thread that asks, and it is most of what a
    /// start takes: so there are two.
    fn verify(&mut self) -> anyhow::Result<()> {
        let (mut ingress, mut egress) = (None, None);
        for (name, program) in self.ebpf.programs_mut() {
            match name {
                INGRESS => ingress = Some(program),
                EGRESS => egress = Some(program),
                _ => {}
            }
        }
        let ingress: &mut Xdp = ingress.context("no program palisade_in")?.try_into()?;
        let egress: &mut SchedClassifier = egress.context("no program palisade_out")?.try_into()?;
        let (inward, outward) = std::thread::scope(|scope| {
            let outward = Builder::new()
                .name("verifying".to_owned())
                .spawn_scoped(scope, || egress.load());
            (ingress.load(), outward.map(ScopedJoinHandle::join))
        });
        let outward = outward.context("no thread to load program palisade_out in")?;
        inward.map_err(|error| refused("program palisade_in", &error))?;
        outward
            .map_err(|_| anyhow!("the thread that loads program palisade_out panicked"))?
            .map_err(|error| refused("program palisade_out", &error))
    }

    /// Pins both programs, to be attached and kept.
    pub(super) fn pin(&mut self, pins: &Pins, shelf: Shelf, name: &str) -> anyhow::Result<()> {
        self.ingress()?
            .pin(pins.program(shelf, name, Side::In))
            .with_context(|| format!("pinning the programs of {name}"))?;
        self.egress()?
            .pin(pins.program(shelf, name, Side::Out))
            .with_context(|| format!("pinning the programs of {name}"))
    }

    fn fill_image(&mut self, image: &[u64]) -> anyhow::Result<()> {
        let Some(Map::Array(data)) = self.ebpf.map("IMAGE") else {
            return Err(anyhow!("the kernel programs have no map IMAGE"));
        };
        let mut mapped = map_memory(data, size_of_val(image))?;
        for (to, word) in mapped.chunks_exact_mut(8).zip(image) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        Ok(())
    }

    pub(super) fn ingress(&mut self) -> anyhow::Result<&mut Xdp> {
        let program = self
            .ebpf
            .program_mut(INGRESS)
            .context("no program palisade_in")?;
        Ok(program.try_into()?)
    }

    pub(super) fn egress(&mut self) -> anyhow::Result<&mut SchedClassifier> {
        let program = self
            .ebpf
            .program_mut(EGRESS)
            .context("no program palisade_out")?;
        Ok(program.try_into()?)
    }

    /// Takes a map out, to be read by user space.
    pub(super) fn take_map(&mut self, name: &str) -> anyhow::Result<Map> {
        self.ebpf
            .take_map(name)
            .with_context(|| format!("the kernel programs have no map {name}"))
    }
}

/// The gate of one interface, loaded and not attached: it chooses between two generations.
pub(super) struct Gate {
    ebpf: Ebpf,
}

impl Gate {
    /// Loads the gate and pins it with its maps. It goes back at `deadline` on the packet clock.
    pub(super) fn load(
        pins: &Pins,
        interface: &str,
        deadline: u64,
        sources: SourceSize,
    ) -> anyhow::Result<Self> {
        let mut loader = EbpfLoader::new();
        loader.override_global("TRIAL_DEADLINE", &deadline, true);
        share_maps(&mut loader, sources, pins)?;
        loader
            .map_pin_path("TRIAL_WORD", pins.word())
            .map_pin_path("TRIAL_IN", pins.choice(interface, Side::In))
            .map_pin_path("TRIAL_OUT", pins.choice(interface, Side::Out));
        // A gate has no use for an image.
        let mut ebpf = loader
            .load(&object_with(1))
            .map_err(|error| refused("the gate of a trial", &error))?;
        let ingress: &mut Xdp = ebpf
            .program_mut("trial_in")
            .context("no program trial_in")?
            .try_into()?;
        ingress
            .load()
            .map_err(|error| refused("program trial_in", &error))?;
        ingress.pin(pins.program(Shelf::Gate, interface, Side::In))?;
        let egress: &mut SchedClassifier = ebpf
            .program_mut("trial_out")
            .context("no program trial_out")?
            .try_into()?;
        egress
            .load()
            .map_err(|error| refused("program trial_out", &error))?;
        egress.pin(pins.program(Shelf::Gate, interface, Side::Out))?;
        Ok(Self { ebpf })
    }

    /// Puts a generation's programs into a slot.
    pub(super) fn set(
        &mut self,
        slot: u32,
        ingress: &ProgramFd,
        egress: &ProgramFd,
    ) -> anyhow::Result<()> {
        for (name, program) in [("TRIAL_IN", ingress), ("TRIAL_OUT", egress)] {
            let map = self
                .ebpf
                .map_mut(name)
                .with_context(|| format!("the kernel programs have no map {name}"))?;
            ProgramArray::try_from(map)?
                .set(slot, program, 0)
                .context("a gate does not take a generation's programs")?;
        }
        Ok(())
    }
}

/// Opens a pinned map.
pub(super) fn open_map(pins: &Pins, name: &str) -> anyhow::Result<Map> {
    let path = pins.map(name);
    let read =
        |path: &Path| -> anyhow::Result<Map> { Ok(Map::from_map_data(MapData::from_pin(path)?)?) };
    read(&path).with_context(|| format!("pinned map {}", path.display()))
}

/// Maps an array's memory; kernel and user space see each other's writes.
pub(super) fn map_memory(data: &MapData, length: usize) -> anyhow::Result<MmapMut> {
    // SAFETY: the kernel keeps the array's memory as long as the mapping; both sides read and
    // write whole, aligned words.
    #[expect(unsafe_code, reason = "shared memory")]
    let mapped = unsafe { MmapOptions::new().len(length).map_mut(&data.fd().as_fd()) };
    mapped.context("mapping an array's memory")
}

/// Says what the kernel refused, why, and which kernels do not.
fn refused(what: &str, error: &dyn std::error::Error) -> anyhow::Error {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut chain = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        chain = format!("{chain}: {cause}");
        source = cause.source();
    }
    if chain.contains("Operation not permitted") || chain.contains("os error 1)") {
        return anyhow!(
            "the kernel does not permit loading {what}: run as root, or with CAP_BPF, CAP_NET_ADMIN and \
             CAP_PERFMON ({chain})"
        );
    }
    // The verifier's log is long; its last lines say what it stumbled over.
    let tail: Vec<&str> = chain
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(6)
        .collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    anyhow!(
        "kernel {release} refuses {what} (Palisade needs Linux 6.1 or newer, with BPF and BTF): {}",
        tail.join("\n  ")
    )
}

/// Whether an error of aya is this errno.
pub(super) fn is_errno(error: &ProgramError, errno: i32) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return io.raw_os_error() == Some(errno);
        }
        source = cause.source();
    }
    false
}
