//! The fence outlives the daemon: killed, stopped and started again, it judges every packet, and
//! only `detach` takes it down.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::clients::{Connect, Pinging, UdpStream, connect, ping, settle};
use palisade_tests::daemon::Mode;
use palisade_tests::policies::PING;
use palisade_tests::process::wait_until;
use palisade_tests::servers::{self, UdpSink};
use palisade_tests::topology::{CLIENT, EDGE, INSIDE, OTHER};
use palisade_tests::{Daemon, Topology, need_tools, skip_unless_root};

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn killing_the_daemon_changes_nothing_and_the_next_one_takes_over_without_a_gap() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["ping"])?;
    for mode in [Mode::Native, Mode::Generic] {
        let world = Topology::untagged()?;
        let _hidden = servers::tcp_echo(&world.inside, 7000)?;
        let allowed = UdpSink::start(&world.inside, 5000)?;
        let forbidden = UdpSink::start(&world.inside, 5001)?;
        let mut daemon = Daemon::start_in(&world.inside, PING, mode)?;
        let counted = daemon.rule_packets("ping")?;

        let mut streams = Vec::new();
        for (index, to) in INSIDE.into_iter().enumerate() {
            for port in [5000, 5001] {
                let from = SocketAddr::new(OTHER[index], 0);
                let to = SocketAddr::new(to, port);
                let every = Duration::from_millis(2);
                streams.push((port, UdpStream::start(&world.outside, from, to, every)?));
            }
        }
        for to in 0..2 {
            let (from, to) = (CLIENT[to], INSIDE[to]);
            let every = Duration::from_millis(4);
            let pings = Pinging::start(&world.outside, from, to, 500, every)?;
            std::thread::sleep(Duration::from_millis(100));
            daemon.kill()?;
            std::thread::sleep(Duration::from_millis(100));
            for to in INSIDE.map(|to| SocketAddr::new(to, 7000)) {
                let meanwhile = connect(&world.outside, to, Duration::from_millis(50))?;
                assert_eq!(meanwhile, Connect::Silent, "with the daemon dead");
            }
            daemon.launch()?;
            let status = daemon.palisade(&["status"])?;
            assert_eq!(status["interfaces"][0]["taken_over"], true, "{status:#}");
            assert_eq!(status["interfaces"][0]["mode"], mode.name(), "{status:#}");
            let pings = pings.finish()?;
            assert_eq!((pings.sent, pings.answered), (500, 500), "{mode:?}");
        }
        let mut sent = 0;
        for (port, stream) in streams {
            let count = stream.stop()?;
            assert!(count > 300, "{count} datagrams");
            if port == 5000 {
                sent += count;
            }
        }
        assert_eq!(settle(|| allowed.total())?, sent, "{mode:?}");
        assert_eq!(forbidden.total(), 0, "{mode:?}");
        // What was counted while no daemon ran is not lost either.
        assert_eq!(daemon.rule_packets("ping")? - counted, 1000, "{mode:?}");
        assert_eq!(daemon.rule_packets("stream")?, sent, "{mode:?}");
    }
    Ok(())
}

#[test]
fn a_stopped_daemon_leaves_the_fence_and_detach_takes_it_down() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["ping"])?;
    let world = Topology::untagged()?;
    let _hidden = servers::tcp_echo(&world.inside, 7000)?;
    let mut daemon = Daemon::start(&world.inside, PING)?;
    let hidden = INSIDE.map(|to| SocketAddr::new(to, 7000));
    assert!(daemon.stop()?.success(), "{}", daemon.log());
    for to in hidden {
        assert_eq!(connect(&world.outside, to, SILENCE)?, Connect::Silent);
    }
    let nobody = daemon.try_palisade(&["status"])?;
    assert_eq!(nobody.code(), 3, "no daemon answers: {nobody}");

    daemon.launch()?;
    let others = daemon.pins().join("others");
    std::fs::create_dir(&others)?;
    daemon.palisade(&["detach"])?;
    for to in hidden {
        assert_eq!(connect(&world.outside, to, PATIENCE)?, Connect::Accepted);
    }
    assert!(others.is_dir(), "what others keep there is theirs");
    daemon.stop()?;
    daemon.launch()?;
    for to in hidden {
        assert_eq!(connect(&world.outside, to, SILENCE)?, Connect::Silent);
    }
    Ok(())
}

