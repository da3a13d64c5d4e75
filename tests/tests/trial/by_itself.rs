//! The kernel goes back by itself on every hook of every interface, and a swap that fails at one is
//! undone at the others.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::Result;
use palisade_tests::clients::{Connect, connect, settle};
use palisade_tests::daemon::{Mode, palisade};
use palisade_tests::namespace::join;
use palisade_tests::patience::stretched;
use palisade_tests::process::{Background, wait_until};
use palisade_tests::servers::{self, UdpSink};
use palisade_tests::topology::{CLIENT, EDGE, INSIDE, OTHER};
use palisade_tests::{Daemon, Namespace, Topology, skip_unless_root};
use serde_json::Value;

use super::{PATIENCE, SILENCE, generation, lasting, tcp};

/// How long the policy is on trial that nobody confirms.
const TRIAL_SECONDS: u64 = 8;
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
    let asked = Instant::now();
    let shell = apply_in_a_shell(
        &daemon,
        &world,
        &file.display().to_string(),
        &lasting(TRIAL_SECONDS),
    )?;
    let began = Instant::now();
    daemon.kill()?;
    drop(shell);
    let during = sample();
    assert!(is(1, during), "on trial: {during:?}");

    let back = || Ok(inside.old.total() > 0 && is(0, sample()));
    wait_until("the old policy is back", PATIENCE, back)?;
    // The trial began between the two; half a second of looking, and a machine that is busy.
    let trial = stretched(Duration::from_secs(TRIAL_SECONDS));
    let (least, most) = (began.elapsed(), asked.elapsed());
    assert!(most >= trial, "back after {most:?} already");
    assert!(
        least < trial + stretched(Duration::from_secs(3)),
        "back after {least:?}"
    );

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
