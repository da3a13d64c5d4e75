//! A host whose own traffic is dropped unless a rule lets it out: names, time, updates and pings
//! work, with all that belongs to them, and nothing else does.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use palisade_tests::clients::{Connect, connect, curl, ping, udp_exchange};
use palisade_tests::daemon::metric;
use palisade_tests::topology::{CLIENT, FAR, INSIDE};
use palisade_tests::{Daemon, Topology, need_tools, servers, skip_unless_root};

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(400);

/// An edge host that serves the web and may ask for names, time and updates.
const EDGE_HOST: &str = r#"
version = 1

[defaults]
inbound  = "drop"
outbound = "drop"

[[rule]]
name     = "shop"
action   = "accept"
protocol = "tcp"
port     = 8080

[[rule]]
name      = "names"
action    = "accept"
direction = "outbound"
protocol  = ["udp", "tcp"]
port      = 53

[[rule]]
name      = "time"
action    = "accept"
direction = "outbound"
protocol  = "udp"
port      = 123

[[rule]]
name      = "updates"
action    = "accept"
direction = "outbound"
protocol  = "tcp"
port      = [80, 443]

[[rule]]
name      = "ping-v4"
action    = "accept"
direction = "outbound"
protocol  = "icmp"
icmp_type = 8

[[rule]]
name      = "ping-v6"
action    = "accept"
direction = "outbound"
protocol  = "icmpv6"
icmp_type = 128
"#;

#[test]
fn names_time_updates_and_pings_work_and_the_rest_does_not() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl", "ping"])?;
    let world = Topology::untagged()?;
    let update = "u".repeat(200_000);
    let _updates = servers::http(&world.outside, 80, &update)?;
    let _time = servers::udp_echo(&world.outside, 123)?;
    let _others = (
        servers::http(&world.outside, 8080, "elsewhere")?,
        servers::udp_echo(&world.outside, 5000)?,
    );
    let _shop = servers::http(&world.inside, 8080, "shop")?;
    let daemon = Daemon::start(&world.inside, EDGE_HOST)?;
    let [server, client] = [NAME_SERVER, NAME_CLIENT].map(|script| script.to_owned());
    let (answers, asks) = (
        daemon.folder().join("names.py"),
        daemon.folder().join("ask.py"),
    );
    std::fs::write(&answers, server)?;
    std::fs::write(&asks, client)?;
    let _names = world
        .outside
        .spawn(&format!("/usr/bin/python3 {}", answers.display()))?;
    for (from, to) in INSIDE.into_iter().zip(CLIENT) {
        let found = world
            .inside
            .run(&format!("/usr/bin/python3 {} {to}", asks.display()))?;
        assert_eq!(found.trim(), "203.0.113.80", "asked of {to}");
        assert!(udp_exchange(
            &world.inside,
            SocketAddr::new(to, 123),
            48,
            PATIENCE
        )?);
        let answer = curl(&world.inside, from, to, 80, PATIENCE)?;
        assert_eq!(answer.stdout.len(), update.len(), "{to}");
        let pings = ping(&world.inside, from, to, 5, Duration::from_millis(5))?;
        assert_eq!(pings.answered, 5, "{to}");
        // Visitors are answered.
        let answer = curl(&world.outside, to, from, 8080, PATIENCE)?;
        assert_eq!(answer.stdout, "shop", "{from}");
        // The rest stays in, and it is the fence that keeps it.
        let elsewhere = SocketAddr::new(to, 8080);
        assert_eq!(connect(&world.inside, elsewhere, SILENCE)?, Connect::Silent);
        // A local process is told that its datagram may not leave.
        let datagram = udp_exchange(&world.inside, SocketAddr::new(to, 5000), 10, SILENCE);
        assert!(!datagram.unwrap_or(false), "{to}");
        let answer = curl(&world.outside, to, to, 8080, PATIENCE)?;
        assert_eq!(answer.stdout, "elsewhere", "{to}");
    }
    Ok(())
}

