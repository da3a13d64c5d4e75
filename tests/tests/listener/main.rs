//! The listener towards the network: whoever has no certificate and no password gets nothing, whoever has one gets all, and a
//! certificate is renewed without a restart.

mod papers;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::daemon::{METRICS, Mode};
use palisade_tests::process::{Background, Finished, finish, wait_until};
use palisade_tests::topology::{EDGE, INSIDE_V4, OTHER};
use palisade_tests::{Daemon, Topology, need_tools, skip_unless_root};
use papers::Papers;
use serde_json::Value;

/// How long something may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);
const PORT: u16 = 9477;
const NAME: &str = "scraper";
const PASSWORD: &str = "correct horse";
/// Of that password, at the usual cost.
const HASH: &str = "$2y$10$abcdefghijklmnopqrstuu23JPZtHcGhwXSF41f93o/7vBdDut3Xu";

/// The port of the metrics is open to all, as a careless policy has it.
const OPEN: &str = r#"
version = 1

[defaults]
inbound = "drop"

[[rule]]
name     = "metrics"
action   = "accept"
protocol = "tcp"
port     = 9477
"#;

fn password() -> String {
    format!("[metrics.basic_auth_users]\n{NAME} = \"{HASH}\"\n")
}

/// A daemon that listens towards the network, with these tables of `[metrics]`.
fn listening(world: &Topology, papers: &Papers, tables: &str) -> Result<Daemon> {
    let mut daemon = Daemon::prepare(&world.inside, OPEN, EDGE, Mode::Auto)?;
    let tls = format!(
        "[metrics.tls_server_config]\ncert_file = \"{}\"\nkey_file = \"{}\"\n{tables}",
        papers.cert().display(),
        papers.key().display(),
    );
    daemon.write_settings(&format!("interfaces = [\"{EDGE}\"]"), &tls)?;
    let settings = fs::read_to_string(daemon.settings())?;
    let settings = settings.replace("127.0.0.1:9477", "0.0.0.0:9477");
    fs::write(daemon.settings(), settings)?;
    daemon.launch()?;
    Ok(daemon)
}

/// Asks from the outside with curl: the status on the first line, the body below.
fn ask(world: &Topology, scheme: &str, path: &str, arguments: &[&str]) -> Result<Finished> {
    finish(
        world
            .outside
            .command("curl")
            .args([
                "--silent",
                "--show-error",
                "--noproxy",
                "*",
                "--max-time",
                "20",
            ])
            .args(["--output", "-", "--write-out", "\n%{http_code}"])
            .args(arguments)
            .arg(format!("{scheme}://{INSIDE_V4}:{PORT}{path}")),
    )
}

fn status(answer: &Finished) -> &str {
    answer.stdout.lines().last().unwrap_or_default()
}

#[test]
fn another_host_gets_nothing_without_tls_and_a_password() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl"])?;
    let world = Topology::untagged()?;
    let papers = Papers::issue("one")?;
    let daemon = listening(&world, &papers, &password())?;
    let trust = papers.ca();
    let trust = trust.to_str().context("a path in UTF-8")?;
    let right = format!("{NAME}:{PASSWORD}");
    let known = ["--cacert", trust, "--user", &right];
    wait_until("the listener", SOON, || {
        Ok(status(&ask(&world, "https", "/metrics", &known)?) == "200")
    })?;

    for path in ["/metrics", "/healthz", "/", "/api/v1/status", "/nowhere"] {
        let plain = ask(&world, "http", path, &["--user", &right])?;
        assert!(!plain.success(), "{path}: {plain}");
        assert_eq!(plain.stdout, "\n000", "{path}: {plain}");
        for arguments in [
            &["--cacert", trust][..],
            &["--cacert", trust, "--user", "scraper:wrong"],
            &["--cacert", trust, "--user", "scraper:"],
            &["--cacert", trust, "--user", "root:correct horse"],
            &["--cacert", trust, "--header", "Authorization: Bearer x"],
        ] {
            let answer = ask(&world, "https", path, arguments)?;
            assert_eq!(
                answer.stdout, "who are you?\n\n401",
                "{path} {arguments:?}: {answer}"
            );
        }
    }
    let scrape = ask(&world, "https", "/metrics", &known)?;
    assert!(scrape.stdout.contains("palisade_build_info{"), "{scrape}");
    let untrusted = ask(&world, "https", "/metrics", &["--user", &right])?;
    assert!(!untrusted.success(), "nobody vouches for it: {untrusted}");

    // What was sent and what is kept is in no log and in no answer.
    let told = format!("{}{}", daemon.log(), daemon.palisade(&["status"])?);
    for secret in [PASSWORD, HASH] {
        assert!(!told.contains(secret), "{told}");
    }
    assert!(told.contains("wrong credentials"), "{told}");
    Ok(())
}