#[test]
fn an_interface_that_was_replaced_while_the_daemon_was_down_is_fenced_again() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["ping"])?;
    let world = Topology::untagged()?;
    let mut daemon = Daemon::start(&world.inside, PING)?;
    daemon.kill()?;
    world.inside.run("ip link del edge")?;
    palisade_tests::topology::join((&world.inside, EDGE), (&world.outside, "wire"))?;
    world.inside.run("ip addr add 198.51.100.1/24 dev edge")?;
    world.outside.run("ip addr add 198.51.100.2/24 dev wire")?;
    let _hidden = servers::tcp_echo(&world.inside, 7000)?;
    daemon.launch()?;
    let pings = ping(
        &world.outside,
        CLIENT[0],
        INSIDE[0],
        5,
        Duration::from_millis(4),
    )?;
    assert_eq!(pings.answered, 5);
    let hidden = SocketAddr::new(INSIDE[0], 7000);
    assert_eq!(connect(&world.outside, hidden, SILENCE)?, Connect::Silent);
    Ok(())
}

#[test]
fn a_mode_that_the_driver_refuses_leaves_the_interface_protected() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["ping", "ethtool"])?;
    let world = Topology::untagged()?;
    // veth takes no native program while the other end sends from more queues than it receives on.
    world.outside.run("ethtool -L wire tx 2")?;
    let _hidden = servers::tcp_echo(&world.inside, 7000)?;
    let mut daemon = Daemon::start_in(&world.inside, PING, Mode::Auto)?;
    let status = daemon.palisade(&["status"])?;
    assert_eq!(status["interfaces"][0]["mode"], "generic", "{status:#}");
    daemon.stop()?;
    daemon.write_settings("interfaces = [{ name = \"edge\", mode = \"native\" }]", "")?;
    let refused = daemon.run_to_end()?;
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains("stays protected"), "{refused}");
    for (from, to) in CLIENT.into_iter().zip(INSIDE) {
        let hidden = SocketAddr::new(to, 7000);
        assert_eq!(connect(&world.outside, hidden, SILENCE)?, Connect::Silent);
        let pings = ping(&world.outside, from, to, 3, Duration::from_millis(5))?;
        assert_eq!(pings.answered, 3, "{to}");
    }
    Ok(())
}

#[test]
fn hits_whose_registry_was_lost_are_not_taken_for_other_rules() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["ping", "curl"])?;
    let world = Topology::untagged()?;
    let mut daemon = Daemon::start(&world.inside, PING)?;
    let every = Duration::from_millis(5);
    ping(&world.outside, CLIENT[0], INSIDE[0], 5, every)?;
    assert!(daemon.rule_packets("ping")? >= 5);
    daemon.kill()?;
    std::fs::remove_file(daemon.state_dir().join("datapath.json"))?;
    daemon.launch()?;
    assert_eq!(daemon.rule_packets("ping")?, 0);
    Ok(())
}

#[test]
fn an_observed_policy_counts_what_it_would_have_done_and_drops_nothing() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _hidden = servers::tcp_echo(&world.inside, 7000)?;
    let policy = PING.replace("[defaults]", "[defaults]\nmode = \"observe\"");
    let daemon = Daemon::start(&world.inside, &policy)?;
    for to in INSIDE.map(|to| SocketAddr::new(to, 7000)) {
        assert_eq!(connect(&world.outside, to, PATIENCE)?, Connect::Accepted);
    }
    let status = daemon.palisade(&["status"])?;
    assert_eq!(status["policy"]["mode"], "observe", "{status:#}");
    Ok(())
}

