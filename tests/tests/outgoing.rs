//! A host behind `inbound = "drop"` can still do its own business: what answers its own packets
//! comes in, and nothing that only pretends to.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use palisade_tests::clients::{Connect, connect, curl, ping, udp_exchange};
use palisade_tests::policies::CLOSED;
use palisade_tests::topology::{CLIENT, FAR, INSIDE};
use palisade_tests::{
    Daemon, Namespace, Topology, need_tools, servers, skip_unless_root, stretched,
};

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn connections_queries_and_pings_of_the_host_itself_are_answered() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl", "ping", "ethtool"])?;
    for world in [Topology::untagged()?, Topology::tagged(7)?] {
        let _web = servers::http(&world.outside, 80, "elsewhere")?;
        let _echo = servers::udp_echo(&world.outside, 53)?;
        let _own = servers::udp_echo(&world.inside, 53)?;
        let _daemon = Daemon::start(&world.inside, CLOSED)?;
        for (from, to) in INSIDE.into_iter().zip(CLIENT) {
            let answer = curl(&world.inside, from, to, 80, PATIENCE)?;
            assert_eq!(answer.stdout, "elsewhere", "{to}: {answer}");
            let query = SocketAddr::new(to, 53);
            assert!(udp_exchange(&world.inside, query, 500, PATIENCE)?, "{to}");
            let pings = ping(&world.inside, from, to, 10, Duration::from_millis(5))?;
            assert_eq!((pings.sent, pings.answered), (10, 10), "{to}");
            // The way out is not a way in.
            let inward = SocketAddr::new(from, 53);
            assert!(!udp_exchange(&world.outside, inward, 500, SILENCE)?, "{to}");
            let pings = ping(&world.outside, to, from, 3, Duration::from_millis(5))?;
            assert_eq!(pings.answered, 0, "{from}");
        }
    }
    Ok(())
}

#[test]
fn a_refusal_of_the_host_s_own_connection_or_query_comes_back() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _daemon = Daemon::start(&world.inside, CLOSED)?;
    for to in CLIENT {
        let reset = connect(&world.inside, SocketAddr::new(to, 9), PATIENCE)?;
        assert_eq!(reset, Connect::Refused, "{to}");
        // For UDP the refusal is an ICMP error that quotes the query.
        let error = udp_exchange(&world.inside, SocketAddr::new(to, 9), 10, PATIENCE)
            .expect_err("nobody listens there");
        assert!(format!("{error:#}").contains("refused"), "{to}: {error:#}");
    }
    Ok(())
}

#[test]
fn path_mtu_discovery_works_for_the_host_s_own_connections() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?.with_far(1300)?;
    let far = world.far.as_ref().expect("made above");
    let _count = servers::tcp_count(far, 9000)?;
    let _daemon = Daemon::start(&world.inside, CLOSED)?;
    for to in FAR {
        // Segments for an MTU of 1500 do not fit: without the ICMP error nothing would arrive.
        let counted = upload(&world.inside, SocketAddr::new(to, 9000), 300_000)?;
        assert_eq!(counted, "300000", "{to}");
        let route = world.inside.run(&format!("ip route get {to}"))?;
        assert!(route.contains("mtu 1300"), "{route}");
    }
    Ok(())
}

fn upload(from: &Namespace, to: SocketAddr, bytes: usize) -> Result<String> {
    from.inside(move || {
        let mut stream = TcpStream::connect_timeout(&to, stretched(PATIENCE))?;
        stream.set_read_timeout(Some(stretched(PATIENCE)))?;
        stream.set_write_timeout(Some(stretched(PATIENCE)))?;
        stream.write_all(&vec![b'x'; bytes])?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

#[test]
fn a_rule_counts_what_leaves_by_it_as_packets_on_the_wire() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl"])?;
    const BYTES: usize = 3_000_000;
    let world = Topology::untagged()?;
    let _count = servers::tcp_count(&world.outside, 9000)?;
    let policy = format!(
        "{CLOSED}\n[[rule]]\nname = \"out\"\naction = \"accept\"\nprotocol = \"tcp\"\n\
         port = 9000\ndirection = \"outbound\"\n"
    );
    let daemon = Daemon::start(&world.inside, &policy)?;
    for to in CLIENT {
        let before = daemon.rule_packets("out")?;
        let counted = upload(&world.inside, SocketAddr::new(to, 9000), BYTES)?;
        assert_eq!(counted, BYTES.to_string(), "{to}");
        // The stack hands over up to 64 KiB at a time; a frame holds less than 1,500 bytes of it.
        let packets = daemon.rule_packets("out")? - before;
        assert!(packets >= BYTES as u64 / 1500, "{packets} packets to {to}");
    }
    Ok(())
}

#[test]
fn connections_older_than_the_fence_go_on_both_ways() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _inner = servers::tcp_echo(&world.inside, 7000)?;
    let _outer = servers::tcp_echo(&world.outside, 7000)?;
    let mut connections = Vec::new();
    for (here, there) in INSIDE.into_iter().zip(CLIENT) {
        connections.push(Conversation::open(&world.outside, here)?);
        connections.push(Conversation::open(&world.inside, there)?);
    }
    for conversation in &mut connections {
        conversation.turn()?;
    }
    let _daemon = Daemon::start(&world.inside, CLOSED)?;
    for conversation in &mut connections {
        conversation.turn()?;
        conversation.turn()?;
    }
    for to in INSIDE.map(|to| SocketAddr::new(to, 7000)) {
        assert_eq!(connect(&world.outside, to, SILENCE)?, Connect::Silent);
    }
    Ok(())
}

/// A connection to an echo server on which both ends speak in turn.
struct Conversation {
    stream: TcpStream,
    turns: u8,
}

impl Conversation {
    fn open(from: &Namespace, to: IpAddr) -> Result<Self> {
        let stream = from.inside(move || {
            Ok(TcpStream::connect_timeout(
                &SocketAddr::new(to, 7000),
                stretched(PATIENCE),
            )?)
        })?;
        stream.set_read_timeout(Some(stretched(PATIENCE)))?;
        Ok(Self { stream, turns: 0 })
    }

    fn turn(&mut self) -> Result<()> {
        self.turns += 1;
        let said = [self.turns; 64];
        self.stream.write_all(&said)?;
        let mut heard = [0; 64];
        self.stream.read_exact(&mut heard)?;
        assert_eq!(heard, said);
        Ok(())
    }
}
