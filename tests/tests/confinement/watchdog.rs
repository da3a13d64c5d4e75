//! The service manager is told that the daemon lives only while the rounds go on.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use palisade_tests::daemon::Mode;
use palisade_tests::inject::{Held, threads};
use palisade_tests::policies::PING;
use palisade_tests::process::Background;
use palisade_tests::topology::EDGE;
use palisade_tests::{Daemon, Topology, skip_unless_root, stretched};

const PATIENCE: Duration = Duration::from_secs(20);
/// Several rounds: they follow each other four times a second.
const SILENCE: Duration = Duration::from_secs(3);

#[test]
fn the_watchdog_is_fed_while_rounds_go_on_and_not_by_a_daemon_whose_fence_thread_is_stuck()
-> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::prepare(&world.inside, PING, EDGE, Mode::Auto)?;
    let path = daemon.folder().join("notify.sock");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(Duration::from_millis(100)))?;
    let running = Background::spawn(
        daemon
            .command()?
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "30000000"),
    )?;
    wait_for(&manager, "READY=1")?;
    let status = daemon.palisade(&["status"])?;
    ensure!(!status["interfaces"].to_string().is_empty(), "{status:#}");
    wait_for(&manager, "WATCHDOG=1")?;
    wait_for(&manager, "WATCHDOG=1")?;

    let threads = threads(running.id())?;
    let fence = threads.iter().find(|(_, name)| name == "fence");
    let stuck = Held::stop(fence.context("no fence thread")?.0)?;
    // What was sent before.
    while told(&manager)?.is_some() {}
    let began = Instant::now();
    while began.elapsed() < SILENCE {
        if let Some(words) = told(&manager)? {
            bail!("told {words:?} although nobody reads the counts");
        }
    }
    drop(stuck);
    wait_for(&manager, "WATCHDOG=1")
}

fn wait_for(manager: &UnixDatagram, wanted: &str) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < stretched(PATIENCE) {
        if let Some(words) = told(manager)?
            && words.lines().any(|word| word == wanted)
        {
            return Ok(());
        }
    }
    bail!("the manager is not told {wanted}")
}

/// What the manager is told, if anything.
fn told(manager: &UnixDatagram) -> Result<Option<String>> {
    let mut buffer = [0; 4_096];
    match manager.recv(&mut buffer) {
        Ok(length) => Ok(Some(
            String::from_utf8_lossy(&buffer[..length]).into_owned(),
        )),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}
