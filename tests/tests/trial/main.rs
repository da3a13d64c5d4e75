//! Policies on trial: what nobody confirms goes away by itself, with or without a daemon, on every
//! hook; what is confirmed stays.

mod by_itself;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::clients::{Connect, connect};
use palisade_tests::daemon::metric;
use palisade_tests::patience::stretched;
use palisade_tests::process::wait_until;
use palisade_tests::topology::{EDGE, INSIDE};
use palisade_tests::{Daemon, Topology, need_tools, servers, skip_unless_root};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_millis(200);

/// The length of a trial that some steps must fit in, on a machine of any speed.
fn lasting(seconds: u64) -> String {
    format!("{}s", stretched(Duration::from_secs(seconds)).as_secs())
}

/// A policy of TCP ports that are let in.
fn tcp(port: u16) -> String {
    format!(
        "version = 1\n[defaults]\ninbound = \"drop\"\n\
         [[rule]]\nname = \"port-{port}\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = {port}\n"
    )
}

/// A host with TCP servers at 7000 and 7001, of which a policy lets one be reached.
struct Host {
    world: Topology,
    daemon: Daemon,
    _servers: [servers::Server; 2],
}

impl Host {
    fn start() -> Result<Self> {
        let world = Topology::untagged()?;
        let servers = [
            servers::tcp_echo(&world.inside, 7000)?,
            servers::tcp_echo(&world.inside, 7001)?,
        ];
        let daemon = Daemon::start(&world.inside, &tcp(7000))?;
        Ok(Self {
            world,
            daemon,
            _servers: servers,
        })
    }

    fn reachable(&self) -> Result<[bool; 2]> {
        let ask = |port| -> Result<bool> {
            let mut answers = Vec::new();
            for to in INSIDE {
                let to = SocketAddr::new(to, port);
                answers.push(connect(&self.world.outside, to, SILENCE)? == Connect::Accepted);
            }
            anyhow::ensure!(answers[0] == answers[1], "the families differ: {answers:?}");
            Ok(answers[0])
        };
        Ok([ask(7000)?, ask(7001)?])
    }

    fn file(&self, policy: &str) -> Result<PathBuf> {
        let path = self.daemon.folder().join("offered.toml");
        fs::write(&path, policy)?;
        Ok(path)
    }

    /// Puts a policy on trial that lets port 7001 be reached.
    fn try_out(&self, confirm: &str) -> Result<Value> {
        let file = self.file(&tcp(7001))?;
        let file = file.to_str().context("a path in UTF-8")?;
        self.daemon.palisade(&["apply", file, "--confirm", confirm])
    }

    fn policy(&self) -> Result<Value> {
        Ok(self.daemon.palisade(&["status"])?["policy"].clone())
    }

    /// What is pinned for a trial.
    fn trial_pins(&self) -> Result<usize> {
        let mut pins = 0;
        for folder in ["next", "gates", "trial"] {
            pins += fs::read_dir(self.daemon.pins().join(folder))?.count();
        }
        Ok(pins)
    }
}

fn generation(daemon: &Daemon) -> Result<u64> {
    let status = daemon.palisade(&["status"])?;
    status["policy"]["generation"]
        .as_u64()
        .context("no generation")
}

const OLD_ONLY: [bool; 2] = [true, false];
const NEW_ONLY: [bool; 2] = [false, true];

