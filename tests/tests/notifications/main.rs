//! Who should know of an attack is told: by a real Alertmanager, a webhook's receiver, a program and a real
//! journald; also when they were away, and never with a secret in the wrong place.

mod journal;
mod scene;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use palisade_tests::clients::curl;
use palisade_tests::daemon::metric;
use palisade_tests::monitoring::Alertmanager;
use palisade_tests::process::wait_until;
use palisade_tests::topology::{CLIENT, INSIDE};
use palisade_tests::{need_tools, servers, skip_unless_root};
use serde_json::Value;

use journal::Journal;
use scene::{Receiver, Scene, private, self_signed};

/// Alerts are over seconds after their cause; the rest is for a machine that is busy.
const SOON: Duration = Duration::from_secs(60);
const FIRST: &str = "203.0.113.66";
const SECOND: &str = "203.0.113.67";
const PASSWORD: &str = "correct horse";
/// Of that password, as Alertmanager takes it.
const HASH: &str = "$2y$10$abcdefghijklmnopqrstuu23JPZtHcGhwXSF41f93o/7vBdDut3Xu";
const SECRET: &str = "sesame-4f1d0c77";

#[test]
fn a_real_alertmanager_behind_tls_and_a_password_is_told_of_an_attack_and_of_its_end() -> Result<()>
{
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap", "prometheus-alertmanager", "curl"])?;
    let mut scene = Scene::new()?;
    let folder = scene.folder();
    let (cert, key) = self_signed(&folder)?;
    private(&folder.join("password"), PASSWORD)?;
    let web = format!(
        "tls_server_config: {{ cert_file: {}, key_file: {} }}\nbasic_auth_users: {{ palisade: \"{HASH}\" }}\n",
        cert.display(),
        key.display()
    );
    let ca = cert.display().to_string();
    let login = format!("palisade:{PASSWORD}");
    let manager = Alertmanager::start_with(
        &scene.world.inside,
        "https://127.0.0.1:9093",
        &web,
        &["--cacert", &ca, "--user", &login],
    )?;
    scene.launch(
        r#"
[[notify]]
name = "operations"
kind = "alertmanager"
url = "https://127.0.0.1:9093"
ca_file = "cert.pem"
username = "palisade"
password_file = "password"
instance = "edge1"
labels = { team = "edge" }
resend = "1s"
"#,
    )?;
    let test = scene.daemon.palisade(&["notify", "test", "operations"])?;
    assert_eq!(test["tests"][0]["arrived"], true, "{test:#}");

    scene.scan(FIRST)?;
    let told = || -> Result<Option<Value>> {
        let is = |alert: &Value| alert["labels"]["subject"] == FIRST;
        Ok(manager.alerts()?.into_iter().find(is))
    };
    let mut first = None;
    wait_until("the alert is there", SOON, || {
        first = told()?;
        Ok(first.is_some())
    })
    .with_context(|| scene.daemon.log())?;
    let first = first.context("it was there")?;
    for (label, value) in [
        ("alertname", "PalisadeAttack"),
        ("kind", "port_scan"),
        ("instance", "edge1"),
        ("team", "edge"),
    ] {
        assert_eq!(first["labels"][label], value, "{first:#}");
    }
    // It is told again while it fires: its end moves.
    wait_until("it is refreshed, or over already", SOON, || {
        Ok(told()?.is_none_or(|now| now["endsAt"] != first["endsAt"]))
    })?;
    wait_until("it is resolved", SOON, || Ok(told()?.is_none()))?;
    let scrape = scene.daemon.scrape()?;
    let delivered = metric(
        &scrape,
        "palisade_notifications_total",
        &["notifier=\"operations\"", "outcome=\"delivered\""],
    );
    assert!(delivered >= 2.0, "{scrape}");
    scene.shows_none_of(&[PASSWORD])
}

