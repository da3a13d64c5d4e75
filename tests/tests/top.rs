//! `palisade top` on a real terminal: who sends is seen, and banned from there.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use palisade_tests::clients::UdpStream;
use palisade_tests::daemon::palisade;
use palisade_tests::policies::PING;
use palisade_tests::process::{finish, wait_until};
use palisade_tests::servers::UdpSink;
use palisade_tests::terminal::Terminal;
use palisade_tests::topology::{CLIENT, INSIDE, OTHER};
use palisade_tests::{Daemon, Topology, skip_unless_root};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(20);
const CONTROL_U: &str = "\x15";
const ENTER: &str = "\r";

fn top(daemon: &Daemon) -> Result<Command> {
    let mut command = Command::new(palisade()?);
    command.arg("top").env("PALISADE_SOCKET", daemon.socket());
    command.env_remove("NO_COLOR");
    Ok(command)
}

fn at(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 0)
}

#[test]
fn a_source_is_seen_banned_with_keys_and_let_in_again() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let sink = UdpSink::start(&world.inside, 5000)?;
    let daemon = Daemon::start(&world.inside, PING)?;
    let to = SocketAddr::new(INSIDE[0], 5000);
    let every = Duration::from_millis(2);
    let noisy = UdpStream::start(&world.outside, at(CLIENT[0]), to, every)?;
    let neighbour = UdpStream::start(&world.outside, at(OTHER[0]), to, every)?;
    let arrived = |stream: &UdpStream| sink.arrivals_from(stream.from).len();

    let mut terminal = Terminal::start(&top(&daemon)?, 24, 80)?;
    terminal.wait_until("both sources", |screen| {
        screen.contains("198.51.100.2 ") && screen.contains("198.51.100.3 ")
    })?;
    terminal.type_text("/198.51.100.2")?;
    terminal.wait_until("one source", |screen| !screen.contains("198.51.100.3"))?;
    terminal.type_text(ENTER)?;
    terminal.type_text("b")?;
    terminal.wait_for("Ban 198.51.100.2/32")?;
    // A length that is none is told, and nobody is banned.
    terminal.type_text(&format!("{CONTROL_U}soon{ENTER}"))?;
    terminal.wait_for("10m")?;
    terminal.type_text(&format!("{CONTROL_U}10m\tnoisy{ENTER}"))?;
    terminal.wait_for("198.51.100.2/32 is banned for 10m")?;
    let bans = daemon.palisade(&["bans"])?;
    assert_eq!(bans["bans"][0]["prefix"], "198.51.100.2/32", "{bans:#}");
    assert_eq!(bans["bans"][0]["reason"], "noisy", "{bans:#}");
    terminal.wait_for("ban 9m")?;

    // Its packets stop, and the neighbour's go on.
    let (banned_at, beside) = (arrived(&noisy), arrived(&neighbour));
    wait_until("the neighbour", PATIENCE, || {
        Ok(arrived(&neighbour) > beside + 50)
    })?;
    assert!(arrived(&noisy) <= banned_at + 1, "more came after the ban");

    terminal.type_text("u")?;
    terminal.wait_for("Lift the ban of 198.51.100.2/32?")?;
    terminal.type_text("y")?;
    terminal.wait_for("the ban of 198.51.100.2/32 is lifted")?;
    wait_until("it is let in again", PATIENCE, || {
        Ok(arrived(&noisy) > banned_at + 10)
    })?;
    noisy.stop()?;
    neighbour.stop()?;

    // The other tabs, and a terminal that changes its size.
    terminal.type_text("3")?;
    terminal.wait_until("rules", |screen| {
        screen.contains("RULE ") && screen.contains("stream")
    })?;
    terminal.type_text("2")?;
    terminal.wait_for("learning")?;
    terminal.resize(6, 30)?;
    terminal.wait_for("at least 40 x 8 are needed")?;
    terminal.resize(40, 140)?;
    terminal.wait_for("EXPECTED/S")?;
    terminal.type_text("1")?;
    terminal.wait_for("PACKETS")?;
    terminal.type_text("q")?;
    assert!(terminal.end()?.success());
    wait_until("its terminal", PATIENCE, || terminal.is_restored())?;
    Ok(())
}

#[test]
fn however_it_ends_the_terminal_is_as_it_was() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, PING)?;
    for ending in [
        Some(Signal::TERM),
        Some(Signal::INT),
        Some(Signal::HUP),
        None,
    ] {
        let mut terminal = Terminal::start(&top(&daemon)?, 24, 80)?;
        terminal.wait_for("Sources")?;
        assert!(!terminal.is_restored()?, "it has the terminal to itself");
        match ending {
            Some(signal) => terminal.signal(signal)?,
            // Ctrl-C is a key like any other.
            None => terminal.type_text("\x03")?,
        }
        assert!(terminal.end()?.success());
        wait_until("its terminal", PATIENCE, || terminal.is_restored())?;
    }
    Ok(())
}

#[test]
fn a_daemon_that_goes_away_is_told_of_and_is_found_again() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::start(&world.inside, PING)?;
    let mut terminal = Terminal::start(&top(&daemon)?, 24, 80)?;
    terminal.wait_for("Sources")?;
    daemon.stop()?;
    terminal.wait_for("no daemon answers")?;
    daemon.launch()?;
    terminal.wait_until("an answer", |screen| !screen.contains("no daemon answers"))?;
    terminal.type_text("q")?;
    assert!(terminal.end()?.success());
    // Without one from the start there is no view at all.
    daemon.stop()?;
    let mut terminal = Terminal::start(&top(&daemon)?, 24, 80)?;
    assert_eq!(terminal.end()?.code(), Some(3));
    terminal.wait_for("no daemon answers")?;
    Ok(())
}

#[test]
fn without_a_terminal_that_can_be_drawn_on_it_prints_once() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, PING)?;
    let piped = finish(&mut top(&daemon)?)?;
    assert!(piped.success(), "{piped}");
    assert!(piped.stdout.starts_with("SOURCE\tPACKETS/S\t"), "{piped}");
    let mut once = top(&daemon)?;
    once.arg("--once");
    let mut dumb = top(&daemon)?;
    dumb.env("TERM", "dumb");
    for command in [once, dumb] {
        let mut terminal = Terminal::start(&command, 24, 132)?;
        assert!(terminal.end()?.success());
        terminal.wait_for("SOURCE")?;
        assert!(!terminal.bytes().contains(&0x1b), "{}", terminal.screen());
    }
    Ok(())
}

#[test]
fn no_color_is_respected() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, PING)?;
    for (plain, value) in [(true, "1"), (false, "")] {
        let mut command = top(&daemon)?;
        command.env("NO_COLOR", value);
        let mut terminal = Terminal::start(&command, 24, 80)?;
        terminal.wait_for("Sources")?;
        terminal.type_text("q")?;
        assert!(terminal.end()?.success());
        let bytes = terminal.bytes();
        let text = String::from_utf8_lossy(&bytes);
        let coloured = text.split("\x1b[").skip(1).any(is_colour);
        assert_eq!(coloured, !plain, "NO_COLOR={value:?}: {text:?}");
    }
    Ok(())
}

/// Whether a control sequence sets a colour.
fn is_colour(sequence: &str) -> bool {
    let Some((numbers, _)) = sequence.split_once('m') else {
        return false;
    };
    let mut numbers = numbers.split([';', ':']).map(str::parse::<u8>);
    numbers.any(|number| matches!(number, Ok(30..=38 | 40..=48 | 90..=107)))
}
