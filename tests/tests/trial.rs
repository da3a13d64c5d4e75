//! Policies on trial: what nobody confirms goes away by itself, with or without a daemon, on every
//! hook; what is confirmed stays.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use palisade_tests::clients::{Connect, connect, settle};
use palisade_tests::daemon::{Mode, metric, palisade};
use palisade_tests::namespace::join;
use palisade_tests::process::{Background, wait_until};
use palisade_tests::servers::{self, UdpSink};
use palisade_tests::topology::{CLIENT, EDGE, INSIDE, OTHER};
use palisade_tests::{Daemon, Namespace, Topology, need_tools, skip_unless_root};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_millis(200);
/// A second protected interface, and its addresses inside and outside.
const SECOND: &str = "second";
const SECOND_INSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1)),
];
const SECOND_OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 2)),
];

/// Lets one UDP port in and out, and nothing else.
fn only(port: u16, name: &str) -> String {
    format!(
        "version = 1\n\
         [defaults]\ninbound = \"drop\"\noutbound = \"drop\"\n\
         [[rule]]\nname = \"{name}-in\"\naction = \"accept\"\nprotocol = \"udp\"\nport = {port}\n\
         [[rule]]\nname = \"{name}-out\"\ndirection = \"outbound\"\naction = \"accept\"\nprotocol = \"udp\"\nport = {port}\n"
    )
}

/// A policy of TCP ports that are let in.
fn tcp(port: u16) -> String {
    format!(
        "version = 1\n[defaults]\ninbound = \"drop\"\n\
         [[rule]]\nname = \"port-{port}\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = {port}\n"
    )
}

const OLD: u16 = 5000;
const NEW: u16 = 10_000;

/// A world whose inside has two interfaces to protect.
fn two_wires() -> Result<Topology> {
    let world = Topology::untagged()?;
    palisade_tests::topology::join((&world.inside, SECOND), (&world.outside, "other"))?;
    for (namespace, interface, addresses) in [
        (&world.inside, SECOND, SECOND_INSIDE),
        (&world.outside, "other", SECOND_OUTSIDE),
    ] {
        namespace.run(&format!("ip addr add {}/24 dev {interface}", addresses[0]))?;
        namespace.run(&format!(
            "ip addr add {}/64 dev {interface} nodad",
            addresses[1]
        ))?;
    }
    Ok(world)
}

/// Starts the command line in a shell, and gives both back running: the verb has ended, the shell
/// has not.
fn apply_in_a_shell(
    daemon: &Daemon,
    world: &Topology,
    file: &str,
    confirm: &str,
) -> Result<Background> {
    let done = daemon.folder().join("applied");
    let script = format!(
        "{} apply {file} --confirm {confirm} && touch {}; sleep 60",
        palisade()?.display(),
        done.display()
    );
    let mut command = world.inside.command("sh");
    command
        .args(["-c", &script])
        .env("PALISADE_SOCKET", daemon.socket())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let shell = Background::spawn(&mut command)?;
    wait_until("the policy is on trial", PATIENCE, || Ok(done.exists()))?;
    Ok(shell)
}

/// Datagrams that each begin a conversation of their own: one that the fence has let out once goes
/// on under another policy.
struct Strangers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Strangers {
    fn start(from_there: &Namespace, from: IpAddr, to: SocketAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = from_there.thread(move || {
            let mut sent = 0;
            let first = to.port() * 4;
            while !stopped.load(Ordering::Relaxed) {
                // A port that was not used yet: one chosen at random may have been.
                let socket = UdpSocket::bind((from, first + sent as u16))?;
                // What the fence drops on the way out is an error for the sender.
                let _ = socket.send_to(b"stranger", to);
                sent += 1;
                sleep(Duration::from_millis(4));
            }
            Ok(sent)
        })?;
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        join(self.thread)
    }
}

/// What arrived at both ports on one side.
struct Side {
    old: UdpSink,
    new: UdpSink,
}

