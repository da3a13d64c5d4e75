//! The first minutes on a host in use: the policy that `palisade init` proposes is taken by the daemon as it
//! stands, enforced, and whatever is in use goes on.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::clients::{Connect, connect, curl, ping, udp_exchange};
use palisade_tests::daemon::{Mode, palisade};
use palisade_tests::process::{Background, Finished, finish, wait_until};
use palisade_tests::ssh::{Session, Ssh};
use palisade_tests::topology::{CLIENT, EDGE, INSIDE, OTHER};
use palisade_tests::{Daemon, Topology, need_tools, servers, skip_unless_root, stretched};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(300);

/// nginx on both families.
fn nginx(world: &Topology, folder: &TempDir) -> Result<Background> {
    let at = folder.path().display();
    let settings = folder.path().join("nginx.conf");
    fs::write(
        &settings,
        format!(
            "daemon off;\nmaster_process off;\npid {at}/nginx.pid;\nerror_log stderr crit;\nevents {{}}\n\
             http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p;\n\
             fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             server {{ listen 80; listen [::]:80; return 200 \"shop\"; }} }}\n"
        ),
    )?;
    let mut command = world.inside.command("nginx");
    command
        .arg("-c")
        .arg(&settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.path().join("nginx.log"))?);
    Background::spawn(&mut command)
}

/// A Python program that listens on one address and answers nobody. (The module `http.server` would ask
/// name servers for its own name first.)
fn python(world: &Topology, address: &str, port: u16) -> Result<Background> {
    let script = format!(
        "import socket,time\ns=socket.create_server(('{address}',{port}))\ntime.sleep(600)\n"
    );
    let mut command = world.inside.command("python3");
    command.args(["-c", &script]).stdin(Stdio::null());
    Background::spawn(&mut command)
}

/// `palisade init` on the protected host.
fn init(world: &Topology, arguments: &[&str]) -> Result<Finished> {
    finish(
        world
            .inside
            .command(palisade()?)
            .arg("init")
            .args(arguments),
    )
}

/// A connection that the protected host opened.
fn opened(world: &Topology, to: SocketAddr) -> Result<TcpStream> {
    world.inside.inside(move || {
        let stream = TcpStream::connect_timeout(&to, stretched(PATIENCE))?;
        stream.set_read_timeout(Some(stretched(PATIENCE)))?;
        Ok(stream)
    })
}

fn goes_on(stream: &mut TcpStream) -> Result<bool> {
    stream.write_all(b"still there?")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(&answer == b"still there?")
}

