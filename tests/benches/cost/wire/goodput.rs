//! How much of its work a web server still does while a flood arrives at the cores that it works on.
//!
//! The server and the receiving side of its interface (threaded NAPI) share two cores; the clients and
//! the generator of the flood have one each.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use palisade_tests::process::wait_until;
use palisade_tests::topology::{EDGE, WIRE};
use palisade_tests::{Background, Namespace, need_tools};
use serde::Serialize;

use super::filters::{Filter, Kind, Meaning};
use super::generator::{Generator, bind_process};
use super::peers::{Form, Listed};
use crate::data;
use crate::machine::{PreferredSession, prefer};
use crate::policies::{CLOSED_PORT, HOST_V4, OPEN_PORT, STRANGER, syn};
use crate::prologue::Sources;
use crate::subject::brief;

/// What got through at one strength of the flood.
#[derive(Clone, Debug, Serialize)]
pub struct Goodput {
    pub filter: &'static str,
    /// See [`Layout`].
    pub queues: &'static str,
    /// What the clients want: see [`Clients`].
    pub clients: &'static str,
    /// Frames a second that the generator sent, and that the server's interface took.
    pub flood: f64,
    pub taken: f64,
    pub strength: usize,
    /// Requests answered a second, and what wrk counts as errors.
    pub requests: f64,
    pub errors: u64,
}

/// The flood: what share of its frames the generator sends, weakest first. The last is all that it
/// makes, some million a second.
const STRENGTHS: [f64; 5] = [0.0, 0.02, 0.1, 0.3, 1.0];
const SERVER: [usize; 2] = [0, 1];
const CLIENT: usize = 2;
const GENERATOR: usize = 3;
const CLIENT_ADDRESS: &str = "198.51.100.2";

/// Which frames wait behind which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A receive queue for each sender's processor, as a card with receive-side scaling has: the clients'
    /// frames do not wait behind the flood's, but the processor is the same.
    Own,
    /// One queue of 256 frames for all: a filter that is slower than the flood loses the clients'
    /// frames with it.
    One,
}

impl Layout {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "several",
            Self::One => "one",
        }
    }

    const fn queues(self) -> u32 {
        match self {
            Self::Own => 4,
            Self::One => 1,
        }
    }
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Each waits a while between two requests: a shop's ordinary hour, which leaves the server time.
    Steady,
    /// Each waits about a millisecond: a shop's busiest hour, a fourth to a third of what the server can do.
    Busy,
    /// Each asks again at once: all that the server can do.
    Greedy,
}

impl Clients {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Busy => "busy",
            Self::Greedy => "greedy",
        }
    }
}

/// Every filter at every strength, one filter after the other at each.
pub fn measure(folder: &Path, quick: bool, missing: &mut Vec<String>) -> Result<Vec<Goodput>> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if cpus <= GENERATOR {
        missing.push(format!("goodput: it takes four CPUs, and there are {cpus}"));
        return Ok(Vec::new());
    }
    if let Err(error) = need_tools(&["nginx", "wrk"]) {
        missing.push(format!("goodput: {error}"));
        return Ok(Vec::new());
    }
    let prefixes = data::prefixes(10_000);
    let meaning = Meaning {
        rules: 1_000,
        listed: Listed::Prefixes(prefixes.iter().map(ToString::to_string).collect()),
    };
    let (rounds, time) = if quick {
        (1, Duration::from_secs(1))
    } else {
        (3, Duration::from_secs(1))
    };
    let mut results = Vec::new();
    for layout in [Layout::Own, Layout::One] {
        let mut hosts = Vec::new();
        for kind in [Kind::Nothing, Kind::Nftables(Form::Maps), Kind::Palisade] {
            match Host::stand(kind, &meaning, folder, layout) {
                Ok(host) => hosts.push(host),
                Err(error) => missing.push(format!("goodput, {}: {}", kind.name(), brief(&error))),
            }
        }
        for clients in [Clients::Steady, Clients::Busy, Clients::Greedy] {
            for (strength, share) in STRENGTHS.into_iter().enumerate() {
                // Other clients are looked at without a flood and under the heaviest.
                if clients != Clients::Steady && ![0, STRENGTHS.len() - 1].contains(&strength) {
                    continue;
                }
                let mut served = vec![Vec::new(); hosts.len()];
                for _ in 0..rounds {
                    for (host, served) in hosts.iter().zip(&mut served) {
                        served.push(host.serve(clients, strength, share, time)?);
                    }
                }
                results.extend(served.into_iter().filter_map(middle));
            }
        }
    }
    Ok(results)
}