impl Side {
    fn start(world: &Namespace) -> Result<Self> {
        Ok(Self {
            old: UdpSink::start(world, OLD)?,
            new: UdpSink::start(world, NEW)?,
        })
    }

    fn totals(&self) -> [u64; 2] {
        [self.old.total(), self.new.total()]
    }
}

#[test]
fn unconfirmed_it_goes_back_in_native_mode_with_daemon_and_shell_killed() -> Result<()> {
    goes_back_by_itself(Mode::Native, "auto")
}

#[test]
fn unconfirmed_it_goes_back_in_generic_mode_with_clsact_with_daemon_and_shell_killed() -> Result<()>
{
    goes_back_by_itself(Mode::Generic, "clsact")
}

fn goes_back_by_itself(mode: Mode, egress: &str) -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = two_wires()?;
    let (inside, outside) = (Side::start(&world.inside)?, Side::start(&world.outside)?);
    let mut daemon = Daemon::prepare(&world.inside, &only(OLD, "old"), EDGE, mode)?;
    let interface = |name| {
        format!(
            "{{ name = \"{name}\", mode = \"{}\", egress = \"{egress}\" }}",
            mode.name()
        )
    };
    daemon.write_settings(
        &format!("interfaces = [{}, {}]", interface(EDGE), interface(SECOND)),
        "",
    )?;
    daemon.launch()?;
    let first = generation(&daemon)?;

    let mut streams = Vec::new();
    let mut flow = |from_inside: bool, from: IpAddr, to: IpAddr| -> Result<()> {
        for port in [OLD, NEW] {
            let namespace = if from_inside {
                &world.inside
            } else {
                &world.outside
            };
            let stream = Strangers::start(namespace, from, SocketAddr::new(to, port))?;
            streams.push((port, from_inside, stream));
        }
        Ok(())
    };
    for family in 0..2 {
        flow(false, OTHER[family], INSIDE[family])?;
        flow(true, INSIDE[family], CLIENT[family])?;
        flow(false, SECOND_OUTSIDE[family], SECOND_INSIDE[family])?;
        flow(true, SECOND_INSIDE[family], SECOND_OUTSIDE[family])?;
    }
    // What arrives inside and outside at the old and the new port within half a second.
    let sample = || {
        let before = [inside.totals(), outside.totals()];
        sleep(Duration::from_millis(500));
        let after = [inside.totals(), outside.totals()];
        [0, 1].map(|side| [0, 1].map(|port| after[side][port] - before[side][port]))
    };
    let is = |open: usize, arrived: [[u64; 2]; 2]| {
        arrived
            .iter()
            .all(|ports| ports[open] > 60 && ports[1 - open] == 0)
    };
    let before = sample();
    assert!(is(0, before), "before the trial: {before:?}");

    fs::write(daemon.folder().join("new.toml"), only(NEW, "new"))?;
    let file = daemon.folder().join("new.toml");
    let shell = apply_in_a_shell(&daemon, &world, &file.display().to_string(), "8s")?;
    let began = Instant::now();
    daemon.kill()?;
    drop(shell);
    let during = sample();
    assert!(is(1, during), "on trial: {during:?}");

    let back = || Ok(inside.old.total() > 0 && is(0, sample()));
    wait_until("the old policy is back", PATIENCE, back)?;
    let took = began.elapsed();
    // Half a second of looking, and a machine that is busy.
    let late = Duration::from_millis(8000)..Duration::from_millis(11_000);
    assert!(late.contains(&took), "back after {took:?}");

    let (mut sent, mut tried) = ([0; 2], 0);
    for (port, from_inside, stream) in streams {
        let count = stream.stop()?;
        if port == OLD {
            sent[usize::from(from_inside)] += count;
        } else {
            tried += count;
        }
    }
    assert!(tried > 1000, "too little traffic: {tried}");
    let arrived = settle(|| inside.totals().iter().chain(&outside.totals()).sum())?;
    let [old_in, new_in] = inside.totals();
    let [old_out, new_out] = outside.totals();
    assert!(
        old_in < sent[0] && old_out < sent[1],
        "the trial had no effect"
    );
    // Each packet was judged by one of the two, and counted there: nothing was lost in a swap.
    daemon.launch()?;
    let counted = |rule| daemon.rule_packets(rule);
    assert_eq!(counted("old-in")?, old_in);
    assert_eq!(counted("old-out")?, old_out);
    assert_eq!(arrived, old_in + new_in + old_out + new_out);
    // The next daemon knows what has become of it.
    let status = daemon.palisade(&["status"])?;
    let policy = &status["policy"];
    assert_eq!(policy["trial"], Value::Null, "{status:#}");
    assert_eq!(policy["given_back"]["generation"], first + 1, "{status:#}");
    assert!(
        policy["source"]
            .as_str()
            .is_some_and(|source| source.ends_with("policy.toml"))
    );
    Ok(())
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
    let report = host.try_out("8s")?;
    assert_eq!(report["generation"], first + 1);
    assert_eq!(report["trial"]["previous_generation"], first);
    assert_eq!(host.reachable()?, NEW_ONLY);
    let policy = host.policy()?;
    assert_eq!(policy["generation"], first + 1, "{policy:#}");
    assert_eq!(policy["valid"], true, "{policy:#}");
    let left = policy["trial"]["remaining_seconds"].as_u64();
    assert!(
        left.is_some_and(|left| (1..=8).contains(&left)),
        "{policy:#}"
    );
    let scrape = host.daemon.scrape()?;
    assert_eq!(metric(&scrape, "palisade_trial_pending", &[]), 1.0);
    let deadline = metric(&scrape, "palisade_trial_deadline_timestamp_seconds", &[]);
    assert!(deadline > 1.7e9, "{deadline}");

    let confirmed = host.daemon.palisade(&["confirm"])?;
    assert_eq!(confirmed["generation"], first + 1);
    assert_eq!(host.trial_pins()?, 0, "the gates are gone");
    sleep(Duration::from_secs(9));
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
    host.daemon.palisade(&["apply", "--confirm", "6s"])?;
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

    // The policy file holds what was given back: a restart must not put it in force.
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
    host.try_out("8s")?;
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
        Ok(host.policy()?["trial"] == Value::Null)
    })?;
    assert_eq!(host.reachable()?, NEW_ONLY);
    Ok(())
}