#[test]
fn a_client_certificate_of_the_right_authority_opens_and_no_other() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl"])?;
    let world = Topology::untagged()?;
    let papers = Papers::issue("one")?;
    let strangers = Papers::issue("strangers")?;
    let _daemon = listening(
        &world,
        &papers,
        &format!(
            "client_auth_type = \"RequireAndVerifyClientCert\"\nclient_ca_file = \"{}\"\n",
            papers.ca().display()
        ),
    )?;
    let text = |path: std::path::PathBuf| path.to_str().map(str::to_owned).context("UTF-8");
    let trust = text(papers.ca())?;
    let asked = |cert: &Path, key: &Path| -> Result<Finished> {
        let (cert, key) = (text(cert.to_owned())?, text(key.to_owned())?);
        ask(
            &world,
            "https",
            "/metrics",
            &["--cacert", &trust, "--cert", &cert, "--key", &key],
        )
    };
    wait_until("the listener", SOON, || {
        Ok(status(&asked(&papers.client_cert(), &papers.client_key())?) == "200")
    })?;
    for refused in [
        ask(&world, "https", "/metrics", &["--cacert", &trust])?,
        asked(&strangers.client_cert(), &strangers.client_key())?,
        // A server's certificate says what it is for.
        asked(&papers.cert(), &papers.key())?,
    ] {
        assert!(!refused.success(), "{refused}");
        assert_eq!(refused.stdout, "\n000", "{refused}");
    }
    Ok(())
}

#[test]
fn a_renewed_certificate_is_served_without_a_restart_and_a_broken_one_is_not() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl"])?;
    let world = Topology::untagged()?;
    let papers = Papers::issue("one")?;
    let renewed = Papers::issue("two")?;
    let daemon = listening(&world, &papers, &password())?;
    let right = format!("{NAME}:{PASSWORD}");
    let served_by = |authority: &Papers| -> Result<bool> {
        let trust = authority.ca();
        let trust = trust.to_str().context("a path in UTF-8")?;
        let answer = ask(
            &world,
            "https",
            "/healthz",
            &["--cacert", trust, "--user", &right],
        )?;
        Ok(status(&answer) == "200")
    };
    wait_until("the listener", SOON, || served_by(&papers))?;
    assert!(!served_by(&renewed)?);
    let pid = daemon.palisade(&["status"])?["pid"].clone();

    papers.replace_by(&renewed)?;
    assert!(served_by(&renewed)?);
    assert!(!served_by(&papers)?);

    fs::write(papers.cert(), "-----BEGIN CERTIFICATE-----\nhalf a fi")?;
    assert!(served_by(&renewed)?);
    assert!(
        daemon.log().contains("keeps its certificate"),
        "{}",
        daemon.log()
    );
    assert_eq!(daemon.palisade(&["status"])?["pid"], pid);
    Ok(())
}

#[test]
fn prometheus_scrapes_it_over_tls_with_a_password() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl", "prometheus"])?;
    let world = Topology::untagged()?;
    let papers = Papers::issue("one")?;
    let _daemon = listening(&world, &papers, &password())?;
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("password"), PASSWORD)?;
    let config = folder.path().join("prometheus.yml");
    fs::write(
        &config,
        format!(
            "global: {{ scrape_interval: 1s }}\n\
             scrape_configs:\n\
             - job_name: palisade\n  \
               scheme: https\n  \
               basic_auth: {{ username: {NAME}, password_file: password }}\n  \
               tls_config: {{ ca_file: {} }}\n  \
               static_configs: [{{ targets: ['{INSIDE_V4}:{PORT}'] }}]\n",
            papers.ca().display()
        ),
    )?;
    let _prometheus = Background::spawn(
        world
            .outside
            .command("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:9090")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    let query = |query: &str| -> Result<Option<f64>> {
        let answer = finish(
            world
                .outside
                .command("curl")
                .args(["--silent", "--noproxy", "*", "--get", "--max-time", "5"])
                .args(["--data-urlencode", &format!("query={query}")])
                .arg("http://127.0.0.1:9090/api/v1/query"),
        )?;
        let document: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
        let value = document["data"]["result"][0]["value"][1].as_str();
        Ok(value.and_then(|value| value.parse().ok()))
    };
    wait_until("a scrape", SOON, || {
        Ok(query("up{job=\"palisade\"}")? == Some(1.0))
    })?;
    wait_until("a metric", SOON, || {
        Ok(query("palisade_policy_generation")?.is_some_and(|generation| generation >= 1.0))
    })?;
    Ok(())
}