#[test]
fn a_device_that_was_made_anew_and_pins_that_were_removed_get_the_fence_back() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["ping"])?;
    let world = Topology::untagged()?;
    let _hidden = servers::tcp_echo(&world.inside, 7000)?;
    let daemon = Daemon::start_in(&world.inside, PING, Mode::Native)?;
    let hidden = SocketAddr::new(INSIDE[0], 7000);
    let answered = || -> Result<u64> {
        let pings = ping(
            &world.outside,
            CLIENT[0],
            INSIDE[0],
            3,
            Duration::from_millis(50),
        )?;
        Ok(pings.answered)
    };
    // A device that is down is silent too: the fence lets pings through and nothing else.
    let fenced = || -> Result<bool> {
        let attempt = connect(&world.outside, hidden, SILENCE);
        let silent = attempt.is_ok_and(|attempt| attempt == Connect::Silent);
        Ok(silent && answered().is_ok_and(|answered| answered == 3))
    };
    assert!(fenced()?, "before");

    world.rewire()?;
    wait_until("the fence stands on the new device", PATIENCE, fenced)?;

    let before = generation(&daemon)?;
    remove(daemon.pins());
    daemon.palisade(&["ban", &CLIENT[1].to_string(), "--for", "1h"])?;
    // Until then, what answers may be the fence of before.
    wait_until("the fence is put up again", PATIENCE, || {
        Ok(generation(&daemon)? != before)
    })?;
    wait_until("the fence stands without its old pins", PATIENCE, fenced)?;
    daemon.palisade(&["ban", &CLIENT[0].to_string(), "--for", "1h"])?;
    // Whichever table a ban went to first, it is in the new one.
    for (from, to) in CLIENT.into_iter().zip(INSIDE) {
        let pings = ping(&world.outside, from, to, 3, Duration::from_millis(50))?;
        assert_eq!(pings.answered, 0, "{from}");
    }
    Ok(())
}

#[test]
fn a_fence_that_lost_some_of_its_pins_stands_again_and_takes_bans() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["ping"])?;
    let world = Topology::untagged()?;
    let daemon = Daemon::start_in(&world.inside, PING, Mode::Native)?;
    let answered = || -> Result<u64> {
        let (from, to) = (CLIENT[0], INSIDE[0]);
        let pings = ping(&world.outside, from, to, 3, Duration::from_millis(5))?;
        Ok(pings.answered)
    };
    let client = CLIENT[0].to_string();
    // What is done with one hook left, and what is done with the maps alone gone.
    for links in [true, false] {
        assert_eq!(answered()?, 3);
        let before = generation(&daemon)?;
        let pins = pins(daemon.pins())?;
        // Before 6.6 the way out has a filter, and no link.
        let mut hooks = ["links/edge-out", "links/edge-in"].into_iter();
        let hook = hooks
            .find(|hook| pins.iter().any(|pin| pin.ends_with(hook)))
            .context("no link is pinned")?;
        let gone = |pin: &Path| {
            let within = pin.parent().and_then(|folder| folder.file_name());
            let within = within.unwrap_or_default().to_string_lossy().into_owned();
            within.starts_with("maps-") || (links && pin.ends_with(hook))
        };
        for pin in pins.iter().filter(|pin| gone(pin)) {
            std::fs::remove_file(pin)?;
        }
        if links {
            wait_until("the fence is put up again", PATIENCE, || {
                Ok(generation(&daemon)? != before)
            })?;
        } else {
            daemon.palisade(&["apply"])?;
        }
        daemon.palisade(&["ban", &client, "--for", "1h"])?;
        wait_until("the ban works", PATIENCE, || Ok(answered()? == 0))?;
        daemon.palisade(&["unban", &client])?;
        wait_until("the ban is lifted", PATIENCE, || Ok(answered()? == 3))?;
    }
    Ok(())
}

/// The number of the policy in force, which grows when the fence is put up again.
fn generation(daemon: &Daemon) -> Result<Option<u64>> {
    Ok(daemon.palisade(&["status"])?["policy"]["generation"].as_u64())
}

/// Every pin below a folder.
fn pins(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(pins(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// Removes a folder of pins. What the daemon pins meanwhile may stay.
fn remove(folder: &Path) {
    for pin in pins(folder).unwrap_or_default() {
        let _ = std::fs::remove_file(pin);
    }
    let _ = std::fs::remove_dir_all(folder);
}
