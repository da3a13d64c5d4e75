//! What people get wrong, and what they are told: each refusal names the thing and the remedy,
//! and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use palisade_tests::daemon::{Mode, copy_palisade, palisade};
use palisade_tests::kernel::{MAPS, Missing, PROGRAMS, without};
use palisade_tests::policies::CLOSED;
use palisade_tests::process::{Finished, finish, wait_until};
use palisade_tests::topology::{EDGE, join};
use palisade_tests::{Daemon, Namespace, Topology, need_tools, skip_unless_root};

const PATIENCE: Duration = Duration::from_secs(20);

/// Refused with exit code 1 and all of `words` on standard error; nothing is pinned.
fn assert_refused(refusal: &Finished, daemon: &Daemon, words: &[&str]) {
    assert_eq!(refusal.code(), 1, "{refusal}");
    for word in words {
        assert!(refusal.stderr.contains(word), "no `{word}` in: {refusal}");
    }
    assert!(!refusal.stderr.contains("panicked"), "{refusal}");
    let pins = pinned(daemon.pins());
    assert!(pins.is_empty(), "{pins:?} stay behind: {refusal}");
}

/// All that is pinned in a folder.
fn pinned(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pinned(&entry.path())
            } else {
                vec![entry.path()]
            }
        })
        .collect()
}

#[test]
fn where_no_interface_exists_the_daemon_waits_and_says_loudly_that_nothing_is_protected()
-> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let inside = Namespace::create("bare")?;
    inside.run("ip link add eth0 type veth peer name other0")?;
    let mut daemon = Daemon::prepare(&inside, CLOSED, "eht0", Mode::Auto)?;
    let check = finish(daemon.command()?.arg("--check"))?;
    assert!(check.success(), "{check}");
    let told = check.stderr.contains("no interface eht0") && check.stderr.contains("eth0");
    assert!(told, "{check}");

    // It may be a name that is misspelled, or a boot at which nothing is there yet.
    let why = daemon.launch().expect_err("the host is open").to_string();
    assert!(why.contains("no interface is protected"), "{why}");
    let log = daemon.log();
    for words in ["NOTHING IS PROTECTED", "eht0", "eth0"] {
        assert!(log.contains(words), "{log}");
    }
    let status = daemon.try_palisade(&["status"])?;
    assert_eq!(status.code(), 1, "{status}");
    let line = "interface: eht0, waiting for the device";
    assert!(status.stdout.contains(line), "{status}");

    inside.run("ip link add eht0 type veth peer name other1")?;
    wait_until("it is fenced", PATIENCE, || {
        Ok(daemon.try_palisade(&["status"])?.success())
    })?;
    Ok(())
}

#[test]
fn an_interface_that_is_not_ethernet_is_refused() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let inside = Namespace::create("tunnel")?;
    inside.run("ip tuntap add dev tunnel0 mode tun")?;
    inside.run("ip link set tunnel0 up")?;
    for (interface, words) in [
        ("tunnel0", "interface tunnel0 is not Ethernet"),
        ("lo", "interface lo is the loopback device"),
    ] {
        for mode in [Mode::Auto, Mode::Native, Mode::Generic] {
            let daemon = Daemon::prepare(&inside, CLOSED, interface, mode)?;
            assert_refused(&daemon.run_to_end()?, &daemon, &[words]);
        }
    }
    Ok(())
}

#[test]
fn when_one_of_two_interfaces_is_wrong_neither_is_fenced() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::prepare(&world.inside, CLOSED, EDGE, Mode::Auto)?;
    daemon.write_settings("interfaces = [\"edge\", \"lo\"]", "")?;
    let refusal = daemon.run_to_end()?;
    assert_refused(&refusal, &daemon, &["interface lo is the loopback device"]);
    let link = world.inside.run("ip link show edge")?;
    assert!(!link.contains("xdp"), "{link}");

    // Wrong can also be what is known only when the first has its fence: somebody else's stands
    // on the second.
    let other = Namespace::create("other")?;
    join((&world.inside, "edge2"), (&other, "wire2"))?;
    let _first = Daemon::start(&world.inside, CLOSED)?;
    daemon.write_settings("interfaces = [\"edge2\", \"edge\"]", "")?;
    let refusal = daemon.run_to_end()?;
    assert_refused(&refusal, &daemon, &["edge already"]);
    let link = world.inside.run("ip link show edge2")?;
    assert!(!link.contains("xdp"), "{link}");
    Ok(())
}

