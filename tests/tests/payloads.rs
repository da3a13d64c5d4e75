//! Rules that look into payloads, on real traffic: a payload is found wherever the kernel keeps it, and the
//! packets of a connection that is known are not looked into.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::clients::udp_exchange;
use palisade_tests::daemon::Mode;
use palisade_tests::topology::{CLIENT, INSIDE};
use palisade_tests::{Daemon, Namespace, Topology, servers, skip_unless_root, stretched};

const PATIENCE: Duration = Duration::from_secs(5);

/// Byte 1,000 of what is sent below is 0xe8.
const POLICY: &str = r#"
version = 1

[[rule]]
name      = "wrong-out"
action    = "count"
direction = "outbound"
payload   = "1000:00"

[[rule]]
name      = "out"
action    = "count"
direction = "outbound"
protocol  = ["tcp", "udp"]
payload   = { offset = 1000, hex = "e8 e9 ?? eb" }

[[rule]]
name    = "wrong-in"
action  = "drop"
payload = "1000:00"

[[rule]]
name    = "in"
action  = "accept"
payload = "1000:e8e9"
"#;

/// What a stream or a datagram carries: each byte is its place's lowest.
fn bytes() -> Vec<u8> {
    (0..1_400).map(|index| index as u8).collect()
}

fn connected(from: &Namespace, to: SocketAddr) -> Result<TcpStream> {
    from.inside(move || {
        let stream = TcpStream::connect(to).with_context(|| format!("to {to}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(stretched(PATIENCE)))?;
        Ok(stream)
    })
}

fn exchange(mut stream: &TcpStream) -> Result<()> {
    stream.write_all(&bytes())?;
    let mut back = vec![0; bytes().len()];
    stream.read_exact(&mut back).context("no answer")?;
    Ok(())
}

#[test]
fn payloads_are_found_wherever_the_kernel_keeps_them() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    for mode in [Mode::Native, Mode::Generic] {
        let world = Topology::untagged()?;
        let _inner = servers::tcp_echo(&world.inside, 7000)?;
        let _outer = servers::tcp_echo(&world.outside, 7001)?;
        let _datagrams = servers::udp_echo(&world.inside, 7)?;
        // Connections from before the fence: the first packet of each is judged. What the host sends
        // over TCP lies outside of a packet's linear part.
        let mut streams = Vec::new();
        for (inside, outside) in INSIDE.into_iter().zip(CLIENT) {
            let out = connected(&world.inside, SocketAddr::new(outside, 7001))?;
            let inward = connected(&world.outside, SocketAddr::new(inside, 7000))?;
            streams.push((out, inward));
        }
        let daemon = Daemon::start_in(&world.inside, POLICY, mode)?;
        for (out, inward) in &streams {
            let before = (daemon.rule_packets("out")?, daemon.rule_packets("in")?);
            exchange(out)?;
            let sent = daemon.rule_packets("out")?;
            assert!(
                sent > before.0,
                "{mode:?}: nothing was found on the way out"
            );
            exchange(inward)?;
            let came = daemon.rule_packets("in")?;
            assert!(came > before.1, "{mode:?}: nothing was found on the way in");
            // Known by now, and not looked into any more.
            exchange(out)?;
            assert_eq!(daemon.rule_packets("out")?, sent, "{mode:?}");
        }
        for inside in INSIDE {
            let before = daemon.rule_packets("in")?;
            let echo = SocketAddr::new(inside, 7);
            assert!(
                udp_exchange(&world.outside, echo, 1_400, PATIENCE)?,
                "{mode:?}"
            );
            assert_eq!(daemon.rule_packets("in")?, before + 1, "{mode:?}");
            // Too short for the pattern: the default decides, and drops.
            let silence = Duration::from_millis(300);
            assert!(
                !udp_exchange(&world.outside, echo, 1_001, silence)?,
                "{mode:?}"
            );
        }
        assert_eq!(daemon.rule_packets("wrong-out")?, 0, "{mode:?}");
        assert_eq!(daemon.rule_packets("wrong-in")?, 0, "{mode:?}");
    }
    Ok(())
}
