//! What people wait for: a daemon to start, a command to answer, metrics to be read, a ban to bite. All with
//! the daemon of service, confined as it is then, and a policy of a thousand rules and a hundred thousand
//! prefixes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use palisade_tests::daemon::{Mode, palisade};
use palisade_tests::namespace::join;
use palisade_tests::process::{Background, finish};
use palisade_tests::topology::{CLIENT, EDGE, INSIDE};
use palisade_tests::{Daemon, Topology};
use serde::Serialize;

use crate::data;
use crate::policies::{self, Families};

/// Something that people wait for.
#[derive(Clone, Debug, Serialize)]
pub struct Operation {
    pub what: String,
    /// What it may take at most, in seconds.
    pub bound: f64,
    /// What it took, each time.
    pub seconds: Vec<f64>,
}

const RULES: usize = 1_000;
const PREFIXES: usize = 100_000;
const BANS: usize = 1_000;
const STREAM: u16 = 5_000;
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two datagrams of the stream that a ban ends.
const BEAT: Duration = Duration::from_micros(20);

/// Measures each, so many times.
pub fn measure(folder: &Path, quick: bool) -> Result<Vec<Operation>> {
    let rounds = if quick { 3 } else { 10 };
    let list = data::list_file(folder, "operations.netset", &data::prefixes(PREFIXES))?;
    let set = policies::blocklist(&list);
    let mut policy = policies::of_rules(RULES, Families::Both, &set);
    policy += &format!(
        "[[rule]]\nname = \"stream\"\naction = \"accept\"\nprotocol = \"udp\"\nport = {STREAM}\n"
    );

    let (mut fresh, mut again) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let world = Topology::untagged()?;
        let daemon = Daemon::prepare(&world.inside, &policy, EDGE, Mode::Auto)?;
        let (running, took) = start(&daemon)?;
        fresh.push(took);
        stop(running)?;
        let (running, took) = start(&daemon)?;
        again.push(took);
        stop(running)?;
    }
    let operation = |what: &str, bound: u32, seconds| Operation {
        what: what.to_owned(),
        bound: f64::from(bound) / 1e3,
        seconds,
    };
    let mut operations = vec![
        operation("start to attached, nothing there before", 300, fresh),
        operation(
            "start to attached, taking over a fence that stands",
            300,
            again,
        ),
    ];

    let world = Topology::untagged()?;
    let mut daemon = Daemon::prepare(&world.inside, &policy, EDGE, Mode::Auto)?;
    daemon.launch()?;
    for number in 0..BANS {
        let address = format!("10.200.{}.{}", number / 250, number % 250);
        ban(&daemon, &address)?;
    }
    for arguments in [
        &["status"][..],
        &["bans"],
        &["rule", "list"],
        &["alerts"],
        &["top"],
    ] {
        let seconds = (0..rounds).map(|_| command(&daemon, arguments));
        let name = arguments.join(" ");
        operations.push(operation(
            &format!("`palisade {name}`"),
            50,
            seconds.collect::<Result<_>>()?,
        ));
    }
    let scrapes = world
        .inside
        .inside(move || (0..rounds).map(|_| scrape()).collect::<Result<Vec<f64>>>())?;
    operations.push(operation("`/metrics`", 20, scrapes));

    let (mut typed, mut asked) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        typed.push(until_dropped(&world, &daemon, || {
            command(&daemon, &["ban", &CLIENT[0].to_string()]).map(drop)
        })?);
        asked.push(until_dropped(&world, &daemon, || {
            ban(&daemon, &CLIENT[0].to_string())
        })?);
    }
    operations.push(operation(
        "a ban, from the start of `palisade ban` to the first packet dropped",
        5,
        typed,
    ));
    operations.push(operation(
        "a ban, from the request on the control socket to the first packet dropped",
        5,
        asked,
    ));
    Ok(operations)
}

