//! The acts: what the outside does, and what must come of it.

use std::{
    net::{IpAddr, SocketAddr},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Result;
use palisade_tests::{
    Background,
    clients::{Connect, Pinging, connect, curl, ping, udp_exchange},
    process::{finish, wait_until},
    topology::{CLIENT, INSIDE, INSIDE_V4, LISTED, OTHER, WIRE},
};

use super::{
    checks::Checks,
    interrupt,
    screen::Screen,
    stage::{SCANNER, Stage},
};

type Act = fn(&mut Stage, &Screen, &mut Checks) -> Result<()>;

/// In the order of the show.
pub const ALL: &[Act] = &[
    visitors,
    blocked,
    own_business,
    ban_by_hand,
    crash,
    flood,
    scan,
];

const PATIENCE: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_millis(500);
/// How long the daemon may take to say what happened: a few of its ticks.
const ALERT: Duration = Duration::from_secs(8);

fn visitors(stage: &mut Stage, screen: &Screen, checks: &mut Checks) -> Result<()> {
    screen.heading("Ordinary visitors");
    let (served, asked) = visit(stage, 10)?;
    screen.step(&format!(
        "curl over IPv4 and IPv6 from two addresses each: {served} of {asked} pages served"
    ));
    checks.note(
        served == asked,
        format!("visitors are served over IPv4 and IPv6: {served} of {asked}"),
    );
    Ok(())
}

/// Visits of both families from two addresses each; how many were served, of how many.
fn visit(stage: &Stage, rounds: u32) -> Result<(u32, u32)> {
    let (mut served, mut asked) = (0, 0);
    for _ in 0..rounds {
        interrupt::check()?;
        for visitors in [CLIENT, OTHER] {
            for (from, to) in visitors.into_iter().zip(INSIDE) {
                let answer = curl(&stage.world.outside, from, to, 80, PATIENCE)?;
                asked += 1;
                served += u32::from(answer.stdout.contains("welcome"));
            }
        }
    }
    Ok((served, asked))
}

fn blocked(stage: &mut Stage, screen: &Screen, checks: &mut Checks) -> Result<()> {
    screen.heading("What is not let in");
    let mut answers = 0;
    for (from, to) in LISTED.into_iter().zip(INSIDE) {
        let answer = curl(&stage.world.outside, from, to, 80, SILENCE)?;
        answers += u32::from(answer.success());
        screen.step(&format!(
            "{from}, in the set `hostile`, asks for a page: {}",
            outcome(answer.success())
        ));
    }
    checks.note(
        answers == 0,
        "a blocked address gets no answer, IPv4 and IPv6",
    );
    let mut found = 0;
    for to in INSIDE {
        let attempt = connect(&stage.world.outside, SocketAddr::new(to, 8080), SILENCE)?;
        found += u32::from(attempt != Connect::Silent);
        screen.step(&format!(
            "a visitor tries {}: {}",
            SocketAddr::new(to, 8080),
            outcome(attempt != Connect::Silent)
        ));
    }
    checks.note(
        found == 0,
        "a service without a rule does not answer: the back office stays hidden",
    );
    Ok(())
}

fn outcome(answered: bool) -> &'static str {
    if answered { "an ANSWER" } else { "silence" }
}

fn own_business(stage: &mut Stage, screen: &Screen, checks: &mut Checks) -> Result<()> {
    screen.heading("The shop's own business");
    let inside = &stage.world.inside;
    let mut done = 0;
    for (from, to) in INSIDE.into_iter().zip(CLIENT) {
        let answer = curl(inside, from, to, 80, PATIENCE)?;
        let query = udp_exchange(inside, SocketAddr::new(to, 53), 100, PATIENCE)?;
        let pings = ping(inside, from, to, 5, Duration::from_millis(10))?;
        done += u32::from(answer.stdout == "a supplier")
            + u32::from(query)
            + u32::from(pings.answered == 5);
    }
    screen.step(&format!(
        "its own TCP connections, UDP queries and pings out and back under inbound = \"drop\": {done} of 6 worked"
    ));
    checks.note(done == 6, "replies to the host's own connections come in");
    Ok(())
}

