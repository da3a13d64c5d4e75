//! How long it takes to put a policy in force on an interface: reading, compiling, loading,
//! swapping.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use firewall_user::datapath::{AttachMode, Datapath, DatapathSettings, Egress, InterfaceSettings};
use palisade_tests::Namespace;

use super::palisade::policy_of;
use super::policies;

/// What one policy took; medians over the repetitions.
#[derive(Clone, Debug)]
pub struct LoadTime {
    pub policy: String,
    pub read: Duration,
    pub compile: Duration,
    pub load: Duration,
    /// From the first program replaced to the last.
    pub swap: Duration,
}

const INTERFACE: &str = "load0";
const REPETITIONS: usize = 5;

/// Puts each policy in force in turn on an interface of a namespace.
///
/// A policy that is refused is added to what is `missing`.
pub fn measure(list: Option<&Path>, missing: &mut Vec<String>) -> Result<Vec<LoadTime>> {
    let namespace = Namespace::create("load")?;
    namespace.run(&format!(
        "ip link add {INTERFACE} type veth peer name load1"
    ))?;
    namespace.run(&format!("ip link set {INTERFACE} up"))?;
    let mut texts: Vec<(String, String)> = [3, 100, 1_000]
        .map(|count| (format!("{count} rules"), policies::of_rules(count)))
        .to_vec();
    if let Some(file) = list {
        texts.push(("set of 120,430".to_owned(), policies::of_list(file)));
    }
    let (times, refused) = namespace.inside(move || measure_here(&texts))?;
    missing.extend(refused);
    Ok(times)
}

fn measure_here(texts: &[(String, String)]) -> Result<(Vec<LoadTime>, Vec<String>)> {
    let state = tempfile::tempdir()?;
    let pins = PinFolder::new();
    let settings = DatapathSettings {
        interfaces: vec![InterfaceSettings {
            name: INTERFACE.to_owned(),
            mode: AttachMode::Auto,
            egress: Egress::Auto,
        }],
        pin_dir: pins.0.clone(),
        state_dir: state.path().to_owned(),
    };
    let (_, first) = texts.first().context("no policy to load")?;
    let (mut fence, _) = Datapath::start(settings, &policy_of(first)?)?;
    let (mut times, mut refused) = (Vec::new(), Vec::new());
    'policies: for (name, text) in texts {
        let mut parts = [const { Vec::new() }; 4];
        for _ in 0..REPETITIONS {
            let started = Instant::now();
            let policy = policy_of(text)?;
            let read = started.elapsed();
            let applied = match fence.apply(&policy) {
                Ok(applied) => applied,
                Err(error) => {
                    refused.push(format!("putting {name} in force: {error:#}"));
                    continue 'policies;
                }
            };
            let all = [read, applied.compile, applied.load, applied.swap];
            for (part, time) in parts.iter_mut().zip(all) {
                part.push(time);
            }
        }
        let [read, compile, load, swap] = parts.map(median);
        times.push(LoadTime {
            policy: name.clone(),
            read,
            compile,
            load,
            swap,
        });
    }
    fence.detach(None)?;
    Ok((times, refused))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The folder of the pins, gone with everything in it whatever happens.
struct PinFolder(PathBuf);

impl PinFolder {
    fn new() -> Self {
        Self(format!("/sys/fs/bpf/palisade-bench-{}", std::process::id()).into())
    }
}

impl Drop for PinFolder {
    fn drop(&mut self) {
        // Detaching removed it already when all went well.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
