//! Guessing passwords with hydra, and by many addresses of one network.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Attack, Running};
use crate::evaluation::live::ANSWER;
use crate::evaluation::live::errand::Errand;
use crate::evaluation::live::stage::{HOST_V4, HOST_V6, Stage};
use crate::evaluation::live::visitors::http;

const BASE: Attack = Attack {
    name: "",
    what: "",
    kinds: &["brute_force"],
    also: &[],
    needs: &["hydra"],
    packets: "src host 198.51.100.201",
    seconds: 25,
    quick: false,
    answer: ANSWER,
    start: |_| Ok(Running::default()),
};

pub const ALL: &[Attack] = &[
    Attack {
        name: "ssh-logins",
        what: "hydra -t 16 ssh, its default; sshd lets a connection try six passwords, one each 2 s",
        start: |stage| hydra(stage, "-t 16", &format!("ssh://{HOST_V4}")),
        ..BASE
    },
    Attack {
        name: "ftp-logins",
        what: "hydra -t 16 ftp",
        quick: true,
        start: |stage| hydra(stage, "-t 16", &format!("ftp://{HOST_V4}")),
        ..BASE
    },
    Attack {
        name: "http-logins",
        what: "hydra -t 16 http-get /private/, one request to a connection",
        // A password check is a request, and hydra makes hundreds a second.
        also: &["request_flood"],
        start: |stage| hydra(stage, "-t 16", &format!("http-get://{HOST_V4}/private/")),
        ..BASE
    },
    Attack {
        name: "ssh-logins-v6",
        what: "hydra -6 -t 16 ssh",
        packets: "src host 2001:db8:bad::66",
        start: |stage| hydra(stage, "-6 -t 16", &format!("ssh://[{HOST_V6}]")),
        ..BASE
    },
    Attack {
        name: "ftp-logins-prefix",
        what: "20 addresses of one /24, each a wrong password every two seconds",
        // None of them was ever there before.
        also: &["new_source_surge"],
        needs: &[],
        packets: "src net 203.0.113.0/24",
        start: together,
        ..BASE
    },
];

/// A prefix of which no address tries often.
fn together(stage: &Stage) -> Result<Running> {
    let addresses: Vec<IpAddr> = (100..120)
        .map(|last| IpAddr::from([203, 0, 113, last]))
        .collect();
    for &address in &addresses {
        stage.world.add_client(address)?;
    }
    let errand = Errand::start(&stage.world.outside, move |stop| {
        std::thread::scope(|scope| {
            for (number, &address) in (0..).zip(&addresses) {
                scope.spawn(move || {
                    let mut due = Instant::now() + Duration::from_millis(number * 97);
                    while !stop.is_asked() {
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        due += Duration::from_secs(2);
                        // A fence that refuses it is what one hopes for.
                        let _ = log_in(address);
                    }
                });
            }
        });
        Ok(())
    })?;
    Ok(Running::errand(errand))
}

/// A name, a password, and a refusal.
fn log_in(from: IpAddr) -> std::io::Result<()> {
    let mut stream = http::open(from, SocketAddr::new(HOST_V4, 21))?;
    let mut answer = [0; 512];
    for line in ["", "USER admin\r\n", "PASS secret\r\n", "QUIT\r\n"] {
        stream.write_all(line.as_bytes())?;
        if stream.read(&mut answer)? == 0 {
            break;
        }
    }
    Ok(())
}

fn hydra(stage: &Stage, options: &str, target: &str) -> Result<Running> {
    let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
    let file = folder.path().join("passwords");
    let passwords = (0..20_000).map(|number| format!("password{number}\n"));
    fs::write(&file, passwords.collect::<String>())?;
    let mut command = stage.world.outside.household("hydra");
    command
        .args(["-I", "-l", "admin", "-P"])
        .arg(&file)
        .args(options.split(' '))
        .arg(target)
        // It keeps its state where it is started.
        .current_dir(folder.path());
    let mut running = Running::command(command)?;
    running._folder = Some(folder);
    Ok(running)
}