fn ban_by_hand(stage: &mut Stage, screen: &Screen, checks: &mut Checks) -> Result<()> {
    screen.heading("A ban by hand");
    let outside = &stage.world.outside;
    let answered = || -> Result<u64> {
        let pings = ping(outside, OTHER[0], INSIDE[0], 10, Duration::from_millis(10))?;
        Ok(pings.answered)
    };
    let address = OTHER[0].to_string();
    stage.daemon.palisade(&[
        "ban",
        &address,
        "--for",
        "2s",
        "--reason",
        "shown in the sandbox",
    ])?;
    let banned = Instant::now();
    let during = answered()?;
    screen.step(&format!(
        "`palisade ban {address} --for 2s`: {during} of 10 pings answered"
    ));
    wait_until("the ban ends", Duration::from_secs(6), || {
        interrupt::check()?;
        Ok(answered()? == 10)
    })?;
    let lasted = banned.elapsed().as_secs_f64();
    screen.step(&format!(
        "all are answered again {lasted:.1} s after it, without anybody lifting it"
    ));
    checks.note(
        during == 0 && (1.8..4.0).contains(&lasted),
        format!("a ban works at once and ends by itself (2 s asked, over after {lasted:.1} s)"),
    );
    Ok(())
}

fn flood(stage: &mut Stage, screen: &Screen, checks: &mut Checks) -> Result<()> {
    screen.heading("A SYN flood with forged sources");
    // Each source alone is harmless: what is out of the ordinary is all of them together.
    const SOURCES: u32 = 50;
    const EACH: u32 = 400;
    let before = stage.inbound("drop")?;
    let started = Instant::now();
    let mut floods = Vec::new();
    for source in 0..SOURCES {
        floods.push(Background::spawn(
            stage
                .world
                .outside
                .command("hping3")
                .args(["-q", "-n", "-S", "-p", "443", "-i", "u8000", "-I", WIRE])
                .args(["-c", &EACH.to_string()])
                .args(["-a", &format!("203.0.113.{}", 100 + source)])
                .arg(INSIDE_V4.to_string())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?);
    }
    screen.step(&format!(
        "{SOURCES} x hping3, {EACH} SYNs each, sources 203.0.113.{}-{}; visitors go on meanwhile",
        100,
        100 + SOURCES - 1
    ));
    let (served, asked) = visit(stage, 5)?;
    for mut flood in floods {
        // hping3 ends with failure because nobody answers; what counts is that it ended.
        flood.wait(Duration::from_secs(30))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let sent = u64::from(SOURCES * EACH);
    let dropped = stage.inbound("drop")? - before;
    screen.step(&format!(
        "{dropped} packets dropped in {seconds:.1} s; {served} of {asked} pages served during the flood"
    ));
    checks.note(
        dropped >= sent,
        format!("every packet of the flood is dropped and counted: {dropped} of {sent} sent"),
    );
    checks.note(
        served == asked,
        format!("visitors are served during the flood: {served} of {asked}"),
    );
    let alert = alerted(stage, "syn_flood", None)?;
    checks.note(alert.is_some(), "the flood raises the alert syn_flood");
    screen.step(&alert.unwrap_or_else(|| "NO alert".to_owned()));
    Ok(())
}

fn scan(stage: &mut Stage, screen: &Screen, checks: &mut Checks) -> Result<()> {
    screen.heading("A port scan");
    screen.step(&format!(
        "nmap -sS from {SCANNER}: 100 ports of {INSIDE_V4}"
    ));
    let report = finish(
        stage
            .world
            .outside
            .command("nmap")
            .args(["-n", "-Pn", "-sS", "-F", "-e", WIRE])
            .args(["--min-rate", "200", "--max-retries", "0"])
            .args(["-S", &SCANNER.to_string()])
            .arg(INSIDE_V4.to_string()),
    )?;
    let open: Vec<&str> = report
        .stdout
        .lines()
        .filter(|line| line.contains("/tcp") && line.contains(" open"))
        .collect();
    let closed = report.stdout.contains("closed");
    screen.step(&format!(
        "nmap found open: {}",
        if open.is_empty() {
            "nothing".to_owned()
        } else {
            open.join(", ")
        }
    ));
    checks.note(
        report.success() && !closed && open.iter().all(|line| line.starts_with("80/tcp")),
        "nmap sees at most the shop's port; every other port is filtered",
    );
    let alert = alerted(stage, "port_scan", Some(SCANNER))?;
    checks.note(
        alert.is_some(),
        format!("the scan raises the alert port_scan about {SCANNER}"),
    );
    screen.step(&alert.unwrap_or_else(|| "NO alert".to_owned()));
    let bans = stage.daemon.palisade(&["bans"])?;
    let banned = bans["bans"].as_array().is_some_and(|bans| {
        bans.iter().any(|ban| {
            ban["prefix"].as_str() == Some(&format!("{SCANNER}/32")) && ban["origin"] == "automatic"
        })
    });
    let answer = curl(&stage.world.outside, SCANNER, INSIDE[0], 80, SILENCE)?;
    screen.step(&format!(
        "the scanner is banned and asks for a page: {}",
        outcome(answer.success())
    ));
    checks.note(
        banned && !answer.success(),
        "the scanner is banned by itself and gets no page either",
    );
    Ok(())
}

fn crash(stage: &mut Stage, screen: &Screen, checks: &mut Checks) -> Result<()> {
    screen.heading("The daemon dies");
    let interval = Duration::from_millis(4);
    let pings = Pinging::start(&stage.world.outside, CLIENT[0], INSIDE[0], 500, interval)?;
    std::thread::sleep(Duration::from_millis(300));
    stage.daemon.kill()?;
    let hidden = SocketAddr::new(INSIDE[0], 8080);
    let meanwhile = connect(&stage.world.outside, hidden, SILENCE)?;
    screen.step(&format!(
        "killed with SIGKILL; the fence stands: a visitor tries the back office: {}",
        outcome(meanwhile != Connect::Silent)
    ));
    stage.daemon.launch()?;
    let status = stage.daemon.palisade(&["status"])?;
    let taken_over = status["interfaces"][0]["taken_over"] == true;
    let pings = pings.finish()?;
    screen.step(&format!(
        "a new daemon has taken the fence over; {} of {} pings answered meanwhile",
        pings.answered, pings.sent
    ));
    checks.note(
        meanwhile == Connect::Silent && taken_over && pings.answered == pings.sent,
        format!(
            "the fence outlives the daemon and is taken over without a gap: {} of {} pings answered",
            pings.answered, pings.sent
        ),
    );
    Ok(())
}

/// Waits for an alert of this kind (about this source), and tells what it says.
fn alerted(stage: &Stage, kind: &str, about: Option<IpAddr>) -> Result<Option<String>> {
    let patience = Instant::now();
    loop {
        interrupt::check()?;
        let alerts = stage.daemon.palisade(&["alerts"])?;
        let found = alerts["alerts"]
            .as_array()
            .and_then(|alerts| alerts.iter().find(|alert| is_about(alert, kind, about)));
        if let Some(alert) = found {
            return Ok(Some(format!(
                "alert {kind} about {}: {}",
                super::stage::text(&alert["subject"]),
                super::stage::text(&alert["why"])
            )));
        }
        if patience.elapsed() > ALERT {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn is_about(alert: &serde_json::Value, kind: &str, about: Option<IpAddr>) -> bool {
    alert["kind"] == kind
        && about.is_none_or(|address| {
            super::stage::text(&alert["subject"]).contains(&address.to_string())
        })
}
