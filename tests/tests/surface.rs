//! What `palisade surface` says is exposed is what real clients find.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::clients::{Connect, connect};
use palisade_tests::daemon::palisade;
use palisade_tests::process::{Background, finish, wait_until};
use palisade_tests::topology::{CLIENT, INSIDE, OTHER};
use palisade_tests::{Daemon, Topology, need_tools, servers, skip_unless_root, stretched};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(300);

const POLICY: &str = r#"version = 1

[defaults]
inbound = "drop"

[sets]
office = ["198.51.100.3", "2001:db8:51::3"]

[[rule]]
name = "web"
action = "accept"
protocol = "tcp"
port = 80

[[rule]]
name = "admin"
action = "accept"
protocol = "tcp"
port = 2222
from = "office"

[[rule]]
name = "forgotten"
action = "accept"
protocol = ["tcp", "udp"]
port = ["8440-8443"]
"#;

/// A Python program that listens on ports of one address.
fn python(world: &Topology, address: &str, ports: &[u16]) -> Result<Background> {
    let script = format!(
        "import socket,time\ns=[socket.create_server(('{address}',p)) for p in {ports:?}]\ntime.sleep(600)\n"
    );
    let mut command = world.inside.command("python3");
    command.args(["-c", &script]).stdin(Stdio::null());
    Background::spawn(&mut command)
}

fn listener(surface: &Value, port: u16) -> Result<Value> {
    let listeners = surface["listeners"].as_array().context("listeners")?;
    let found = listeners.iter().find(|listener| listener["port"] == port);
    Ok(found
        .with_context(|| format!("no port {port} in {surface:#}"))?
        .clone())
}

fn from(world: &Topology, source: IpAddr, to: SocketAddr) -> Result<bool> {
    let script = format!(
        "import socket\nsocket.create_connection(('{}',{}),0.5,('{source}',0))",
        to.ip(),
        to.port()
    );
    Ok(finish(world.outside.command("python3").args(["-c", &script]))?.success())
}