#[test]
fn a_confirmed_policy_stays_beyond_its_deadline_and_its_daemon() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl"])?;
    let mut host = Host::start()?;
    let first = generation(&host.daemon)?;
    let report = host.try_out(&lasting(8))?;
    assert_eq!(report["generation"], first + 1);
    assert_eq!(report["trial"]["previous_generation"], first);
    assert_eq!(host.reachable()?, NEW_ONLY);
    let policy = host.policy()?;
    assert_eq!(policy["generation"], first + 1, "{policy:#}");
    assert_eq!(policy["valid"], true, "{policy:#}");
    let left = policy["trial"]["remaining_seconds"].as_u64();
    assert!(
        left.is_some_and(|left| (1..=stretched(Duration::from_secs(8)).as_secs()).contains(&left)),
        "{policy:#}"
    );
    let scrape = host.daemon.scrape()?;
    assert_eq!(metric(&scrape, "palisade_trial_pending", &[]), 1.0);
    let deadline = metric(&scrape, "palisade_trial_deadline_timestamp_seconds", &[]);
    assert!(deadline > 1.7e9, "{deadline}");

    let confirmed = host.daemon.palisade(&["confirm"])?;
    assert_eq!(confirmed["generation"], first + 1);
    assert_eq!(host.trial_pins()?, 0, "the gates are gone");
    sleep(stretched(Duration::from_secs(9)));
    assert_eq!(host.reachable()?, NEW_ONLY);
    let policy = host.policy()?;
    assert_eq!(policy["trial"], Value::Null, "{policy:#}");
    let scrape = host.daemon.scrape()?;
    assert_eq!(metric(&scrape, "palisade_trial_pending", &[]), 0.0);
    let again = host.daemon.try_palisade(&["confirm"])?;
    assert_eq!(again.code(), 1, "{again}");
    host.daemon.kill()?;
    assert_eq!(host.reachable()?, NEW_ONLY, "with the daemon killed");
    Ok(())
}

#[test]
fn a_daemon_that_lives_notices_the_deadline_and_says_so() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl"])?;
    let mut host = Host::start()?;
    let first = generation(&host.daemon)?;
    let hits = host.daemon.rule_packets("port-7000")?;
    // The daemon's own file this time: that is what a restart would read.
    host.daemon.write_policy(&tcp(7001))?;
    host.daemon.palisade(&["apply", "--confirm", &lasting(6)])?;
    assert_eq!(host.reachable()?, NEW_ONLY);
    wait_until("the daemon notices", PATIENCE, || {
        Ok(host.policy()?["trial"] == Value::Null)
    })?;
    assert_eq!(host.reachable()?, OLD_ONLY);
    assert!(host.daemon.rule_packets("port-7000")? > hits);
    assert!(host.daemon.rule_packets("port-7001")? > 0, "counters stay");
    assert_eq!(host.trial_pins()?, 0, "the gates are gone");

    let policy = host.policy()?;
    assert_eq!(policy["generation"], first, "{policy:#}");
    assert_eq!(policy["valid"], false, "{policy:#}");
    let kept = policy["given_back"]["text"].as_str().context("a file")?;
    assert_eq!(fs::read_to_string(kept)?, tcp(7001));
    let kept = policy["given_back"]["in_force_text"]
        .as_str()
        .context("a file")?;
    assert_eq!(fs::read_to_string(kept)?, tcp(7000));
    let said = host.daemon.try_palisade(&["status"])?;
    assert!(said.stdout.contains("given back"), "{said}");
    assert!(host.daemon.log().contains("not confirmed in time"));
    let scrape = host.daemon.scrape()?;
    assert_eq!(metric(&scrape, "palisade_policy_valid", &[]), 0.0);

    // The policy file holds what was given back: a small change must not put the rest of it in force,
    // and neither must a restart.
    let added = host.daemon.try_palisade(&[
        "rule",
        "add",
        "--name",
        "more",
        "--action",
        "accept",
        "--protocol",
        "udp",
    ])?;
    assert_eq!(added.code(), 1, "{added}");
    assert!(added.stderr.contains("given back"), "{added}");
    assert_eq!(fs::read_to_string(host.daemon.policy())?, tcp(7001));
    host.daemon.kill()?;
    host.daemon.launch()?;
    assert_eq!(host.reachable()?, OLD_ONLY, "after a restart");
    assert_eq!(host.policy()?["valid"], false);
    // Who asks for it gets it.
    host.daemon.palisade(&["apply"])?;
    assert_eq!(host.reachable()?, NEW_ONLY);
    assert_eq!(host.policy()?["valid"], true);
    assert_eq!(host.policy()?["given_back"], Value::Null);
    Ok(())
}

