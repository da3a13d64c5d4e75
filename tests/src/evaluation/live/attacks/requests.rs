//! Attacks by requests: complete connections and true queries, only too many, or too slow.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Attack, Running};
use crate::evaluation::live::ANSWER;
use crate::evaluation::live::errand::Errand;
use crate::evaluation::live::forge::udp;
use crate::evaluation::live::stage::{ATTACKER_V4, HOST_V4, HOST_V6, Stage};
use crate::evaluation::live::visitors::http;

const FROM_ATTACKER: &str = "src host 198.51.100.201";
const FROM_ATTACKER_V6: &str = "src host 2001:db8:bad::66";
const FLOOD: &[&str] = &["request_flood"];
const SLOW: &[&str] = &["slow_clients"];

const BASE: Attack = Attack {
    name: "",
    what: "",
    kinds: FLOOD,
    also: &["traffic_spike", "new_source_surge"],
    needs: &[],
    packets: FROM_ATTACKER,
    seconds: 12,
    quick: false,
    answer: ANSWER,
    start: |_| Ok(Running::default()),
};

pub const ALL: &[Attack] = &[
    Attack {
        name: "http-flood",
        what: "wrk -t 2 -c 64 on one page, from one source",
        needs: &["wrk"],
        quick: true,
        start: |stage| wrk(stage, &format!("http://{HOST_V4}/index.html")),
        ..BASE
    },
    Attack {
        name: "http-flood-v6",
        what: "the same over IPv6",
        needs: &["wrk"],
        packets: FROM_ATTACKER_V6,
        start: |stage| wrk(stage, &format!("http://[{HOST_V6}]/index.html")),
        ..BASE
    },
    Attack {
        name: "tls-flood",
        what: "1,500 TLS ClientHellos a second from one source, each over a connection of its own",
        start: |stage| hellos(stage, 1_500),
        ..BASE
    },
    Attack {
        name: "dns-flood",
        what: "dnsperf -Q 5000 on names that are not there",
        needs: &["dnsperf"],
        start: |stage| {
            let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
            let file = folder.path().join("names");
            let names = (0..20_000).map(|number| format!("n{number}.example.com A\n"));
            fs::write(&file, names.collect::<String>())?;
            let mut running = Running::tool(
                &stage.world.outside,
                &format!(
                    "dnsperf -s {HOST_V4} -a {ATTACKER_V4} -d {} -l 10 -Q 5000",
                    file.display()
                ),
            )?;
            running._folder = Some(folder);
            Ok(running)
        },
        ..BASE
    },
    Attack {
        name: "quic-flood-spoofed",
        what: "3,000 QUIC Initials a second from forged addresses",
        also: &[
            "traffic_spike",
            "new_source_surge",
            "spoofed_source",
            "udp_flood",
        ],
        packets: "src net 203.0.113.0/24",
        start: |stage| {
            Running::forged(stage, 3_000, 30_000, |dice| {
                // A long header of version 1, an Initial, with two connection identifiers of eight bytes.
                let mut initial = vec![0xc3, 0, 0, 0, 1, 8];
                initial.extend(dice.bytes(8));
                initial.push(8);
                initial.extend(dice.bytes(8));
                initial.extend([0, 0x44, 0x9e]);
                initial.resize(1_200, 7);
                let from = (dice.stranger(HOST_V4), dice.port());
                udp(from, (HOST_V4, 443), &initial)
            })
        },
        ..BASE
    },
    Attack {
        name: "distributed-requests",
        what: "150 strangers, each four pages a second over a connection of its own",
        kinds: &["request_flood", "new_source_surge", "traffic_spike"],
        packets: "src net 203.0.113.0/24",
        start: |stage| crowd(stage, Duration::from_millis(250)),
        ..BASE
    },
    Attack {
        name: "new-sources",
        what: "150 strangers of one /24 at once, each a page every three seconds",
        kinds: &["new_source_surge"],
        also: &["traffic_spike"],
        packets: "src net 203.0.113.0/24",
        start: |stage| crowd(stage, Duration::from_secs(3)),
        ..BASE
    },
    Attack {
        name: "slowloris",
        what: "slowhttptest -H -c 400 -r 100, headers that never end",
        kinds: SLOW,
        needs: &["slowhttptest"],
        seconds: 25,
        quick: true,
        start: |stage| slow(stage, "-H -i 5"),
        ..BASE
    },
    Attack {
        name: "slow-post",
        what: "slowhttptest -B -c 400 -r 100, a body byte by byte",
        kinds: SLOW,
        needs: &["slowhttptest"],
        seconds: 25,
        start: |stage| slow(stage, "-B -i 5 -s 8192 -t POST"),
        ..BASE
    },
    Attack {
        name: "slow-read",
        what: "slowhttptest -X -c 400 -r 100, answers read through a tiny window",
        kinds: SLOW,
        needs: &["slowhttptest"],
        seconds: 25,
        start: |stage| slow(stage, "-X -n 5 -z 8 -w 8 -y 16 -k 2"),
        ..BASE
    },
];

