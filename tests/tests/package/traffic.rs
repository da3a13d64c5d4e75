//! Paced streams to an open and to a closed port, and whether every packet of them was judged.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::clients::{UdpStream, settle};
use palisade_tests::servers::UdpSink;
use palisade_tests::topology::{INSIDE, OTHER};
use palisade_tests::{Machine, Topology};

pub const OPEN: u16 = 5000;
pub const CLOSED: u16 = 5001;
pub const PACE: Duration = Duration::from_millis(2);

/// Lets the open port in. Nothing else matches a rule, so what the rules count is the streams.
pub const POLICY: &str = r#"
version = 1

[defaults]
inbound = "drop"

[[rule]]
name     = "open"
action   = "accept"
protocol = "udp"
port     = 5000

[[rule]]
name     = "closed"
action   = "drop"
protocol = "udp"
port     = 5001
"#;

/// Streams of both families to both ports.
pub struct Traffic {
    streams: Vec<(u16, UdpStream)>,
    open: UdpSink,
    closed: UdpSink,
    before: [u64; 2],
}

impl Traffic {
    /// Begins once [`POLICY`] is in force.
    pub fn start(world: &Topology, machine: &Machine) -> Result<Self> {
        let open = UdpSink::start(&world.inside, OPEN)?;
        let closed = UdpSink::start(&world.inside, CLOSED)?;
        let before = judged(machine)?;
        let mut streams = Vec::new();
        for (from, to) in OTHER.into_iter().zip(INSIDE) {
            for port in [OPEN, CLOSED] {
                let (from, to) = (SocketAddr::new(from, 0), SocketAddr::new(to, port));
                streams.push((port, UdpStream::start(&world.outside, from, to, PACE)?));
            }
        }
        Ok(Self {
            streams,
            open,
            closed,
            before,
        })
    }

    /// Ends the streams: each packet to the open port arrived, none to the closed one did, and the
    /// fence counted all of both.
    pub fn all_was_judged(self, machine: &Machine) -> Result<()> {
        let mut sent = [0; 2];
        for (port, stream) in self.streams {
            sent[usize::from(port == CLOSED)] += stream.stop()?;
        }
        let arrived = settle(|| self.open.total())?;
        let now = judged(machine)?;
        let counted = [now[0] - self.before[0], now[1] - self.before[1]];
        assert!(
            sent.iter().all(|&sent| sent > 500),
            "too little was sent: {sent:?}"
        );
        assert_eq!(self.closed.total(), 0, "of {} to the closed port", sent[1]);
        assert_eq!(arrived, sent[0], "to the open port");
        assert_eq!(
            counted, sent,
            "judged and sent, to the open and the closed port"
        );
        Ok(())
    }
}

/// Packets that the rules of the open and of the closed port have counted.
fn judged(machine: &Machine) -> Result<[u64; 2]> {
    let rules = machine.palisade("rule list")?;
    let packets = |name: &str| {
        let rule = rules["rules"]
            .as_array()?
            .iter()
            .find(|rule| rule["name"] == name);
        rule?["packets"].as_u64()
    };
    let of = |name: &str| packets(name).with_context(|| format!("no packets of {name}: {rules:#}"));
    Ok([of("open")?, of("closed")?])
}