/// The round with the middle number of requests.
fn middle(mut rounds: Vec<Goodput>) -> Option<Goodput> {
    rounds.sort_by(|one, other| one.requests.total_cmp(&other.requests));
    let middle = rounds.len() / 2;
    rounds.into_iter().nth(middle)
}

/// A protected host with its web server.
struct Host {
    _servers: Vec<(Option<PreferredSession>, Background)>,
    filter: Filter,
    layout: Layout,
    folder: tempfile::TempDir,
}

impl Host {
    fn stand(kind: Kind, meaning: &Meaning, folder: &Path, layout: Layout) -> Result<Self> {
        let filter = Filter::stand(kind, meaning, folder, layout.queues())?;
        let (inside, outside) = (&filter.wire.inside, &filter.wire.outside);
        inside.run(&format!("ip addr add {HOST_V4}/24 dev {EDGE}"))?;
        outside.run(&format!("ip addr add {CLIENT_ADDRESS}/24 dev {WIRE}"))?;
        // Answers to forged sources go somewhere, as they would.
        inside.run(&format!("ip route add default via {CLIENT_ADDRESS}"))?;
        // The flood must not be able to hold up the first look at who is who.
        for (namespace, interface, other, peer) in
            [(inside, EDGE, WIRE, outside), (outside, WIRE, EDGE, inside)]
        {
            let text = peer.run(&format!("ip -j link show dev {other}"))?;
            let links: serde_json::Value = serde_json::from_str(&text)?;
            let mac = links[0]["address"].as_str().context("no MAC address")?;
            let address = if interface == EDGE {
                CLIENT_ADDRESS.to_owned()
            } else {
                HOST_V4.to_string()
            };
            namespace.run(&format!(
                "ip neigh replace {address} lladdr {mac} dev {interface} nud permanent"
            ))?;
        }
        // The clients' frames go the way of the flood's, through the receiving threads, only if they
        // are not to be merged on the way.
        outside.run(&format!("ethtool -K {WIRE} tso off"))?;
        if layout == Layout::Own {
            let map = format!(
                "echo {:x} > /sys/class/net/{WIRE}/queues/tx-{CLIENT}/xps_cpus",
                1 << CLIENT
            );
            devices(outside, &map)?;
        }
        thread_reception(&filter)?;
        let folder = tempfile::tempdir()?;
        let servers = (0..SERVER.len())
            .map(|number| serve_http(&filter, &folder.path().join(number.to_string())))
            .collect::<Result<_>>()?;
        Ok(Self {
            _servers: servers,
            filter,
            layout,
            folder,
        })
    }

    fn serve(
        &self,
        clients: Clients,
        strength: usize,
        share: f64,
        time: Duration,
    ) -> Result<Goodput> {
        let frame = syn(STRANGER[0], CLOSED_PORT)?;
        let flood = match share {
            0.0 => None,
            share => Some(
                Generator::of_share(frame, Sources::Random, share)?
                    .flood(&self.filter.wire, GENERATOR)?,
            ),
        };
        // The flood is there before the clients are.
        std::thread::sleep(Duration::from_millis(300));
        let wire = &self.filter.wire;
        let before = [wire.sent()?, wire.received()?];
        let started = Instant::now();
        let answered = self.ask(clients, time)?;
        let after = [wire.sent()?, wire.received()?];
        let seconds = started.elapsed().as_secs_f64();
        if let Some(flood) = flood {
            flood.stop()?;
        }
        let rate = |index: usize| after[index].saturating_sub(before[index]) as f64 / seconds;
        Ok(Goodput {
            filter: self.filter.kind.name(),
            queues: self.layout.name(),
            clients: clients.name(),
            flood: rate(0),
            taken: rate(1),
            strength,
            requests: answered.0,
            errors: answered.1,
        })
    }