fn wrk(stage: &Stage, page: &str) -> Result<Running> {
    Running::tool(
        &stage.world.outside,
        &format!("wrk -t 2 -c 64 -d 10s {page}"),
    )
}

/// Each alone is an ordinary visitor; there are only too many of them at once.
fn crowd(stage: &Stage, pause: Duration) -> Result<Running> {
    let strangers: Vec<IpAddr> = (100..250)
        .map(|last| IpAddr::from([203, 0, 113, last]))
        .collect();
    for &stranger in &strangers {
        stage.world.add_client(stranger)?;
    }
    let errand = Errand::start(&stage.world.outside, move |stop| {
        std::thread::scope(|scope| {
            for &stranger in &strangers {
                scope.spawn(move || {
                    while !stop.is_asked() {
                        // Whoever is kept out tries again.
                        let page = http::open(stranger, SocketAddr::new(HOST_V4, 80));
                        let _ = page.and_then(|mut page| http::get(&mut page, "index.html"));
                        let until = Instant::now() + pause;
                        while Instant::now() < until && !stop.is_asked() {
                            std::thread::sleep(pause.min(Duration::from_millis(250)));
                        }
                    }
                });
            }
        });
        Ok(())
    })?;
    Ok(Running::errand(errand))
}

/// Connections on which nothing but a ClientHello is said, by a few threads side by side.
fn hellos(stage: &Stage, rate: u32) -> Result<Running> {
    const SIDE_BY_SIDE: u32 = 8;
    let errand = Errand::start(&stage.world.outside, move |stop| {
        std::thread::scope(|scope| {
            for thread in 0..SIDE_BY_SIDE {
                scope.spawn(move || {
                    let pause = Duration::from_secs(1) * SIDE_BY_SIDE / rate;
                    let mut due = Instant::now() + pause * thread / SIDE_BY_SIDE;
                    while !stop.is_asked() {
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        due += pause;
                        // A fence that refuses it is what one hopes for.
                        let _ = hello();
                    }
                });
            }
        });
        Ok(())
    })?;
    Ok(Running::errand(errand))
}

/// One ClientHello, and the server's answer to it.
fn hello() -> std::io::Result<()> {
    let mut stream = http::open(ATTACKER_V4, SocketAddr::new(HOST_V4, 443))?;
    // TLS 1.2 with one cipher, one group and one signature (RFC 5246, 8422): what any server reads.
    let mut said = vec![0x16, 3, 1, 0, 63, 1, 0, 0, 59, 3, 3];
    said.extend([7; 32]);
    said.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 16]);
    said.extend([0, 0x0a, 0, 4, 0, 2, 0, 0x1d, 0, 0x0d, 0, 4, 0, 2, 4, 3]);
    stream.write_all(&said)?;
    stream.read_exact(&mut [0; 5])?;
    // The port is needed again sooner than an orderly end would leave it.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(())
}

fn slow(stage: &Stage, how: &str) -> Result<Running> {
    let page = match how.starts_with("-X") {
        true => "script.js",
        false => "index.html",
    };
    let line = format!("slowhttptest {how} -c 400 -r 100 -l 22 -p 3 -u http://{HOST_V4}/{page}");
    Running::tool(&stage.world.outside, &line)
}