#[test]
fn a_webhook_that_was_away_gets_all_once_and_in_order_from_the_next_daemon() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap", "python3", "curl"])?;
    let mut scene = Scene::new()?;
    let _shop = servers::http(&scene.world.inside, 80, "shop")?;
    private(&scene.folder().join("key"), SECRET)?;
    scene.launch(
        r#"
[[notify]]
name = "chat"
kind = "webhook"
url = "http://127.0.0.1:9000/hook"
secret_file = "key"
kinds = ["port_scan"]
on = ["fired", "resolved"]
retry_at_most = "1s"
template = '{"text": {{ event ~ ": " ~ alert.why }}, "event": {{ event }}, "who": {{ alert.subject }}}'
"#,
    )?;
    let queued = |scene: &Scene| -> Result<u64> {
        let list = scene.daemon.palisade(&["notify"])?;
        list["notifiers"][0]["queued"].as_u64().context("no number")
    };
    for (scanner, waiting) in [(FIRST, 2), (SECOND, 4)] {
        scene.scan(scanner)?;
        wait_until("its beginning and its end wait", SOON, || {
            Ok(queued(&scene)? == waiting)
        })
        .with_context(|| scene.daemon.log())?;
    }
    // Nobody who visits the shop waits for the peer.
    let page = curl(&scene.world.outside, CLIENT[0], INSIDE[0], 80, SOON)?;
    assert_eq!(page.stdout, "shop", "{page}");
    scene.daemon.kill()?;
    scene.daemon.launch()?;
    assert_eq!(queued(&scene)?, 4);
    let receiver = Receiver::start(&scene, 9000, SECRET, "take")?;
    wait_until("nothing waits any more", SOON, || Ok(queued(&scene)? == 0))?;
    let got = receiver.got()?;
    let told: Vec<_> = got
        .iter()
        .map(|one| (one["body"]["event"].as_str(), one["body"]["who"].as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (Some("fired"), Some(FIRST)),
            (Some("resolved"), Some(FIRST)),
            (Some("fired"), Some(SECOND)),
            (Some("resolved"), Some(SECOND)),
        ]
    );
    for one in &got {
        assert_eq!(one["signed"], true, "{one:#}");
        assert_eq!(one["path"], "/hook", "{one:#}");
    }
    let mut keys: Vec<_> = got.iter().map(|one| one["key"].as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert!(keys.len() == 4 && keys[0].is_some(), "{keys:?}");
    scene.shows_none_of(&[SECRET])
}

#[test]
fn an_alert_that_fires_when_the_daemon_is_killed_is_told_to_be_over_by_the_next() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap", "python3"])?;
    let mut scene = Scene::quiet_for("1m")?;
    private(&scene.folder().join("key"), SECRET)?;
    let receiver = Receiver::start(&scene, 9000, SECRET, "take")?;
    scene.launch(
        "[[notify]]\nname = \"chat\"\nkind = \"webhook\"\nurl = \"http://localhost:9000/\"\nsecret_file = \"key\"\n",
    )?;
    scene.scan(FIRST)?;
    let last = |receiver: &Receiver| -> Result<Option<Value>> {
        Ok(receiver.got()?.pop().map(|one| one["body"].clone()))
    };
    wait_until("it fires", SOON, || Ok(last(&receiver)?.is_some()))?;
    scene.daemon.kill()?;
    scene.daemon.launch()?;
    wait_until("it is over", SOON, || {
        Ok(last(&receiver)?.is_some_and(|notice| notice["event"] == "resolved"))
    })?;
    let over = last(&receiver)?.context("there is one")?;
    assert_eq!(over["alert"]["subject"], FIRST, "{over:#}");
    assert_eq!(over["alert"]["state"], "resolved", "{over:#}");
    Ok(())
}

