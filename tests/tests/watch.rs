//! `palisade watch`: what is dropped is told at once, with why, and can be kept as a capture.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use palisade_tests::clients::UdpStream;
use palisade_tests::daemon::palisade;
use palisade_tests::policies::SHOP;
use palisade_tests::process::{succeed, wait_until};
use palisade_tests::topology::{CLIENT, INSIDE, LISTED, OTHER};
use palisade_tests::{Daemon, Topology, need_tools, skip_unless_root, stretched};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// A `palisade watch` that runs, with its lines as they come. Ended when it goes.
struct Watch {
    child: Child,
    lines: Receiver<String>,
    said: BufReader<ChildStderr>,
}

impl Watch {
    /// Starts it, and waits until the daemon has said yes.
    fn start(daemon: &Daemon, arguments: &[&str]) -> Result<Self> {
        let mut child = command(daemon, arguments)?
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("a pipe")?;
        let mut said = BufReader::new(child.stderr.take().context("a pipe")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut begun = String::new();
        said.read_line(&mut begun)?;
        if begun != "palisade: watching; Ctrl-C ends it\n" {
            bail!("it said {begun:?}");
        }
        Ok(Self { child, lines, said })
    }

    fn line(&self) -> Result<String> {
        self.lines
            .recv_timeout(stretched(PATIENCE))
            .context("nothing is told")
    }

    /// Waits for its end; gives its exit code and what it said.
    fn end(mut self) -> Result<(Option<i32>, String)> {
        let mut said = String::new();
        self.said.read_to_string(&mut said)?;
        Ok((self.child.wait()?.code(), said))
    }

    fn interrupt(&self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(
            pid,
            rustix::process::Signal::INT,
        )?)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(daemon: &Daemon, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(palisade()?);
    command
        .arg("watch")
        .args(arguments)
        .env("PALISADE_SOCKET", daemon.socket())
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    Ok(command)
}

/// Sends one datagram of so many bytes to the host, to a port that nobody is let in at.
fn send(world: &Topology, from: IpAddr, to: IpAddr, bytes: usize) -> Result<()> {
    world.outside.inside(move || {
        let socket = UdpSocket::bind(SocketAddr::new(from, 40_000))?;
        socket.send_to(&vec![b'x'; bytes], SocketAddr::new(to, 8_123))?;
        Ok(())
    })
}

#[test]
fn one_dropped_packet_is_told_with_its_reason_and_rule_and_counted_at_the_end() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, SHOP)?;
    for index in 0..2 {
        let (client, listed, to) = (CLIENT[index], LISTED[index], INSIDE[index]);
        let watch = Watch::start(&daemon, &["--port", "8123"])?;
        send(&world, client, to, 10)?;
        let line = watch.line()?;
        let who = format!(
            "udp {} > {}",
            SocketAddr::new(client, 40_000),
            SocketAddr::new(to, 8_123)
        );
        assert!(line.contains(" edge in  drop default: "), "{line}");
        assert!(line.contains(&who), "{line}");
        assert!(!line.contains('\x1b'), "{line:?}");
        send(&world, listed, to, 10)?;
        let line = watch.line()?;
        assert!(line.contains(" drop rule hostile: "), "{line}");
        watch.interrupt()?;
        let (code, said) = watch.end()?;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("2 packets shown"), "{said}");

        // A filter leaves out what is not asked for, and a count ends it.
        let from = listed.to_string();
        let watch = Watch::start(&daemon, &["--from", &from, "--count", "1"])?;
        send(&world, client, to, 10)?;
        send(&world, listed, to, 10)?;
        assert!(watch.line()?.contains(&from));
        assert_eq!(watch.end()?.0, Some(0));
    }
    Ok(())
}

#[test]
fn one_packet_among_a_thousand_dropped_a_second_is_told() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, SHOP)?;
    let noise = UdpStream::start(
        &world.outside,
        SocketAddr::new(OTHER[0], 0),
        SocketAddr::new(INSIDE[0], 8_124),
        Duration::from_millis(1),
    )?;
    let from = CLIENT[0].to_string();
    let watch = Watch::start(&daemon, &["--from", &from, "--port", "8123"])?;
    let mut delays = Vec::new();
    for _ in 0..5 {
        let sent = Instant::now();
        send(&world, CLIENT[0], INSIDE[0], 10)?;
        assert!(watch.line()?.contains(&from));
        delays.push(sent.elapsed());
    }
    println!("from the packet to its line: {delays:?}");
    assert!(noise.stop()? > 0);
    Ok(())
}