/// Starts a daemon and waits until it says that it is ready: attached, and to be asked.
fn start(daemon: &Daemon) -> Result<(Background, f64)> {
    let path = daemon.folder().join("notify.sock");
    // Left by the start before.
    let _ = std::fs::remove_file(&path);
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(PATIENCE))?;
    let log = std::fs::File::create(daemon.folder().join("daemon.log"))?;
    let mut command = daemon.command()?;
    command.env("NOTIFY_SOCKET", &path).stderr(log);
    let began = Instant::now();
    let running = Background::spawn(&mut command)?;
    let mut words = [0; 256];
    loop {
        let length = manager.recv(&mut words).with_context(|| daemon.log())?;
        if words[..length].starts_with(b"READY=1") {
            return Ok((running, began.elapsed().as_secs_f64()));
        }
    }
}

fn stop(mut running: Background) -> Result<()> {
    running.signal(rustix::process::Signal::TERM)?;
    running.wait(PATIENCE)?;
    Ok(())
}

/// Runs a command to its end. Its own time, and nobody's who enters a namespace for it: the socket is a file.
fn command(daemon: &Daemon, arguments: &[&str]) -> Result<f64> {
    let mut command = Command::new(palisade()?);
    command
        .args(arguments)
        .env("PALISADE_SOCKET", daemon.socket());
    let began = Instant::now();
    let finished = finish(&mut command)?;
    let took = began.elapsed().as_secs_f64();
    ensure!(finished.success(), "{arguments:?}: {finished}");
    Ok(took)
}

/// Bans over the control socket.
fn ban(daemon: &Daemon, address: &str) -> Result<()> {
    let mut socket = UnixStream::connect(daemon.socket())?;
    let body = format!("{{\"prefix\": \"{address}\"}}");
    let length = body.len();
    write!(
        socket,
        "POST /v1/bans HTTP/1.1\r\nhost: palisade\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

fn scrape() -> Result<f64> {
    let began = Instant::now();
    let mut socket = TcpStream::connect(("127.0.0.1", 9_477))?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let took = began.elapsed().as_secs_f64();
    ensure!(answer.contains("palisade_rule_packets_total"), "{answer}");
    Ok(took)
}

/// From the beginning of `act`, which bans the client, to the first of its datagrams that does not arrive.
fn until_dropped(
    world: &Topology,
    daemon: &Daemon,
    act: impl FnOnce() -> Result<()>,
) -> Result<f64> {
    let to = SocketAddr::new(INSIDE[0], STREAM);
    let receiver = world.inside.inside(move || Ok(UdpSocket::bind(to)?))?;
    receiver.set_read_timeout(Some(Duration::from_millis(200)))?;
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let sender = world.outside.thread(move || {
        let socket = UdpSocket::bind(SocketAddr::new(CLIENT[0], 0))?;
        let mut sent = Vec::new();
        while stopped.try_recv().is_err() {
            sent.push(Instant::now());
            let number = sent.len() as u64 - 1;
            socket.send_to(&number.to_ne_bytes(), to)?;
            while sent.last().is_some_and(|last| last.elapsed() < BEAT) {
                std::hint::spin_loop();
            }
        }
        Ok(sent)
    })?;
    let listener = std::thread::spawn(move || -> Result<u64> {
        let mut latest = None;
        let mut bytes = [0; 8];
        // Silence is the end.
        while receiver.recv(&mut bytes).is_ok() {
            latest = Some(u64::from_ne_bytes(bytes));
        }
        latest.context("nothing arrived")
    });
    // The stream is under way.
    std::thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    act()?;
    let latest = join(listener)?;
    // The sender has ended only if it failed.
    let _ = stop.send(());
    let sent = join(sender)?;
    command(daemon, &["unban", &CLIENT[0].to_string()])?;
    let Some(dropped) = sent.get(latest as usize + 1) else {
        bail!("no datagram was dropped");
    };
    Ok(dropped.saturating_duration_since(began).as_secs_f64())
}
