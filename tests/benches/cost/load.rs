//! How long it takes to put a policy in force on an interface: reading, compiling, loading,
//! swapping; at rest, and while traffic runs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use firewall_user::datapath::{
    AttachMode, Datapath, DatapathSettings, Egress, InterfaceSettings, KERNEL_SOURCES,
};
use palisade_tests::leftovers::{BPF_FOLDER, PIN_PREFIX, remove_pins};
use palisade_tests::topology::EDGE;
use serde::Serialize;

use crate::data;
use crate::policies::{self, CLOSED_PORT, Families, STRANGER, syn};
use crate::prologue::Sources;
use crate::subject::{brief, policy_of};
use crate::wire::{Generator, Wire};

/// What one policy took, in seconds; medians over the repetitions.
#[derive(Clone, Debug, Serialize)]
pub struct LoadTime {
    pub policy: String,
    /// Whether frames came in meanwhile.
    pub traffic: bool,
    pub read: f64,
    pub compile: f64,
    pub load: f64,
    /// From the first program replaced to the last.
    pub swap: f64,
}

const REPETITIONS: usize = 3;
/// Share of its frames that the generator sends: some hundred thousand a second.
const TRAFFIC: f64 = 0.02;

/// Puts each policy in force in turn on an interface of a namespace.
///
/// A policy that is refused is added to what is `missing`.
pub fn measure(folder: &Path, missing: &mut Vec<String>) -> Result<Vec<LoadTime>> {
    let mut texts: Vec<(String, String)> = [3, 1_000, 10_000]
        .map(|count| {
            (
                format!("{count} rules"),
                policies::of_rules(count, Families::Both, ""),
            )
        })
        .to_vec();
    let file = data::list_file(folder, "loading", &data::addresses(1_000_000))?;
    let set = policies::blocklist(&file);
    for (count, name) in [(3, "3 rules"), (10_000, "10000 rules")] {
        texts.push((
            format!("{name}, 1,000,000 addresses"),
            policies::of_rules(count, Families::Both, &set),
        ));
    }
    let mut times = Vec::new();
    for traffic in [false, true] {
        // A wire of its own each time: nothing is left of the one before.
        let wire = Wire::new("load", 1)?;
        let generator =
            Generator::of_share(syn(STRANGER[0], CLOSED_PORT)?, Sources::Random, TRAFFIC)?;
        let flood = match traffic {
            true => Some(generator.flood(&wire, 0)?),
            false => None,
        };
        let texts = texts.clone();
        let (measured, refused) = wire.inside.inside(move || measure_here(&texts, traffic))?;
        if let Some(flood) = flood {
            flood.stop()?;
        }
        times.extend(measured);
        missing.extend(refused);
    }
    Ok(times)
}

fn measure_here(texts: &[(String, String)], traffic: bool) -> Result<(Vec<LoadTime>, Vec<String>)> {
    let (_, first) = texts.first().context("no policy to load")?;
    let mut fence = Fence::start(first)?;
    let (mut times, mut refused) = (Vec::new(), Vec::new());
    'policies: for (name, text) in texts {
        let mut parts = [const { Vec::new() }; 4];
        for _ in 0..REPETITIONS {
            let started = Instant::now();
            let read = policy_of(text).map(|policy| (policy, started.elapsed()));
            let applied =
                read.and_then(|(policy, read)| Ok((fence.datapath.apply(&policy)?, read)));
            let (applied, read) = match applied {
                Ok(applied) => applied,
                Err(error) => {
                    refused.push(format!("putting {name} in force: {}", brief(&error)));
                    continue 'policies;
                }
            };
            let all = [read, applied.compile, applied.load, applied.swap];
            for (part, time) in parts.iter_mut().zip(all) {
                part.push(time.as_secs_f64());
            }
        }
        let [read, compile, load, swap] = parts.map(median);
        times.push(LoadTime {
            policy: name.clone(),
            traffic,
            read,
            compile,
            load,
            swap,
        });
    }
    fence.datapath.detach(None)?;
    Ok((times, refused))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A policy in force on [`EDGE`] as the daemon puts it there, native mode; gone with this.
pub struct Fence {
    pub datapath: Datapath,
    _state: tempfile::TempDir,
    _pins: Pins,
}

impl Fence {
    /// Call it from a thread in the wire's inner namespace.
    pub fn start(policy: &str) -> Result<Self> {
        let state = tempfile::tempdir()?;
        let pins = Pins::new();
        let settings = DatapathSettings {
            interfaces: vec![InterfaceSettings {
                name: EDGE.to_owned(),
                mode: AttachMode::Native,
                egress: Egress::Auto,
            }],
            pin_dir: pins.0.clone(),
            state_dir: state.path().to_owned(),
            cookies: true,
            signatures: false,
            kernel_sources: KERNEL_SOURCES,
        };
        let (datapath, _) = Datapath::start(settings, &policy_of(policy)?)?;
        Ok(Self {
            datapath,
            _state: state,
            _pins: pins,
        })
    }
}

/// The folder of the pins, gone with everything in it whatever happens.
struct Pins(PathBuf);

impl Pins {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PIN_PREFIX}{}-bench-{count}", std::process::id());
        Self(Path::new(BPF_FOLDER).join(name))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        remove_pins(&self.0);
    }
}
