//! What sets of a million prefixes cost: reading, compiling, memory, and the lookup of a packet's
//! source, hot and cold. `cargo bench -p palisade-tests --bench sets` as root; docs/performance.md
//! has results.

mod data;
mod prologue;

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use firewall_common::Direction;
use firewall_user::datapath::TestRun;
use firewall_user::packet_build::PacketBuilder;
use firewall_user::policy::{Environment, Policy};
use palisade_tests::bpf::calls as kernel;

use data::Data;
use prologue::Prologue;

const ROUNDS: usize = 9;
const RUNS: u32 = 200_000;
const SOURCES: usize = 1 << 19;

fn main() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("measuring loads kernel programs: run it as root");
    }
    let Some(packed) = data::packed_table() else {
        println!(
            "nothing measured: no blocklists/bgp-full-table-prefixes.txt.gz in ../shared/data or in PALISADE_DATA"
        );
        return Ok(());
    };
    let data = Data::prepare(&packed)?;
    let mut programs = Programs::default();
    programs.add("no rule", "")?;
    programs.add(
        "one prefix",
        &rules(&["one = [\"203.0.113.0/24\", \"2001:db8:1::/48\"]"]),
    )?;
    let table = format!(
        "table = {{ file = \"{}/table.netset\" }}",
        data.folder.path().display()
    );
    let drawn = format!(
        "drawn = {{ file = \"{}/drawn.netset\" }}",
        data.folder.path().display()
    );
    programs.add(
        "Internet table + 1,000,000 addresses",
        &rules(&[&drawn, &table]),
    )?;
    let parts = split(&data, 3)?;
    let mut sets: Vec<&str> = vec![&drawn];
    sets.extend(parts.iter().map(String::as_str));
    programs.add("the same, table dealt to 3 sets", &rules(&sets))?;

    let more = (0..10_000).map(many).collect::<String>();
    programs.add(
        "and 10,000 rules besides",
        &(rules(&[&drawn, &table]) + &more),
    )?;

    let v4: Vec<IpAddr> = data::sources_v4(SOURCES)
        .into_iter()
        .map(IpAddr::from)
        .collect();
    let v6: Vec<IpAddr> = data
        .sources_v6(SOURCES)
        .into_iter()
        .map(IpAddr::from)
        .collect();
    let listed: Vec<IpAddr> = data.drawn[..SOURCES]
        .iter()
        .copied()
        .map(IpAddr::from)
        .collect();
    println!(
        "\nnanoseconds over the empty program behind the same prologue: median of {ROUNDS} rounds of {RUNS} runs"
    );
    for (name, sources) in [
        ("IPv4, random sources", &v4[..]),
        ("IPv4, random sources of the list", &listed[..]),
        ("IPv4, 256 sources", &listed[..256]),
        ("IPv4, one source", &listed[1..2]),
        ("IPv6, random sources of the table", &v6[..]),
        ("IPv6, 256 sources", &v6[..256]),
        ("IPv6, one source", &v6[..1]),
    ] {
        println!("{name}");
        programs.time(sources)?;
    }
    Ok(())
}

/// A policy that passes everything but what comes from the first set; the other sets are looked at as well.
fn rules(sets: &[&str]) -> String {
    let mut text = format!("[sets]\n{}\n", sets.join("\n"));
    for (index, set) in sets.iter().enumerate() {
        let name = set.split(' ').next().unwrap_or_default();
        let narrowing = if index == 0 {
            ""
        } else {
            "port = 9\nprotocol = \"udp\"\n"
        };
        text += &format!(
            "[[rule]]\nname = \"{name}\"\naction = \"drop\"\nfrom = \"{name}\"\n{narrowing}"
        );
    }
    text
}

/// One of many rules, each for another network and port.
fn many(index: usize) -> String {
    let (upper, lower, port) = (index >> 8, index & 255, 1 + index % 500);
    format!(
        "[[rule]]\nname = \"r{index}\"\naction = \"drop\"\nfrom = \"10.{upper}.{lower}.0/24\"\nprotocol = \"tcp\"\nport = {port}\n"
    )
}

