//! SYN cookies: who is there gets in, whoever else knocks; and the host is left as it was found.

mod flood;
mod under_flood;
mod visitors;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use palisade_tests::daemon::Mode;
use palisade_tests::policies::SHOP;
use palisade_tests::process::wait_until;
use palisade_tests::topology::{EDGE, INSIDE, WIRE};
use palisade_tests::xdp::Passing;
use palisade_tests::{
    Daemon, Namespace, Topology, need_tools, servers, skip_unless_root, skipped, stretched,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(20);
const SHOP_PORT: u16 = 80;

/// A daemon whose alerts are over seconds after their cause, and cookies with them.
fn guarded(world: &Topology, policy: &str, mode: Mode, respond: &str) -> Result<Daemon> {
    let mut daemon = Daemon::prepare(&world.inside, policy, EDGE, mode)?;
    daemon.write_settings(
        &format!(
            "interfaces = [{{ name = \"{EDGE}\", mode = \"{}\" }}]",
            mode.name()
        ),
        &format!("[detect]\nquiet = \"2s\"\n\n[respond]\nsyn_cookies_hold = \"2s\"\n{respond}\n"),
    )?;
    daemon.launch()?;
    Ok(daemon)
}

/// Whether this kernel can send cookies; the test is skipped where it cannot.
fn available(daemon: &Daemon) -> Result<bool> {
    let report = cookies(daemon)?;
    if let Some(why) = report["unavailable"].as_str() {
        skipped(why);
        return Ok(false);
    }
    Ok(true)
}

fn cookies(daemon: &Daemon) -> Result<Value> {
    daemon.palisade(&["cookies"])
}

fn count(daemon: &Daemon, what: &str) -> Result<u64> {
    let report = cookies(daemon)?;
    let count = report[what].as_u64();
    count.with_context(|| format!("{what} in {report}"))
}

fn sysctl(world: &Topology, name: &str) -> Result<String> {
    let value = world.inside.run(&format!("sysctl -n net.ipv4.{name}"))?;
    Ok(value.trim().to_owned())
}

/// What has to be set for cookies.
fn stack(world: &Topology) -> Result<[String; 2]> {
    Ok([
        sysctl(world, "tcp_syncookies")?,
        sysctl(world, "tcp_timestamps")?,
    ])
}

/// Sends a megabyte through the echo and takes it back.
fn exchange(namespace: &Namespace, to: SocketAddr) -> Result<()> {
    namespace.inside(move || {
        let mut stream = TcpStream::connect_timeout(&to, stretched(PATIENCE))?;
        stream.set_read_timeout(Some(stretched(SOON)))?;
        let sent: Vec<u8> = (0..1_u32 << 20).map(|at| (at * 7 / 5) as u8).collect();
        let mut writer = stream.try_clone()?;
        let out = sent.clone();
        let writing = std::thread::spawn(move || writer.write_all(&out));
        let mut back = vec![0; sent.len()];
        stream.read_exact(&mut back)?;
        writing
            .join()
            .map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        ensure!(back == sent, "other bytes came back");
        Ok(())
    })
}

/// Exchanges data until a cookie has opened the connection: about one SYN a second goes to the stack,
/// which shows how to answer.
fn exchange_by_cookie(world: &Topology, daemon: &Daemon, to: SocketAddr) -> Result<()> {
    let accepted = count(daemon, "accepted")?;
    wait_until("a connection by a cookie", SOON, || {
        exchange(&world.outside, to)?;
        Ok(count(daemon, "accepted")? > accepted)
    })?;
    Ok(())
}

#[test]
fn clients_connect_through_cookies_with_all_that_tcp_offers_and_the_host_is_set_back() -> Result<()>
{
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["ss", "sysctl"])?;
    for mode in [Mode::Native, Mode::Generic] {
        let world = Topology::untagged()?;
        let _peer = Passing::on(&world.outside, WIRE)?;
        let _echo = servers::tcp_echo(&world.inside, SHOP_PORT)?;
        let daemon = guarded(&world, SHOP, mode, "")?;
        if !available(&daemon)? {
            return Ok(());
        }
        assert_eq!(stack(&world)?, ["1", "1"]);
        daemon.palisade(&["cookies", "on", "shop"])?;
        assert_eq!(stack(&world)?, ["2", "2"]);
        for to in INSIDE {
            let to = SocketAddr::new(to, SHOP_PORT);
            exchange_by_cookie(&world, &daemon, to).with_context(|| format!("{mode:?} {to}"))?;
            let held = world.outside.inside(move || Ok(TcpStream::connect(to)?))?;
            let sockets = world.inside.run("ss -Htnio state established")?;
            for feature in [" ts ", " sack ", " wscale:"] {
                ensure!(
                    sockets.contains(feature),
                    "{mode:?} {to}: no{feature}in {sockets}"
                );
            }
            drop(held);
        }
        assert_eq!(count(&daemon, "rejected")?, 0);
        ensure!(count(&daemon, "bytes_sent")? <= count(&daemon, "bytes_received")?);
        daemon.palisade(&["cookies", "auto"])?;
        wait_until("the stack is set back", SOON, || {
            Ok(stack(&world)? == ["1", "1"])
        })?;
        let sent = count(&daemon, "sent")?;
        for to in INSIDE {
            exchange(&world.outside, SocketAddr::new(to, SHOP_PORT))?;
        }
        assert_eq!(count(&daemon, "sent")?, sent);
    }
    Ok(())
}