#[test]
fn errors_about_the_host_s_own_packets_come_back_under_an_outbound_default_of_drop() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?.with_far(1300)?;
    let far = world.far.as_ref().expect("made above");
    let _web = servers::tcp_count(far, 80)?;
    let daemon = Daemon::start(&world.inside, EDGE_HOST)?;
    let script = daemon.folder().join("errors.py");
    std::fs::write(&script, ERRORS)?;
    for (near, far) in CLIENT.into_iter().zip(FAR) {
        // Too big: segments for an MTU of 1500 do not fit.
        let counted = world.inside.run(&format!(
            "/usr/bin/python3 {} upload {far}",
            script.display()
        ))?;
        assert_eq!(counted.trim(), "300000", "{far}");
        // Port unreachable, and time exceeded at the gateway, as traceroute has them.
        for (kind, to) in [("refused", near), ("expired", far)] {
            let told = told(&world, &script, kind, to)?;
            assert_eq!(told, kind, "{to}");
        }
    }
    Ok(())
}

fn told(world: &Topology, script: &std::path::Path, kind: &str, to: IpAddr) -> Result<String> {
    let line = format!("/usr/bin/python3 {} {kind} {to}", script.display());
    Ok(world.inside.run(&line)?.trim().to_owned())
}

#[test]
fn a_flood_of_openings_and_queries_from_forged_sources_enters_no_connection() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 8080, "shop")?;
    let _names = servers::udp_echo(&world.inside, 53)?;
    let policy = format!(
        "{EDGE_HOST}\n[[rule]]\nname = \"served-names\"\naction = \"accept\"\nprotocol = \"udp\"\nport = 53\n"
    );
    let daemon = Daemon::start(&world.inside, &policy)?;
    let script = daemon.folder().join("flood.py");
    std::fs::write(&script, FLOOD)?;
    let entries = || -> Result<f64> {
        let label = "map=\"connections\"";
        Ok(metric(&daemon.scrape()?, "palisade_map_entries", &[label]))
    };
    let before = entries()?;
    world
        .outside
        .run(&format!("/usr/bin/python3 {}", script.display()))?;
    assert!(daemon.rule_packets("shop")? >= 400);
    assert!(daemon.rule_packets("served-names")? >= 400);
    assert_eq!(entries()?, before);
    Ok(())
}

/// Answers every A question with one address (RFC 1035), on both families.
const NAME_SERVER: &str = r#"
import socket
from scapy.all import DNS, DNSRR
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 53))
while True:
    query, source = s.recvfrom(4096)
    q = DNS(query)
    s.sendto(bytes(DNS(id=q.id, qr=1, rd=1, ra=1, qd=q.qd,
        an=DNSRR(rrname=q.qd.qname, ttl=60, rdata="203.0.113.80"))), source)
"#;

const NAME_CLIENT: &str = r#"
import socket, sys, time
from scapy.all import DNS, DNSQR
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(0.5)
for _ in range(60):
    # The server may still be starting, and then refuses.
    try:
        s.connect((sys.argv[1], 53))
        s.send(bytes(DNS(rd=1, qd=DNSQR(qname="updates.example"))))
        print(DNS(s.recv(4096)).an.rdata)
        break
    except OSError:
        time.sleep(0.25)
"#;

const ERRORS: &str = r#"
import errno, socket, sys, time
kind, to = sys.argv[1:3]
v6 = ":" in to
family = socket.AF_INET6 if v6 else socket.AF_INET
if kind == "upload":
    s = socket.create_connection((to, 80), 5)
    s.sendall(b"x" * 300000)
    s.shutdown(socket.SHUT_WR)
    print(s.recv(100).decode())
    sys.exit()
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(5)
IP_RECVERR, IPV6_RECVERR = 11, 25
if v6:
    s.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
else:
    s.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
if kind == "expired":
    if v6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
    else:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
s.connect((to, 53))
try:
    s.send(b"question")
    s.recv(10)
    print("answered")
except OSError as error:
    names = {errno.ECONNREFUSED: "refused", errno.EHOSTUNREACH: "expired"}
    print(names.get(error.errno, repr(error)))
"#;

const FLOOD: &str = r#"
from scapy.all import *
conf.verb = 0
number = 0
frames = []
for number in range(500):
    port = 1024 + number
    for ip, host in ((IP, "198.51.100.1"), (IPv6, "2001:db8:51::1")):
        v6 = ip is IPv6
        source = f"2001:db8:113::{number + 9:x}" if v6 else f"203.0.113.{number % 250 + 1}"
        frames.append(ip(src=source, dst=host) / TCP(sport=port, dport=8080, flags="S"))
        frames.append(ip(src=source, dst=host) / UDP(sport=port, dport=53) / b"question")
send(frames)
"#;