/// The table's prefixes dealt out to several sets, so that nearly each has another class than its
/// neighbours.
fn split(data: &Data, count: usize) -> Result<Vec<String>> {
    let mut texts = vec![String::new(); count];
    for (index, prefix) in data.table.iter().enumerate() {
        texts[index % count] += &format!("{prefix}\n");
    }
    let mut sets = Vec::with_capacity(count);
    for (index, text) in texts.into_iter().enumerate() {
        let file = data.folder.path().join(format!("part{index}.netset"));
        std::fs::write(&file, text)?;
        sets.push(format!("part{index} = {{ file = \"{}\" }}", file.display()));
    }
    Ok(sets)
}

/// What this process took of the processors so far: unlike the clock, it does not count what else
/// runs on the machine.
fn processor_time() -> Result<Duration> {
    // SAFETY: all zero is a valid value, which the call overwrites.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole rusage.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) } != 0 {
        bail!("the kernel does not tell what was used");
    }
    let time = |part: libc::timeval| {
        Duration::from_secs(part.tv_sec as u64) + Duration::from_micros(part.tv_usec as u64)
    };
    Ok(time(usage.ru_utime) + time(usage.ru_stime))
}

#[derive(Default)]
struct Programs {
    loaded: Vec<(String, OwnedFd)>,
    // They keep the maps.
    runs: Vec<TestRun>,
}

impl Programs {
    fn add(&mut self, name: &str, text: &str) -> Result<()> {
        let text = format!("version = 1\n[defaults]\ninbound = \"accept\"\n{text}");
        let started = processor_time()?;
        let read = Policy::parse(&text, "bench.toml", "/".as_ref());
        let (policy, _) = read.map_err(|errors| anyhow::anyhow!("{errors}"))?;
        let read = processor_time()? - started;
        let started = processor_time()?;
        let compiled = policy.compile(&Environment::default())?;
        let compile = processor_time()? - started;
        let bytes = compiled.image.len() * 8;
        let started = processor_time()?;
        let mut run = TestRun::live(compiled).with_context(|| name.to_owned())?;
        let load = processor_time()? - started;
        let program = run.program(Direction::Inbound)?.try_clone_to_owned()?;
        let size = kernel::size(program.as_fd())?;
        println!(
            "{name}: processor time: read {read:.0?}, compile {compile:.0?}, load {load:.0?}, image {:.1} MiB, {} instructions, {} verified",
            bytes as f64 / f64::from(1 << 20),
            size.translated / 8,
            size.verified
        );
        self.loaded.push((name.to_owned(), program));
        self.runs.push(run);
        Ok(())
    }

    /// Times all programs in turn, so that what else the machine does falls on all of them alike.
    fn time(&self, sources: &[IpAddr]) -> Result<()> {
        let empty = prologue::empty()?;
        let host: IpAddr = if sources[0].is_ipv4() {
            [203, 0, 113, 77].into()
        } else {
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, 77].into()
        };
        let frame = PacketBuilder::new(sources[0], host)
            .context("addresses of two families")?
            .tcp(40_000, 443, 2)
            .build();
        let one_line = prologue::one_line(sources[0].is_ipv6())?;
        let mut contenders = vec![
            Prologue::before(empty.as_fd(), sources)?,
            Prologue::before(one_line[0].as_fd(), sources)?,
        ];
        for (_, program) in &self.loaded {
            contenders.push(Prologue::before(program.as_fd(), sources)?);
        }
        let mut samples = vec![Vec::new(); contenders.len()];
        for round in 0..=ROUNDS {
            for (contender, samples) in contenders.iter().zip(&mut samples) {
                let run = kernel::run(contender.program.as_fd(), &frame, RUNS)?;
                if run.verdict == 0 {
                    bail!("the prologue does not reach the program");
                }
                // The first round only warms up.
                if round > 0 {
                    samples.push(run.nanoseconds);
                }
            }
        }
        let median = |samples: &mut Vec<u32>| {
            samples.sort_unstable();
            i64::from(samples[samples.len() / 2])
        };
        let floor = median(&mut samples[0]);
        println!("  {:40} {floor}", "empty program (not over itself)");
        let names = std::iter::once("one line of 32 MiB at random")
            .chain(self.loaded.iter().map(|(name, _)| name.as_str()));
        for (name, samples) in names.zip(&mut samples[1..]) {
            println!("  {name:40} {}", median(samples) - floor);
        }
        Ok(())
    }
}