#[test]
fn a_second_daemon_on_the_same_interface_is_refused_and_the_first_goes_on() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    for mode in [Mode::Native, Mode::Generic] {
        let first = Daemon::start_in(&world.inside, CLOSED, mode)?;
        let second = Daemon::prepare(&world.inside, CLOSED, EDGE, Mode::Auto)?;
        assert_refused(&second.run_to_end()?, &second, &["edge"]);
        first.palisade(&["status"])?;
        // The same home twice is told apart from the same interface twice.
        let again = first.run_to_end()?;
        assert_eq!(again.code(), 1, "{again}");
        assert!(again.stderr.contains("another daemon (process"), "{again}");
        first.palisade(&["status"])?;
    }
    Ok(())
}

#[test]
fn without_root_the_daemon_says_which_rights_it_lacks() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["setpriv"])?;
    let world = Topology::untagged()?;
    let daemon = Daemon::prepare(&world.inside, CLOSED, EDGE, Mode::Auto)?;
    // Nobody may read the settings, so that it is the rights and not the file that is missed.
    // The program may lie in a folder of root's: it is entered before the rights are dropped.
    let folder = daemon.folder();
    let program = folder.join("palisade");
    copy_palisade(&program)?;
    finish(Command::new("chmod").args(["-R", "a+rX"]).arg(folder))?;
    let refusal = finish(
        world
            .inside
            .command("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg("--bounding-set=-all")
            .arg(&program)
            .args(["daemon", "--config"])
            .arg(daemon.settings()),
    )?;
    assert_refused(
        &refusal,
        &daemon,
        &[
            "CAP_BPF",
            "CAP_NET_ADMIN",
            "run it as root or from its systemd unit",
        ],
    );
    Ok(())
}

#[test]
fn a_missing_or_faulty_policy_keeps_the_daemon_from_starting_and_says_where() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::prepare(&world.inside, CLOSED, EDGE, Mode::Auto)?;
    fs::remove_file(daemon.policy())?;
    let words = ["policy.toml", "no such file", "nothing is protected"];
    assert_refused(&daemon.run_to_end()?, &daemon, &words);
    daemon.write_policy("version = 1\n\n[defaults]\ninbund = \"drop\"\n")?;
    let words = ["policy.toml:4:1", "inbund", "did you mean", "inbound"];
    assert_refused(&daemon.run_to_end()?, &daemon, &words);
    daemon.write_policy("")?;
    assert_refused(&daemon.run_to_end()?, &daemon, &["the policy is empty"]);
    Ok(())
}

#[test]
fn faulty_settings_are_shown_with_file_line_and_column() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let inside = Namespace::create("bare")?;
    let daemon = Daemon::prepare(&inside, CLOSED, EDGE, Mode::Auto)?;
    daemon.write_settings("interfaces = []", "")?;
    let words = ["palisade.toml:1:", "at least one interface"];
    assert_refused(&daemon.run_to_end()?, &daemon, &words);
    daemon.write_settings("interfaces = [\"edge\"]\nintreface = 1", "")?;
    assert_refused(
        &daemon.run_to_end()?,
        &daemon,
        &["palisade.toml:2:", "intreface"],
    );
    fs::remove_file(daemon.settings())?;
    assert_refused(
        &daemon.run_to_end()?,
        &daemon,
        &["palisade.toml", "cannot be read"],
    );
    Ok(())
}

#[test]
fn pins_outside_a_bpf_file_system_are_refused() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::prepare(&world.inside, CLOSED, EDGE, Mode::Auto)?;
    let settings = fs::read_to_string(daemon.settings())?;
    let elsewhere = daemon.folder().join("pins");
    let moved = settings.replace(
        &daemon.pins().display().to_string(),
        &elsewhere.display().to_string(),
    );
    assert_ne!(moved, settings);
    fs::write(daemon.settings(), moved)?;
    let words = ["not on a BPF file system", "mount -t bpf"];
    assert_refused(&daemon.run_to_end()?, &daemon, &words);
    Ok(())
}