#[test]
fn what_is_said_to_be_exposed_is_what_clients_find() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["python3"])?;
    let world = Topology::untagged()?;
    let _web = servers::tcp_echo(&world.inside, 80)?;
    let _datagrams = servers::udp_echo(&world.inside, 7777)?;
    let _python = python(&world, "198.51.100.1", &[2222, 9999])?;
    let _local = python(&world, "127.0.0.1", &[6000])?;
    for port in [2222, 9999] {
        wait_until("Python listens", PATIENCE, || {
            let to = SocketAddr::new(INSIDE[0], port);
            Ok(connect(&world.outside, to, SILENCE)? == Connect::Accepted)
        })?;
    }
    let daemon = Daemon::start(&world.inside, POLICY)?;
    // One visitor stays.
    let to = SocketAddr::new(INSIDE[0], 80);
    let _visit: TcpStream = world
        .outside
        .inside(move || Ok(TcpStream::connect_timeout(&to, stretched(PATIENCE))?))?;
    let surface = || daemon.palisade(&["surface", "--unused-after", "1s"]);
    wait_until(
        "the visit is seen, and the rest is silent for a second",
        PATIENCE,
        || {
            let surface = surface()?;
            let seen = !listener(&surface, 80)?["last_packet"].is_null();
            Ok(seen && surface["watched_seconds"].as_u64() >= Some(1))
        },
    )?;
    let surface = surface()?;
    for (port, exposure, rules, flags) in [
        (80, "all", json!(["web"]), json!([])),
        (2222, "restricted", json!(["admin"]), json!(["unused"])),
        (9999, "none", json!([]), json!(["not_covered"])),
        (7777, "none", json!([]), json!(["not_covered"])),
        (6000, "local", json!([]), json!([])),
    ] {
        let found = listener(&surface, port)?;
        assert_eq!(found["exposure"], exposure, "{found:#}");
        assert_eq!(found["rules"], rules, "{found:#}");
        assert_eq!(found["flags"], flags, "{found:#}");
    }
    let web = listener(&surface, 80)?;
    assert_eq!(
        (&web["family"], &web["connections"]),
        (&json!("both"), &json!(1)),
        "{web:#}"
    );
    assert_eq!(web["ipv6"]["exposure"], "all", "{web:#}");
    assert!(web["packets"].as_u64() >= Some(1), "{web:#}");
    let admin = listener(&surface, 2222)?;
    assert_eq!(admin["from"], json!(["office"]), "{admin:#}");
    assert_eq!(admin["process"], "python3", "{admin:#}");
    assert_eq!(admin["user"], "root", "{admin:#}");
    assert_eq!(admin["ipv6"], Value::Null, "{admin:#}");

    let openings = surface["openings"].as_array().context("openings")?;
    let openings: Vec<Value> = openings
        .iter()
        .map(|one| json!([one["rule"], one["protocol"], one["families"], one["ports"]]))
        .collect();
    assert_eq!(
        openings,
        [
            json!(["admin", "tcp", ["ipv6"], [[2222, 2222]]]),
            json!(["forgotten", "tcp", ["ipv4", "ipv6"], [[8440, 8443]]]),
            json!(["forgotten", "udp", ["ipv4", "ipv6"], [[8440, 8443]]]),
        ]
    );

    // And now by asking.
    let finds =
        |port, to: usize| connect(&world.outside, SocketAddr::new(INSIDE[to], port), SILENCE);
    assert_eq!(
        (finds(80, 0)?, finds(80, 1)?),
        (Connect::Accepted, Connect::Accepted)
    );
    assert_eq!(
        (finds(9999, 0)?, finds(2222, 0)?),
        (Connect::Silent, Connect::Silent)
    );
    assert_eq!(
        finds(8442, 1)?,
        Connect::Refused,
        "open where nothing listens"
    );
    let admin = SocketAddr::new(INSIDE[0], 2222);
    assert!(from(&world, OTHER[0], admin)?);
    assert!(!from(&world, CLIENT[0], admin)?);

    // For people, and cut down to what should be looked at.
    let told = daemon.try_palisade(&["surface", "--flagged", "--unused-after", "1h"])?;
    assert_eq!(told.code(), 0, "{told}");
    assert!(
        told.stdout.contains("not covered") && told.stdout.contains("9999"),
        "{told}"
    );
    assert!(!told.stdout.contains("6000"), "{told}");
    assert!(
        told.stderr.contains("2 listening and not covered"),
        "{told}"
    );
    Ok(())
}

#[test]
fn a_policy_is_judged_without_a_daemon_and_one_that_observes_is_told_as_such() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _web = servers::tcp_echo(&world.inside, 80)?;
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.toml");
    fs::write(
        &policy,
        POLICY.replace(
            "inbound = \"drop\"",
            "inbound = \"drop\"\nmode = \"observe\"",
        ),
    )?;
    let surface = |arguments: &[&str]| {
        let mut command: Command = world.inside.command(palisade()?);
        command.arg("surface").args(arguments);
        finish(command.env("PALISADE_SOCKET", folder.path().join("none.sock")))
    };
    let file = policy.display().to_string();
    let answer = surface(&["--policy", &file, "--json"])?;
    assert_eq!(answer.code(), 0, "{answer}");
    let document: Value = serde_json::from_str(&answer.stdout)?;
    assert_eq!(document["mode"], "observe", "{document:#}");
    assert_eq!(document["watched_seconds"], Value::Null, "{document:#}");
    assert_eq!(document["interfaces"], json!(["edge"]), "{document:#}");
    let web = listener(&document, 80)?;
    assert_eq!(
        (&web["exposure"], &web["packets"]),
        (&json!("all"), &Value::Null),
        "{web:#}"
    );
    let told = surface(&["--policy", &file])?;
    assert!(told.stderr.contains("only observes"), "{told}");

    let nobody = surface(&[])?;
    assert_eq!(nobody.code(), 3, "{nobody}");
    fs::write(&policy, "version = 1\nrulez = 1\n")?;
    let wrong = surface(&["--policy", &file])?;
    assert_eq!(wrong.code(), 1, "{wrong}");
    assert!(wrong.stderr.contains("policy.toml:2:1"), "{wrong}");
    Ok(())
}