#[test]
fn rollback_goes_back_at_once_with_and_without_a_trial() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let host = Host::start()?;
    let none = host.daemon.try_palisade(&["rollback"])?;
    assert_eq!(none.code(), 1, "{none}");
    assert!(none.stderr.contains("remembered"), "{none}");

    host.try_out("10m")?;
    assert_eq!(host.reachable()?, NEW_ONLY);
    let first = host.policy()?["trial"]["previous_generation"].clone();
    let report = host.daemon.palisade(&["rollback"])?;
    assert_eq!(report["generation"], first, "{report:#}");
    assert_eq!(host.reachable()?, OLD_ONLY);
    assert_eq!(host.trial_pins()?, 0);
    // What was given back is no policy to go back to.
    let none = host.daemon.try_palisade(&["rollback"])?;
    assert_eq!(none.code(), 1, "{none}");

    let file = host.file(&tcp(7001))?;
    let file = file.to_str().context("a path in UTF-8")?;
    host.daemon.palisade(&["apply", file])?;
    assert_eq!(host.reachable()?, NEW_ONLY);
    host.daemon.palisade(&["rollback"])?;
    assert_eq!(host.reachable()?, OLD_ONLY);
    let none = host.daemon.try_palisade(&["rollback"])?;
    assert_eq!(none.code(), 1, "{none}");
    Ok(())
}

#[test]
fn changes_wait_for_the_end_of_a_trial_and_taking_the_fence_down_ends_it() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let host = Host::start()?;
    host.try_out("10m")?;
    for refused in [
        &["apply"][..],
        &["apply", "--confirm", "1m"],
        &[
            "rule",
            "add",
            "--name",
            "more",
            "--action",
            "accept",
            "--protocol",
            "udp",
        ],
        &["detach", "--interface", EDGE],
    ] {
        let answer = host.daemon.try_palisade(refused)?;
        assert_eq!(answer.code(), 1, "{refused:?}: {answer}");
        assert!(answer.stderr.contains("on trial"), "{refused:?}: {answer}");
    }
    assert_eq!(host.reachable()?, NEW_ONLY);
    // A dry run changes nothing, so it need not wait.
    host.daemon.palisade(&["apply", "--dry-run"])?;

    host.daemon.palisade(&["detach"])?;
    assert_eq!(host.reachable()?, [true, true]);
    let policy = host.daemon.try_palisade(&["status", "--json"])?;
    let status: Value = serde_json::from_str(&policy.stdout)?;
    assert_eq!(status["policy"]["trial"], Value::Null);

    // A trial where no fence stood goes back to none, by itself and then for good.
    let mut host = host;
    host.try_out(&lasting(8))?;
    assert_eq!(host.reachable()?, NEW_ONLY);
    host.daemon.kill()?;
    wait_until("the door is open again", PATIENCE, || {
        // Asked across the deadline, the families differ.
        Ok(host.reachable().is_ok_and(|open| open == [true, true]))
    })?;
    Ok(())
}

#[test]
fn a_daemon_started_during_a_trial_goes_on_with_it() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let mut host = Host::start()?;
    let first = generation(&host.daemon)?;
    host.try_out("60s")?;
    host.daemon.kill()?;
    sleep(Duration::from_millis(1500));
    host.daemon.launch()?;
    assert_eq!(host.reachable()?, NEW_ONLY);
    let policy = host.policy()?;
    assert_eq!(policy["trial"]["previous_generation"], first, "{policy:#}");
    let left = policy["trial"]["remaining_seconds"].as_u64();
    assert!(left.is_some_and(|left| left < 60), "{policy:#}");
    host.daemon.palisade(&["rollback"])?;
    assert_eq!(host.reachable()?, OLD_ONLY);
    assert_eq!(generation(&host.daemon)?, first);

    host.try_out("60s")?;
    host.daemon.kill()?;
    host.daemon.launch()?;
    host.daemon.palisade(&["confirm"])?;
    assert_eq!(host.reachable()?, NEW_ONLY);
    assert_eq!(host.trial_pins()?, 0);

    // A device made anew has no gate: what was in force before the trial is put there.
    host.file(&tcp(7000))?;
    let file = host.daemon.folder().join("offered.toml");
    let file = file.to_str().context("a path in UTF-8")?.to_owned();
    host.daemon
        .palisade(&["apply", &file, "--confirm", "10m"])?;
    assert_eq!(host.reachable()?, OLD_ONLY);
    host.world.rewire()?;
    wait_until("the fence stands again", PATIENCE, || {
        // The trial may end while the device is away.
        let status = host.daemon.palisade(&["status"]);
        Ok(status.is_ok_and(|status| {
            status["policy"]["trial"] == Value::Null && status["interfaces"][0]["name"] == EDGE
        }))
    })?;
    assert_eq!(host.reachable()?, NEW_ONLY);
    Ok(())
}