#[test]
fn a_packet_s_first_bytes_and_why_it_was_dropped_are_in_the_capture() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["tshark", "tcpdump"])?;
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, SHOP)?;
    let file = daemon.folder().join("drops.pcapng");
    let name = file.to_str().context("a name")?;
    let watch = Watch::start(
        &daemon,
        &["--port", "8123", "--count", "2", "--write", name],
    )?;
    send(&world, LISTED[0], INSIDE[0], 1_000)?;
    send(&world, CLIENT[1], INSIDE[1], 10)?;
    assert_eq!(watch.end()?.0, Some(0));
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let mut tshark = Command::new("tshark");
    tshark.args(["-r", name, "-T", "fields", "-E", "separator=|"]);
    for field in [
        "frame.len",
        "frame.cap_len",
        "frame.interface_name",
        "udp.dstport",
        "frame.comment",
    ] {
        tshark.args(["-e", field]);
    }
    let told = succeed(&mut tshark)?;
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(
        told,
        [
            "1042|160|edge|8123|drop rule hostile; stands for 1 packets of class contact",
            "72|72|edge|8123|drop default; stands for 1 packets of class contact",
        ]
    );
    let told = succeed(Command::new("tcpdump").args(["-nr", name]))?;
    assert!(
        told.contains("198.51.100.9.40000 > 198.51.100.1.8123: UDP, length 1000"),
        "{told}"
    );
    // What was seen can be judged again.
    let replayed = daemon.palisade(&[
        "replay",
        name,
        "--policy",
        &daemon.policy().display().to_string(),
    ])?;
    assert_eq!(replayed["verdicts"]["drop"], 2, "{replayed:#}");
    Ok(())
}

#[test]
fn a_capture_can_be_read_from_a_pipe_while_it_grows() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["tshark"])?;
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, SHOP)?;
    let mut watch = command(&daemon, &["--port", "8123", "--count", "1", "--write", "-"])?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(watch.stderr.take().context("a pipe")?);
    said.read_line(&mut String::new())?;
    let tshark = Command::new("tshark")
        .args(["-r", "-", "-T", "fields", "-e", "frame.comment"])
        .stdin(watch.stdout.take().context("a pipe")?)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    send(&world, LISTED[1], INSIDE[1], 10)?;
    let told = tshark.wait_with_output()?;
    watch.wait()?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.starts_with("drop rule hostile;"), "{told}");
    Ok(())
}

#[test]
fn each_line_is_a_document_and_a_closed_pipe_ends_it_quietly() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, SHOP)?;
    let mut watch = command(&daemon, &["--json", "--rule", "hostile"])?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdout = BufReader::new(watch.stdout.take().context("a pipe")?);
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        // The pipe is closed behind the first line.
        let _ = stdout.read_line(&mut line);
        drop(stdout);
        let _ = sender.send(line);
    });
    // Nothing tells a program without a terminal that it has begun: until it has, nothing is told.
    let mut first = None;
    wait_until("the first line", PATIENCE, || {
        send(&world, LISTED[0], INSIDE[0], 10)?;
        first = first
            .take()
            .or_else(|| lines.recv_timeout(Duration::from_millis(100)).ok());
        Ok(first.is_some())
    })?;
    let line: Value = serde_json::from_str(&first.context("a line")?)?;
    assert_eq!(line["type"], "packet", "{line}");
    assert_eq!(line["rule"], "hostile", "{line}");
    assert_eq!(line["source"], LISTED[0].to_string(), "{line}");
    assert!(line.get("frame").is_none(), "{line}");
    wait_until("its end", PATIENCE, || {
        send(&world, LISTED[0], INSIDE[0], 10)?;
        Ok(watch.try_wait()?.is_some())
    })?;
    let mut said = String::new();
    watch
        .stderr
        .take()
        .context("a pipe")?
        .read_to_string(&mut said)?;
    assert_eq!(said, "");
    Ok(())
}

#[test]
fn who_hangs_up_makes_room_for_the_next() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, SHOP)?;
    let open = || -> Result<(UnixStream, bool)> {
        let mut socket = UnixStream::connect(daemon.socket())?;
        write!(socket, "GET /v1/watch HTTP/1.1\r\nHost: palisade\r\n\r\n")?;
        let mut head = [0; 12];
        socket.read_exact(&mut head)?;
        Ok((socket, head.ends_with(b"200")))
    };
    let mut all = Vec::new();
    for _ in 0..16 {
        let (socket, taken) = open()?;
        assert!(taken);
        all.push(socket);
    }
    assert!(!open()?.1, "the seventeenth");
    drop(all);
    wait_until("room", PATIENCE, || Ok(open()?.1))?;
    Ok(())
}

#[test]
fn a_viewer_may_watch_but_only_an_operator_looks_into_packets() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::prepare(
        &world.inside,
        SHOP,
        palisade_tests::topology::EDGE,
        palisade_tests::daemon::Mode::Auto,
    )?;
    daemon.write_settings(
        &format!("interfaces = [\"{}\"]", palisade_tests::topology::EDGE),
        "\n[roles]\nviewer = [\"nobody\"]\n",
    )?;
    fs::set_permissions(daemon.folder(), Permissions::from_mode(0o755))?;
    daemon.launch()?;
    let status = |path: &str| -> Result<String> {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.args([
            "curl",
            "--silent",
            "--max-time",
            "3",
            "--output",
            "/dev/null",
        ]);
        command.args(["--write-out", "%{http_code}", "--unix-socket"]);
        command
            .arg(daemon.socket())
            .arg(format!("http://palisade{path}"));
        Ok(palisade_tests::process::finish(&mut command)?.stdout)
    };
    assert_eq!(status("/v1/watch")?, "200");
    assert_eq!(status("/v1/watch/frames")?, "403");
    let records = daemon.palisade(&["audit"])?;
    let records = records["records"].as_array().context("no records")?.clone();
    assert!(
        records
            .iter()
            .any(|record| record["action"] == "watch.frames" && record["who"]["uid"] == 65_534),
        "{records:#?}"
    );
    Ok(())
}
