//! Colours and bars are for people on a terminal: everything else gets plain text.

use std::fs;
use std::io::Write;
use std::process::Command;

use anyhow::{Context, Result};
use firewall_user::replay::capture::CaptureWriter;
use palisade_tests::daemon::palisade;
use palisade_tests::policies::SHOP;
use palisade_tests::process::finish;
use palisade_tests::terminal::Terminal;
use palisade_tests::{Daemon, Topology, skip_unless_root};

/// A text that is wrong in a line, so that the line is shown.
const WRONG: &str = "version = 1\n\n[[rule]]\nname = \"shop\"\nacton = \"accept\"\n";

/// Verbs that report, each with what it needs.
fn verbs(daemon: &Daemon) -> Result<Vec<Vec<String>>> {
    let folder = daemon.folder();
    fs::write(folder.join("wrong.toml"), WRONG)?;
    fs::write(
        folder.join("series.csv"),
        "timestamp,value\n2026-05-01 00:00:00,1\n",
    )?;
    let mut capture = CaptureWriter::new(fs::File::create(folder.join("some.pcap"))?)?;
    capture.write(1_000, &[0xff; 60])?;
    capture.finish()?;
    let own = daemon.policy().display().to_string();
    let lines = [
        "status",
        "status --maps",
        "top --once",
        "top --prefixes",
        "alerts",
        "incidents",
        "bans",
        "ban 203.0.113.7",
        "unban 203.0.113.7",
        "unban 203.0.113.7",
        "cookies",
        "audit",
        "why 203.0.113.7",
        "apply --dry-run",
        "rule list --policy OWN",
        "rule show shop --policy OWN",
        "set list --policy OWN",
        "check OWN",
        "check FOLDER/wrong.toml",
        "explain --policy OWN --from 203.0.113.7 --to 198.51.100.1:80",
        "replay FOLDER/some.pcap --policy OWN --engine host",
        "diff OWN FOLDER/wrong.toml",
        "diff OWN OWN",
        "score FOLDER/series.csv",
        "completions bash",
        "man",
        "--help",
        "top --help",
        "--no-such-option",
    ];
    let folder = folder.to_str().context("a name")?;
    let filled = |word: &str| word.replace("OWN", &own).replace("FOLDER", folder);
    let words = |line: &str| line.split(' ').map(filled).collect();
    Ok(lines.into_iter().map(words).collect())
}

fn command(daemon: &Daemon, arguments: &[String]) -> Result<Command> {
    let mut command = Command::new(palisade()?);
    command.args(arguments);
    command.env("PALISADE_SOCKET", daemon.socket());
    command.env_remove("NO_COLOR");
    command.env_remove("CLICOLOR_FORCE");
    Ok(command)
}

#[test]
fn what_goes_to_a_pipe_or_a_dumb_terminal_is_plain_text() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, SHOP)?;
    for arguments in verbs(&daemon)? {
        let line = arguments.join(" ");
        let piped = finish(&mut command(&daemon, &arguments)?)?;
        let text = format!("{}{}", piped.stdout, piped.stderr);
        assert!(!text.is_empty(), "{line}");
        assert!(!text.contains('\x1b'), "{line}: {text:?}");
        let mut dumb = command(&daemon, &arguments)?;
        dumb.env("TERM", "dumb");
        // Which others take for a reason to write in colour.
        dumb.env("CI", "true").env("CLICOLOR", "1");
        let mut terminal = Terminal::start(&dumb, 24, 100)?;
        terminal.end()?;
        assert!(
            !terminal.bytes().contains(&0x1b),
            "{line}: {}",
            terminal.screen()
        );
    }
    Ok(())
}

#[test]
fn with_no_color_a_terminal_gets_no_colour() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, SHOP)?;
    let mut coloured = 0;
    for arguments in verbs(&daemon)? {
        let line = arguments.join(" ");
        for plain in [true, false] {
            let mut command = command(&daemon, &arguments)?;
            command.env("NO_COLOR", if plain { "1" } else { "" });
            let mut terminal = Terminal::start(&command, 24, 100)?;
            terminal.end()?;
            let bytes = terminal.bytes();
            if plain {
                assert!(!has_colour(&bytes), "{line}: {}", terminal.screen());
            } else if has_colour(&bytes) {
                coloured += 1;
            }
        }
    }
    assert!(coloured > 0, "nothing has colours on any terminal");
    Ok(())
}

/// Whether a control sequence among the bytes sets a colour.
fn has_colour(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.split("\x1b[").skip(1).any(|sequence| {
        let numbers = sequence.split_once('m').map_or("", |(numbers, _)| numbers);
        let mut numbers = numbers.split([';', ':']).map(str::parse::<u8>);
        numbers.any(|number| matches!(number, Ok(30..=38 | 40..=48 | 90..=107)))
    })
}

#[test]
fn long_work_shows_how_far_it_is_on_a_terminal_and_clears_it_away() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, "version = 1\n")?;
    // A capture that somebody still writes: its reader cannot be done before.
    let pipe = folder.path().join("slow.pcap");
    let made = finish(Command::new("mkfifo").arg(&pipe))?;
    assert!(made.success(), "{made}");
    let mut command = Command::new(palisade()?);
    command
        .arg("replay")
        .arg(&pipe)
        .arg("--policy")
        .arg(&policy);
    command.args(["--engine", "host"]).env_remove("NO_COLOR");
    let mut terminal = Terminal::start(&command, 24, 100)?;
    // Also for reading, so that it waits for nobody.
    let file = fs::OpenOptions::new().read(true).write(true).open(&pipe)?;
    let mut capture = CaptureWriter::new(file)?;
    let mut sent: u64 = 0;
    while !terminal.screen().contains("slow.pcap ") {
        sent += 1;
        assert!(sent < 800, "no bar:\n{}", terminal.screen());
        capture.write(sent * 1_000_000, &[0xff; 60])?;
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    capture.finish()?.flush()?;
    assert!(terminal.end()?.success());
    terminal.wait_for(&format!("{sent} packets in"))?;
    assert!(
        !terminal.screen().contains("slow.pcap "),
        "{}",
        terminal.screen()
    );
    Ok(())
}