#[test]
fn a_kernel_without_bpf_or_a_kind_of_map_or_program_is_named_as_such() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    for missing in [Missing::Bpf, MAPS, PROGRAMS] {
        let daemon = Daemon::prepare(&world.inside, CLOSED, EDGE, Mode::Auto)?;
        let mut command = daemon.command()?;
        let refusal = finish(without(&mut command, missing))?;
        assert_refused(&refusal, &daemon, &["kernel", "needs Linux 6.1 or newer"]);
    }
    Ok(())
}

#[test]
fn verbs_without_a_daemon_say_so_with_their_own_exit_code() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("control.sock");
    for verb in ["status", "top", "bans", "alerts"] {
        let answer = finish(
            Command::new(palisade()?)
                .arg(verb)
                .env("PALISADE_SOCKET", &socket),
        )?;
        assert_eq!(answer.code(), 3, "{verb}: {answer}");
        assert!(answer.stderr.contains("control.sock"), "{verb}: {answer}");
    }
    Ok(())
}

#[test]
fn a_ban_that_can_be_read_in_two_ways_is_refused_with_both_readings() -> Result<()> {
    for verb in ["ban", "unban"] {
        for (prefix, readings) in [
            (
                "203.0.113.7/24",
                "write 203.0.113.0/24 for the network or 203.0.113.7 for the one address",
            ),
            (
                "2001:db8::1/64",
                "write 2001:db8::/64 for the network or 2001:db8::1 for the one address",
            ),
        ] {
            let refusal = finish(Command::new(palisade()?).args([verb, prefix]))?;
            assert_eq!(refusal.code(), 2, "{verb}: {refusal}");
            assert!(refusal.stderr.contains(readings), "{verb}: {refusal}");
        }
    }
    Ok(())
}

#[test]
fn policies_that_people_get_wrong_are_refused_with_place_and_remedy() -> Result<()> {
    let long = "198.51.100.7\n".repeat(10) + &"this is no address\n".repeat(1_000_000);
    let cases: [(&str, &str, &[&str]); 7] = [
        (
            "unknown key",
            "version = 1\n[defaults]\ninbund = \"drop\"\n",
            &["policy.toml:3:1", "inbund", "inbound"],
        ),
        (
            "bad prefix",
            "version = 1\n[sets]\na = [\"198.51.100.0/33\"]\n",
            &["policy.toml:3:6", "0 to 32"],
        ),
        (
            "duplicate rule name",
            "version = 1\n[[rule]]\nname = \"a\"\naction = \"drop\"\n[[rule]]\nname = \"a\"\naction = \"drop\"\n",
            &["policy.toml:6:8", "line 2", "unique"],
        ),
        (
            "unknown set",
            "version = 1\n[sets]\noffice = [\"198.51.100.1\"]\n[[rule]]\nname = \"a\"\naction = \"drop\"\nfrom = [\"offce\"]\n",
            &["policy.toml:7:9", "offce", "did you mean \"office\""],
        ),
        (
            "missing file",
            "version = 1\n[sets]\na = { file = \"none.netset\" }\n",
            &["policy.toml:3:", "none.netset", "no such file"],
        ),
        (
            "a million bad lines",
            "version = 1\n[sets]\na = { file = \"long.netset\" }\n",
            &["long.netset:11:1", "is not an address", "more"],
        ),
        (
            "empty policy",
            "",
            &["policy.toml:1:1", "the policy is empty", "version = 1"],
        ),
    ];
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("long.netset"), long)?;
    for (what, policy, words) in cases {
        let file = folder.path().join("policy.toml");
        fs::write(&file, policy)?;
        let refusal = finish(Command::new(palisade()?).arg("check").arg(&file))?;
        assert_eq!(refusal.code(), 1, "{what}: {refusal}");
        for word in words {
            assert!(
                refusal.stderr.contains(word),
                "{what}: no `{word}` in {refusal}"
            );
        }
        assert!(refusal.stderr.len() < 20_000, "{what}: a flood of words");
    }
    Ok(())
}