#[test]
fn a_swap_that_fails_on_one_interface_is_undone_on_the_others() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = two_wires()?;
    let _old = servers::tcp_echo(&world.inside, 7000)?;
    let mut one = Daemon::start(&world.inside, &tcp(7000))?;
    // Another fence stands on the second interface.
    let mut other = Daemon::prepare(&world.inside, &tcp(7000), SECOND, Mode::Auto)?;
    other.write_settings(&format!("interfaces = [\"{SECOND}\"]"), "")?;
    let settings = fs::read_to_string(other.settings())?;
    fs::write(other.settings(), settings.replace("9477", "9478"))?;
    other.launch()?;

    one.kill()?;
    one.write_policy(&tcp(7001))?;
    one.write_settings(&format!("interfaces = [\"{EDGE}\", \"{SECOND}\"]"), "")?;
    let refused = one.run_to_end()?;
    assert_ne!(refused.code(), 0, "{refused}");
    assert!(refused.stderr.contains("already"), "{refused}");
    for to in INSIDE {
        let reach = |port| connect(&world.outside, SocketAddr::new(to, port), SILENCE);
        assert_eq!(
            reach(7000)?,
            Connect::Accepted,
            "{to}: the old policy is in force"
        );
        assert_eq!(reach(7001)?, Connect::Silent, "{to}: the new one is not");
    }
    Ok(())
}