#[test]
fn a_program_and_a_real_journald_are_told_and_what_cannot_work_is_said() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap", "journalctl"])?;
    let mut scene = Scene::new()?;
    let journal = Journal::start()?;
    let folder = scene.folder();
    let (page, pages) = (folder.join("page"), folder.join("pages"));
    fs::write(
        &page,
        format!(
            "#!/bin/sh\ncat >> {0}\necho \"$# $1 $HOME\" >> {0}\necho paged >&2\n",
            pages.display()
        ),
    )?;
    palisade_tests::process::succeed(std::process::Command::new("chmod").arg("755").arg(&page))?;
    private(&folder.join("open"), SECRET)?;
    palisade_tests::process::succeed(
        std::process::Command::new("chmod")
            .arg("644")
            .arg(folder.join("open")),
    )?;
    scene.launch(&format!(
        r#"
[[notify]]
name = "pager"
kind = "program"
command = ["{page}", "a b; touch {folder}/forged"]
on = ["fired"]
[[notify]]
name = "journal"
kind = "journald"
socket = "{socket}"
instance = "edge1"
[[notify]]
name = "elsewhere"
kind = "journald"
socket = "{folder}/no-such-socket"
[[notify]]
name = "careless"
kind = "webhook"
url = "http://127.0.0.1:9000/"
secret_file = "open"
"#,
        page = page.display(),
        folder = folder.display(),
        socket = journal.socket().display(),
    ))?;
    scene.scan(FIRST)?;
    wait_until("the program ran", SOON, || Ok(pages.exists()))?;
    wait_until("the journal has it", SOON, || {
        Ok(journal.entries("PALISADE_EVENT=resolved")?.len() == 1)
    })
    .with_context(|| scene.daemon.log())?;
    let told = fs::read_to_string(&pages)?;
    let notice: Value = serde_json::from_str(told.lines().next().unwrap_or_default())?;
    assert_eq!(notice["alert"]["subject"], FIRST, "{told}");
    // One argument, however it reads, and none of the daemon's environment.
    let last = format!("1 a b; touch {}/forged ", folder.display());
    assert_eq!(told.lines().last(), Some(last.as_str()), "{told}");
    assert!(!folder.join("forged").exists());

    let fired = journal.entries("PALISADE_EVENT=fired")?;
    let entry = fired.first().context("the journal has no beginning")?;
    for (field, value) in [
        ("PALISADE_KIND", "port_scan"),
        ("PALISADE_SUBJECT", FIRST),
        ("PALISADE_INSTANCE", "edge1"),
        ("SYSLOG_IDENTIFIER", "palisade"),
        ("MESSAGE_ID", "6f1c4f0c6f0b4c3d9d8e1f6a5b7e2c10"),
    ] {
        assert_eq!(entry[field], value, "{entry:#}");
    }
    let test = scene.daemon.try_palisade(&["notify", "test"])?;
    assert_eq!(test.code(), 1, "{test}");
    for says in [
        "pager (program): arrived",
        "paged",
        "journal (journald): arrived",
        "elsewhere (journald): did not arrive: journald does not listen",
        "careless (webhook): did not arrive",
        "chmod o=",
    ] {
        assert!(test.stdout.contains(says), "{says}: {test}");
    }
    let unknown = scene.daemon.try_palisade(&["notify", "test", "nobody"])?;
    assert_eq!(unknown.code(), 1, "{unknown}");
    assert!(unknown.stderr.contains("no notifier `nobody`"), "{unknown}");
    scene.shows_none_of(&[SECRET])
}

#[test]
fn a_peer_that_quotes_what_it_was_told_cannot_put_secrets_into_logs_status_or_errors() -> Result<()>
{
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap", "python3"])?;
    let mut scene = Scene::new()?;
    let folder = scene.folder();
    let (token, path) = ("token-8a6f2e91", "/T0/path-77be01aa");
    private(&folder.join("key"), SECRET)?;
    private(&folder.join("token"), token)?;
    private(&folder.join("password"), PASSWORD)?;
    private(&folder.join("url"), &format!("http://127.0.0.1:9000{path}"))?;
    let receiver = Receiver::start(&scene, 9000, SECRET, "quote")?;
    scene.launch(
        r#"
[[notify]]
name = "bearer"
kind = "webhook"
url_file = "url"
bearer_file = "token"
secret_file = "key"
retry_at_most = "1s"
[[notify]]
name = "basic"
kind = "alertmanager"
url = "http://127.0.0.1:9000"
username = "palisade"
password_file = "password"
retry_at_most = "1s"
"#,
    )?;
    let tests = scene.daemon.palisade_failing(&["notify", "test"])?;
    ensure!(
        tests.contains("401") && tests.contains("(secret)"),
        "{tests}"
    );
    scene.scan(FIRST)?;
    wait_until("both were tried", SOON, || {
        let list = scene.daemon.palisade(&["notify"])?;
        let notifiers = list["notifiers"].as_array().context("no list")?;
        Ok(notifiers
            .iter()
            .all(|notifier| notifier["failed"].as_u64() > Some(0)))
    })?;
    ensure!(receiver.got()?.iter().any(|one| one["path"] == path));
    // base64 of palisade and the password.
    let secrets = [
        SECRET,
        token,
        PASSWORD,
        path,
        "cGFsaXNhZGU6Y29ycmVjdCBob3JzZQ",
    ];
    for secret in secrets {
        assert!(!tests.contains(secret), "{secret}: {tests}");
    }
    scene.shows_none_of(&secrets)
}
