//! The habits of visitors. Times to think are shorter than people's, so that a few seconds show
//! something.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::forge::Dice;
use super::super::host::PAGES;
use super::super::stage::{HOST_V4, HOST_V6, MIRROR, RESOLVER};
use super::{Visit, dns, http};

const NAMES: [&str; 6] = [
    "www.example.com",
    "shop.example.com",
    "images.example.com",
    "mail.example.com",
    "api.example.com",
    "static.example.com",
];

/// Loads a page with all that belongs to it over two connections, looks at it, goes on.
pub fn browse(visit: &Visit) -> Result<()> {
    visit.think(millis(visit.number * 150));
    while !visit.is_over() {
        let mut page = open(visit);
        fetch(visit, &mut page, "index.html");
        let mut second = open(visit);
        for (index, (name, _)) in PAGES[1..6].iter().enumerate() {
            let connection = if index % 2 == 0 {
                &mut page
            } else {
                &mut second
            };
            fetch(visit, connection, name);
        }
        visit.think(millis(700 + visit.number * 130 % 1_900));
    }
    Ok(())
}

/// One of many behind one address: a page and two images, then nothing for long.
pub fn glance(visit: &Visit) -> Result<()> {
    // The five hundred come one after the other.
    visit.think(millis(visit.number * 7_919 % 8_000));
    while !visit.is_over() {
        let mut connection = open(visit);
        for name in ["index.html", "one.jpg", "two.jpg"] {
            fetch(visit, &mut connection, name);
        }
        drop(connection);
        visit.think(millis(7_000 + visit.number * 271 % 3_000));
    }
    Ok(())
}

/// Page after page, with a short break between them.
pub fn crawl(visit: &Visit) -> Result<()> {
    while !visit.is_over() {
        for (name, _) in PAGES {
            let mut connection = open(visit);
            fetch(visit, &mut connection, name);
            visit.think(millis(120));
        }
    }
    Ok(())
}

pub fn download(visit: &Visit) -> Result<()> {
    while !visit.is_over() {
        let mut connection = open(visit);
        // The server paces it to 2 MB/s: reading it takes most of the time there is.
        fetch_part(visit, &mut connection, "image.iso");
    }
    Ok(())
}

/// A piece of a film each second.
pub fn watch(visit: &Visit) -> Result<()> {
    let mut connection = open(visit);
    while !visit.is_over() {
        let begun = Instant::now();
        if !fetch(visit, &mut connection, "chunk.ts") {
            connection = open(visit);
        }
        visit.think(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    Ok(())
}

pub fn resolve(visit: &Visit) -> Result<()> {
    ask(visit, HOST_V4, millis(60))
}

pub fn resolve_abroad(visit: &Visit) -> Result<()> {
    ask(visit, RESOLVER, millis(500))
}

/// What a monitoring system does each second: a page, two ports, and an echo.
pub fn probe(visit: &Visit) -> Result<()> {
    while !visit.is_over() {
        let mut connection = open(visit);
        fetch(visit, &mut connection, "health");
        for port in [22, 21] {
            visit.note(http::open(visit.from, SocketAddr::new(HOST_V4, port)).is_ok());
        }
        let echo = Command::new("ping")
            .args(["-n", "-q", "-c", "1", "-W", "1", "-I"])
            .args([visit.from.to_string(), HOST_V4.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        visit.note(echo.success());
        visit.think(millis(900));
    }
    Ok(())
}

/// Packages from a mirror, as an update fetches them: each as soon as the one before is unpacked,
/// which takes its time.
pub fn update(visit: &Visit) -> Result<()> {
    let mut dice = Dice::default();
    while !visit.is_over() {
        let fetched = http::open(visit.from, SocketAddr::new(MIRROR, 8080))
            .and_then(|mut connection| http::get(&mut connection, "package"));
        visit.note(fetched.is_ok());
        visit.think(millis(300 + dice.below(2_500)));
    }
    Ok(())
}

/// Somebody at work: a word each quarter of a second, which must come back.
pub fn shell(visit: &Visit, namespace: &Path, key: &Path) -> Result<()> {
    let mut client = Command::new("nsenter")
        .arg(format!("--net={}", namespace.display()))
        .args(["--", "ssh", "-F", "none", "-o", "BatchMode=yes", "-i"])
        .arg(key)
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ])
        .args(["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5", "-b"])
        .args([
            visit.from.to_string(),
            format!("root@{HOST_V4}"),
            "cat".to_owned(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("ssh cannot be started")?;
    let mut input = client.stdin.take().context("piped")?;
    let mut output = BufReader::new(client.stdout.take().context("piped")?);
    while !visit.is_over() {
        let mut said = String::new();
        let told = input
            .write_all(b"word\n")
            .and_then(|()| output.read_line(&mut said));
        visit.note(told.is_ok() && said == "word\n");
        visit.think(millis(250));
    }
    let _ = client.kill();
    client.wait()?;
    Ok(())
}

fn ask(visit: &Visit, server: IpAddr, pause: Duration) -> Result<()> {
    let mut number = visit.number * 7;
    while !visit.is_over() {
        let name = NAMES[number as usize % NAMES.len()];
        visit.note(dns::ask(visit.from, server, number, name)?);
        number += 1;
        visit.think(pause);
    }
    Ok(())
}

/// Opens a connection to the shop in the visitor's own family.
fn open(visit: &Visit) -> Option<TcpStream> {
    let host = match visit.from {
        IpAddr::V4(_) => HOST_V4,
        IpAddr::V6(_) => HOST_V6,
    };
    http::open(visit.from, SocketAddr::new(host, 80)).ok()
}

/// Whether a path was served; a connection that was not there is one more request not served.
fn fetch(visit: &Visit, connection: &mut Option<TcpStream>, path: &str) -> bool {
    let served = connection
        .as_mut()
        .is_some_and(|stream| http::get(stream, path).is_ok());
    if !served {
        *connection = None;
    }
    // What is cut off because everybody goes home is nobody's fault.
    if !visit.is_over() {
        visit.note(served);
    }
    served
}

/// The same for a long download, each second of which counts as a request.
fn fetch_part(visit: &Visit, connection: &mut Option<TcpStream>, path: &str) {
    use std::io::Read;
    let Some(stream) = connection.as_mut() else {
        visit.note(false);
        return;
    };
    let request =
        format!("GET /{path} HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n");
    let mut sent = stream.write_all(request.as_bytes()).is_ok();
    let mut part = vec![0; 1 << 16];
    while sent && !visit.is_over() {
        let second = Instant::now();
        while second.elapsed() < Duration::from_secs(1) && !visit.is_over() {
            match stream.read(&mut part) {
                Ok(0) => return,
                Ok(_) => {}
                Err(_) => {
                    sent = false;
                    break;
                }
            }
        }
        visit.note(sent);
    }
}

fn millis(time: u64) -> Duration {
    Duration::from_millis(time)
}