#[test]
fn cookies_keep_the_tag_of_the_frames_that_they_answer() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["sysctl"])?;
    let world = Topology::tagged(42)?;
    let (peer, end) = world.far_end();
    let _peer = Passing::on(peer, end)?;
    let _echo = servers::tcp_echo(&world.inside, SHOP_PORT)?;
    let daemon = guarded(&world, SHOP, Mode::Native, "")?;
    if !available(&daemon)? {
        return Ok(());
    }
    daemon.palisade(&["cookies", "on"])?;
    for to in INSIDE {
        let to = SocketAddr::new(to, SHOP_PORT);
        exchange_by_cookie(&world, &daemon, to).with_context(|| to.to_string())?;
    }
    Ok(())
}

#[test]
fn a_rule_for_openings_alone_admits_whole_connections_that_a_cookie_opened() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["sysctl"])?;
    let world = Topology::untagged()?;
    let _peer = Passing::on(&world.outside, WIRE)?;
    let _echo = servers::tcp_echo(&world.inside, SHOP_PORT)?;
    let policy = format!("{SHOP}tcp_flags = \"syn,!ack\"\n");
    let daemon = guarded(&world, &policy, Mode::Native, "")?;
    if !available(&daemon)? {
        return Ok(());
    }
    daemon.palisade(&["cookies", "on", "shop"])?;
    for to in INSIDE {
        let to = SocketAddr::new(to, SHOP_PORT);
        exchange_by_cookie(&world, &daemon, to).with_context(|| to.to_string())?;
    }
    Ok(())
}

#[test]
fn a_killed_daemon_leaves_cookies_at_work_and_the_next_one_sets_the_stack_back() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["sysctl"])?;
    let world = Topology::untagged()?;
    let _peer = Passing::on(&world.outside, WIRE)?;
    let _echo = servers::tcp_echo(&world.inside, SHOP_PORT)?;
    let mut daemon = guarded(&world, SHOP, Mode::Native, "")?;
    if !available(&daemon)? {
        return Ok(());
    }
    daemon.palisade(&["cookies", "on", "shop"])?;
    let to = SocketAddr::new(INSIDE[0], SHOP_PORT);
    exchange_by_cookie(&world, &daemon, to)?;
    daemon.kill()?;
    assert_eq!(stack(&world)?, ["2", "2"]);
    for _ in 0..10 {
        exchange(&world.outside, to)?;
    }
    daemon.launch()?;
    let report = cookies(&daemon)?;
    assert_eq!(report["armed"][0]["why"], "ordered", "{report}");
    exchange_by_cookie(&world, &daemon, to)?;
    // Also where the order is gone with its file, and only the kernel knows.
    daemon.palisade(&["cookies", "auto", "shop"])?;
    wait_until("the stack is set back", SOON, || {
        Ok(stack(&world)? == ["1", "1"])
    })?;
    Ok(())
}

#[test]
fn an_order_for_what_lets_no_tcp_in_names_what_does() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = guarded(&world, SHOP, Mode::Auto, "")?;
    if !available(&daemon)? {
        return Ok(());
    }
    let refused = daemon.try_palisade(&["cookies", "on", "hostile"])?;
    assert_eq!(refused.code(), 1, "{refused}");
    ensure!(refused.stderr.contains("there are: shop"), "{refused}");
    drop(daemon);
    let daemon = guarded(&world, SHOP, Mode::Auto, "syn_cookies = \"off\"")?;
    let refused = daemon.try_palisade(&["cookies", "on"])?;
    assert_eq!(refused.code(), 1, "{refused}");
    ensure!(refused.stderr.contains("syn_cookies"), "{refused}");
    let status = daemon.try_palisade(&["status"])?;
    ensure!(
        status.stdout.contains("SYN cookies: switched off"),
        "{status}"
    );
    Ok(())
}