#[test]
fn what_is_in_use_goes_on_under_the_proposed_policy_and_the_rest_is_dropped() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nginx", "python3", "sshd", "ssh"])?;
    let world = Topology::untagged()?;
    let folder = tempfile::Builder::new()
        .prefix("palisade-init-")
        .tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let ssh = Ssh::start(&world)?;
    let _shop = nginx(&world, &folder)?;
    let _python = python(&world, "198.51.100.1", 8000)?;
    let _local = python(&world, "127.0.0.1", 9000)?;
    let _datagrams = servers::udp_echo(&world.inside, 7777)?;
    let _backend = servers::tcp_echo(&world.outside, 5000)?;
    let _other = servers::tcp_echo(&world.outside, 5001)?;
    for (to, port) in [(INSIDE[0], 80), (INSIDE[1], 80), (INSIDE[0], 8000)] {
        wait_until("the servers listen", PATIENCE, || {
            let to = SocketAddr::new(to, port);
            Ok(connect(&world.outside, to, SILENCE)? == Connect::Accepted)
        })?;
    }
    let mut v4 = Session::open(&ssh, &world, CLIENT[0], INSIDE[0])?;
    let mut v6 = Session::open(&ssh, &world, OTHER[1], INSIDE[1])?;
    let mut backends = CLIENT
        .iter()
        .map(|to| opened(&world, SocketAddr::new(*to, 5000)))
        .collect::<Result<Vec<TcpStream>>>()?;
    fs::write(path("resolv.conf"), format!("nameserver {}\n", CLIENT[0]))?;

    let (policy, settings, resolv) = (
        path("policy.toml"),
        path("palisade.toml"),
        path("resolv.conf"),
    );
    let wishes = ["--outbound", "drop", "--resolv-conf", &resolv];
    let files = ["--output", &policy, "--settings", &settings];
    let proposed = init(&world, &[&wishes[..], &files, &["--json"]].concat())?;
    assert_eq!(proposed.code(), 0, "{proposed}");
    let document: Value = serde_json::from_str(&proposed.stdout)?;
    let kept = &document["kept"];
    assert_eq!(kept["cuts"], Value::Array(Vec::new()), "{document:#}");
    assert_eq!(kept["ssh_sessions"], 2, "{document:#}");
    assert_eq!(kept["gateways"], 2, "{document:#}");
    assert_eq!(kept["name_servers"], 1, "{document:#}");
    assert_eq!(document["interfaces"][0]["name"], EDGE, "{document:#}");
    let text = fs::read_to_string(&policy)?;
    assert_eq!(document["policy"], text.as_str());
    for words in [
        "mode     = \"observe\"",
        "name     = \"sshd\"",
        "# from   = [\"198.51.100.2\", \"2001:db8:51::3\"]",
        "name     = \"nginx\"",
        "to       = \"198.51.100.1\"",
        "port      = 5000",
        "only the host itself reaches it",
    ] {
        assert!(text.contains(words), "no `{words}` in:\n{text}");
    }
    assert!(!text.contains("9000\n[[rule]]"), "{text}");

    // What exists is not replaced, not even in part.
    fs::remove_file(&settings)?;
    let again = init(&world, &files)?;
    assert_eq!(again.code(), 1, "{again}");
    assert!(again.stderr.contains("--force"), "{again}");
    assert!(fs::metadata(&settings).is_err());
    let forced = init(&world, &[&wishes[..], &files, &["--force"]].concat())?;
    assert_eq!(forced.code(), 0, "{forced}");
    assert!(
        forced
            .stderr
            .contains("nothing that is in use would be cut"),
        "{forced}"
    );

    for mode in ["observe", "enforce"] {
        let text = fs::read_to_string(&policy)?;
        fs::write(&policy, text.replace("\"observe\"", &format!("\"{mode}\"")))?;
        let check = finish(
            world
                .inside
                .command(palisade()?)
                .args(["check", "--host"])
                .arg(&policy),
        )?;
        assert_eq!(check.code(), 0, "{check}");
        assert!(!check.stderr.contains("warning"), "{check}");
    }

    // Enforced, by the settings' own interfaces.
    let mut daemon = Daemon::prepare(
        &world.inside,
        &fs::read_to_string(&policy)?,
        EDGE,
        Mode::Auto,
    )?;
    let top = fs::read_to_string(&settings)?;
    let interfaces = top.lines().find(|line| line.starts_with("interfaces"));
    daemon.write_settings(interfaces.context("interfaces")?, "")?;
    daemon.launch()?;
    assert!(v4.answers("one")? && v6.answers("two")?);
    drop(Session::open(&ssh, &world, CLIENT[0], INSIDE[0])?);
    drop(Session::open(&ssh, &world, CLIENT[1], INSIDE[1])?);
    for (family, to) in INSIDE.into_iter().enumerate() {
        let shop = curl(&world.outside, CLIENT[family], to, 80, PATIENCE)?;
        assert!(shop.success() && shop.stdout.contains("shop"), "{shop}");
        assert!(udp_exchange(
            &world.outside,
            SocketAddr::new(to, 7777),
            40,
            PATIENCE
        )?);
        let pings = ping(
            &world.outside,
            CLIENT[family],
            to,
            3,
            Duration::from_millis(20),
        )?;
        assert_eq!(pings.answered, 3);
        assert!(goes_on(&mut backends[family])?);
        assert!(goes_on(&mut opened(
            &world,
            SocketAddr::new(CLIENT[family], 5000)
        )?)?);
        // What nobody uses: a port without a listener, and a way out that was not in use.
        let closed = connect(&world.outside, SocketAddr::new(to, 8443), SILENCE)?;
        assert_eq!(closed, Connect::Silent);
        let other = SocketAddr::new(CLIENT[family], 5001);
        assert_eq!(connect(&world.inside, other, SILENCE)?, Connect::Silent);
    }
    let python = connect(&world.outside, SocketAddr::new(INSIDE[0], 8000), SILENCE)?;
    assert_eq!(python, Connect::Accepted);
    Ok(())
}

#[test]
fn a_host_without_an_interface_to_protect_is_told_so() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let bare = palisade_tests::Namespace::create("bare")?;
    let program = palisade()?;
    let run = |arguments: &[&str]| finish(bare.command(&program).arg("init").args(arguments));
    let nothing = run(&[])?;
    assert_eq!(nothing.code(), 1, "{nothing}");
    assert!(nothing.stderr.contains("--interface"), "{nothing}");
    for (name, words) in [("lo", "not Ethernet"), ("eht0", "does not exist")] {
        let wrong = run(&["--interface", name])?;
        assert_eq!(wrong.code(), 1, "{wrong}");
        assert!(wrong.stderr.contains(words), "{wrong}");
    }
    Ok(())
}

/// A process names itself, and a user may name a process: neither may change the policy or the terminal.
#[test]
fn a_process_with_a_hostile_name_stays_in_its_string() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let script = "import socket,time\n\
        open('/proc/self/comm','wb').write(b'a\"\\n[x]\\x1b[2J\\xff')\n\
        s=socket.create_server(('198.51.100.1',4444))\n\
        print('up',flush=True)\n\
        time.sleep(600)\n";
    let mut command = world.inside.command("python3");
    command
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let _server = Background::spawn(&mut command)?;
    let to = SocketAddr::new(INSIDE[0] as IpAddr, 4444);
    wait_until("the server listens", PATIENCE, || {
        Ok(connect(&world.outside, to, SILENCE)? == Connect::Accepted)
    })?;
    let proposed = init(&world, &["--resolv-conf", "/dev/null"])?;
    assert_eq!(proposed.code(), 0, "{proposed}");
    assert!(proposed.stdout.contains("4444"), "{proposed}");
    assert!(!proposed.stdout.contains('\u{1b}'), "{proposed}");
    assert!(!proposed.stdout.contains("\n[x]"), "{proposed}");
    Ok(())
}