    /// Asks the server for a while: requests answered a second, and errors.
    fn ask(&self, clients: Clients, time: Duration) -> Result<(f64, u64)> {
        let script = self.folder.path().join("clients.lua");
        let wait = match clients {
            Clients::Steady => "function delay() return math.random(4, 12) end\n",
            Clients::Busy => "function delay() return math.random(1, 2) end\n",
            Clients::Greedy => "",
        };
        fs::write(&script, wait).with_context(|| script.display().to_string())?;
        let finished = self.filter.wire.outside.try_run(&format!(
            "taskset -c {CLIENT} wrk -t1 -c64 -d{}s --timeout 1s -s {} http://{HOST_V4}:{OPEN_PORT}/",
            time.as_secs(),
            script.display()
        ))?;
        if finished.stderr.contains("unable to connect") {
            // Not even the first connection came about.
            return Ok((0.0, 1));
        }
        ensure!(finished.success(), "wrk failed: {finished}");
        let text = finished.stdout;
        let value = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.trim().strip_prefix(name))?;
            Some(line.to_owned())
        };
        let requests = value("Requests/sec:").context("wrk tells no rate")?;
        let errors = value("Socket errors:").map_or(0, |line| {
            line.split(|sign: char| !sign.is_ascii_digit())
                .filter_map(|word| word.parse::<u64>().ok())
                .sum()
        });
        Ok((requests.trim().parse()?, errors))
    }
}

/// One nginx of a single process on the server's cores, with a page of a kilobyte. All of them listen on
/// one port, and the kernel shares out the connections.
///
/// Each in a session of its own, as a service has one: the scheduler weighs it against the receiving threads by itself, and
/// not together with the generator and the clients.
fn serve_http(filter: &Filter, folder: &Path) -> Result<(Option<PreferredSession>, Background)> {
    fs::create_dir(folder).with_context(|| folder.display().to_string())?;
    let settings = folder.join("nginx.conf");
    let page = "x".repeat(1_024);
    let at = folder.display();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {at}/nginx.pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\naccess_log off;\nkeepalive_requests 1000000;\n\
         client_body_temp_path {at};\nproxy_temp_path {at};\nfastcgi_temp_path {at};\n\
         uwsgi_temp_path {at};\nscgi_temp_path {at};\n\
         server {{ listen {HOST_V4}:{OPEN_PORT} reuseport; location / {{ return 200 \"{page}\"; }} }}\n}}\n"
    );
    fs::write(&settings, text).with_context(|| settings.display().to_string())?;
    let mut command: Command = filter.wire.inside.command("setsid");
    command
        .args(["taskset", "-c", &cpu_list(&SERVER), "nginx", "-c"])
        .arg(&settings)
        .arg("-p")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut server = Background::spawn(&mut command)?;
    wait_until("nginx listens", Duration::from_secs(5), || {
        ensure!(
            server.runs()?,
            "nginx ended by itself; its message is above"
        );
        let listening = filter.wire.inside.run("ss -Hltn")?;
        Ok(listening.contains(&format!(":{OPEN_PORT}")))
    })?;
    Ok((PreferredSession::of(server.id())?, server))
}

fn cpu_list(cpus: &[usize]) -> String {
    let numbers: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    numbers.join(",")
}

/// Receives in threads of the kernel's own, on the server's cores.
fn thread_reception(filter: &Filter) -> Result<()> {
    let before = reception_threads()?;
    devices(
        &filter.wire.inside,
        &format!("echo 1 > /sys/class/net/{EDGE}/threaded"),
    )?;
    let threads: Vec<i32> = reception_threads()?.difference(&before).copied().collect();
    if threads.is_empty() {
        bail!("the kernel started no thread for {EDGE}");
    }
    for thread in threads {
        bind_process(thread, &SERVER)?;
        // As all else that is measured.
        prefer(thread)?;
    }
    Ok(())
}

/// Runs a line of shell that sees the devices of a namespace under /sys.
fn devices(namespace: &Namespace, line: &str) -> Result<()> {
    let done = Command::new("ip")
        .args(["netns", "exec", namespace.name(), "sh", "-c", line])
        .status()
        .context("cannot run ip")?;
    ensure!(done.success(), "`{line}` failed");
    Ok(())
}

/// Process numbers of the kernel's threads that receive for an interface of this name.
fn reception_threads() -> Result<HashSet<i32>> {
    let named = format!("napi/{EDGE}-");
    let mut threads = HashSet::new();
    for entry in fs::read_dir("/proc").context("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may end meanwhile.
        let Ok(name) = fs::read_to_string(entry.path().join("comm")) else {
            continue;
        };
        if name.starts_with(&named) {
            threads.insert(pid);
        }
    }
    Ok(threads)
}