#[test]
fn connections_that_one_peer_hoards_do_not_keep_another_out() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl"])?;
    let world = Topology::untagged()?;
    let papers = Papers::issue("one")?;
    let _daemon = listening(&world, &papers, &password())?;
    let trust = papers.ca();
    let trust = trust.to_str().context("a path in UTF-8")?;
    let right = format!("{NAME}:{PASSWORD}");
    let other = OTHER[0].to_string();
    let asked = || {
        ask(
            &world,
            "https",
            "/healthz",
            &["--cacert", trust, "--user", &right, "--interface", &other],
        )
    };
    wait_until("the listener", SOON, || Ok(status(&asked()?) == "200"))?;
    let hoard = world.outside.inside(|| {
        let mut hoard = Vec::new();
        for _ in 0..200 {
            let mut stream = TcpStream::connect(SocketAddr::from((INSIDE_V4, PORT)))?;
            // Half of a handshake; a connection that was closed at once cannot take it.
            let _ = stream.write_all(&[0x16, 0x03, 0x01]);
            hoard.push(stream);
        }
        Ok(hoard)
    })?;
    let answer = asked()?;
    assert_eq!(status(&answer), "200", "{answer}");
    drop(hoard);
    Ok(())
}

#[test]
fn on_loopback_a_foreign_name_and_what_is_malformed_get_a_clear_answer() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl"])?;
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, OPEN)?;
    let ask = |arguments: &[&str]| -> Result<String> {
        let answer = finish(
            world
                .inside
                .command("curl")
                .args([
                    "--silent",
                    "--noproxy",
                    "*",
                    "--max-time",
                    "20",
                    "--output",
                    "-",
                ])
                .args(["--write-out", "\n%{http_code}"])
                .args(arguments),
        )?;
        Ok(answer.stdout)
    };
    wait_until("the listener", SOON, || {
        Ok(ask(&[METRICS])?.ends_with("200"))
    })?;
    let rebound = ask(&["--header", "Host: attacker.example", METRICS])?;
    assert!(
        rebound.ends_with("421") && rebound.contains("hosts"),
        "{rebound}"
    );
    let posted = ask(&["--data", "x", METRICS])?;
    assert!(posted.ends_with("405"), "{posted}");
    let long = format!("X-Long: {}", "x".repeat(64 << 10));
    let long = ask(&["--header", &long, METRICS])?;
    assert!(long.ends_with("431"), "{long}");
    let missing = ask(&["http://127.0.0.1:9477/nowhere"])?;
    assert!(missing.ends_with("404"), "{missing}");

    // Nothing can be changed here, by whatever method; and what is asked wrongly is told.
    for (method, path, status, says) in [
        ("POST", "bans", "405", "bans"),
        ("DELETE", "bans?prefix=203.0.113.7", "405", "bans"),
        ("POST", "apply", "404", "apply"),
        ("POST", "detach", "404", "detach"),
        ("GET", "audit", "404", "audit"),
        ("GET", "sources?limit=many", "400", "invalid digit"),
        ("GET", "sources?by=shoes", "400", "shoes"),
        ("GET", "traffic?since=x", "400", "invalid float"),
        ("GET", "traffic?until=1", "400", "unknown field"),
    ] {
        let answer = ask(&[
            "--request",
            method,
            &format!("http://127.0.0.1:9477/api/v1/{path}"),
        ])?;
        assert!(answer.ends_with(status), "{method} {path}: {answer}");
        assert!(
            answer.contains("\"error\"") && answer.contains(says),
            "{method} {path}: {answer}"
        );
    }

    // A listener that is wanted on the network without a lock is refused before anything is touched.
    let settings = fs::read_to_string(daemon.settings())?.replace("127.0.0.1:9477", "0.0.0.0:9477");
    let open = daemon.folder().join("open.toml");
    fs::write(&open, settings)?;
    let mut command = Command::new(palisade_tests::daemon::palisade()?);
    let refused = finish(command.args(["daemon", "--config"]).arg(&open))?;
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains("tls_server_config"), "{refused}");
    Ok(())
}
