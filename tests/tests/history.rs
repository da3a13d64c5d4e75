//! The history of policies: what was in force when, by whom and why, and going back in it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::process::wait_until;
use palisade_tests::{Daemon, Topology, skip_unless_root};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

fn policy(rules: &[(&str, u16)]) -> String {
    let rules = rules.iter().map(|(name, port)| {
        format!(
            "\n[[rule]]\nname = \"{name}\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = {port}\n"
        )
    });
    format!(
        "version = 1\n[sets]\nhostile = {{ file = \"hostile.netset\" }}\n\n[[rule]]\nname = \"hostile\"\naction = \"drop\"\nfrom = [\"hostile\"]\n{}",
        rules.collect::<String>()
    )
}

/// An entry: its number, how it came in force, its actor's user, and the reason.
type Told = (u64, String, Option<u64>, String);

/// All entries, the oldest first.
fn told(daemon: &Daemon) -> Result<Vec<Told>> {
    let history = daemon.palisade(&["history"])?;
    let entries = history["entries"].as_array().context("no entries")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(entries
        .iter()
        .rev()
        .map(|entry| {
            (
                entry["number"].as_u64().unwrap_or_default(),
                text(&entry["how"]),
                entry["who"]["uid"].as_u64(),
                text(&entry["reason"]),
            )
        })
        .collect())
}

fn rules(daemon: &Daemon) -> Result<Vec<String>> {
    let rules = daemon.ask("/v1/rules")?;
    let rules = rules["rules"].as_array().context("no rules")?;
    let own = rules.iter().filter(|rule| rule["built_in"] == false);
    Ok(own
        .filter_map(|rule| rule["rule"].as_str().map(str::to_owned))
        .collect())
}

fn prepared(world: &Topology, text: &str) -> Result<Daemon> {
    use palisade_tests::daemon::Mode;
    use palisade_tests::topology::EDGE;
    let mut daemon = Daemon::prepare(&world.inside, text, EDGE, Mode::Auto)?;
    fs::write(daemon.folder().join("hostile.netset"), "203.0.113.9\n")?;
    daemon.launch()?;
    Ok(daemon)
}

#[test]
fn each_policy_that_was_in_force_is_on_record_and_can_be_put_in_force_again() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = prepared(&world, &policy(&[("shop", 443)]))?;
    daemon.write_policy(&policy(&[("shop", 443), ("mail", 25)]))?;
    daemon.palisade(&["apply", "--reason", "mail moves here"])?;
    // Nothing changes: no entry.
    daemon.palisade(&["apply"])?;
    daemon.palisade(&["rule", "remove", "mail", "--reason", "mail moved away"])?;
    daemon.palisade(&[
        "set",
        "add",
        "hostile",
        "203.0.113.10",
        "--reason",
        "ticket 7",
    ])?;
    let gone = daemon.try_palisade(&["rollback", "99"])?;
    assert!(gone.stderr.contains("goes from 1 to 4"), "{gone}");
    let back = daemon.palisade(&["rollback", "2", "--reason", "mail after all"])?;
    assert_eq!(back["entry"], 2);
    assert_eq!(back["changes"]["rules_added"][0], "mail");
    assert!(rules(&daemon)?.contains(&"mail".to_owned()));

    let expected: Vec<_> = [
        (1, "start", None, "the daemon started with it"),
        (2, "apply", Some(0), "mail moves here"),
        (3, "apply", Some(0), "mail moved away"),
        (4, "apply", Some(0), "ticket 7"),
        (5, "rollback", Some(0), "mail after all"),
    ]
    .map(|(number, how, uid, reason)| (number, how.to_owned(), uid, reason.to_owned()))
    .into();
    assert_eq!(told(&daemon)?, expected);
    let entry = daemon.palisade(&["history", "show", "4"])?;
    assert_eq!(entry["changes"]["sets"]["hostile"]["added"], 1);
    assert_eq!(entry["lists"]["hostile"]["prefixes"], 2);
    let shown = daemon.try_palisade(&["history", "show", "@2"])?;
    assert!(
        shown.stdout.contains("# reason: mail moves here")
            && shown.stdout.contains("name = \"mail\""),
        "{shown}"
    );
    let diff = daemon.palisade(&["diff", "@2", "@3"])?;
    assert_eq!(
        diff["changes"].as_array().map(Vec::len),
        Some(1),
        "{diff:#}"
    );
    // Of a list it is only known that it was another one.
    let noted = daemon.try_palisade(&["diff", "@2", "@3"])?;
    let note = "note: @2: set hostile: its list";
    assert!(
        noted.stderr.contains(note) && noted.stderr.contains("had 1 prefixes"),
        "{noted}"
    );
    assert_eq!(diff["lists_changed"]["old"][0]["set"], "hostile");
    assert_eq!(back["lists_changed"][0]["prefixes_then"], 1, "{back:#}");
    assert_eq!(back["lists_changed"][0]["prefixes_now"], 2, "{back:#}");
    let same = daemon.palisade(&["diff", "@4", "@4"])?;
    assert_eq!(same["lists_changed"]["old"], Value::Array(Vec::new()));
    let diff = daemon.try_palisade(&["history", "diff", "1"])?;
    assert!(diff.stdout.contains("1 rule added: mail"), "{diff}");
    let now = daemon.palisade(&["history", "--at", "2100-01-01"])?;
    assert_eq!(now["entries"][0]["number"], 5);
    let before = daemon.palisade(&["history", "--at", "2020-01-01"])?;
    assert_eq!(before["entries"].as_array().map(Vec::len), Some(0));

    // All of it outlives the daemon, and its own file, which holds another policy, does not come up by itself.
    daemon.kill()?;
    daemon.launch()?;
    assert_eq!(told(&daemon)?, expected);
    assert!(rules(&daemon)?.contains(&"mail".to_owned()));
    let records = daemon.palisade(&["audit"])?;
    let rollback = records["records"].as_array().and_then(|records| {
        records
            .iter()
            .rfind(|record| record["action"] == "policy.rollback")
    });
    let rollback = rollback.context("no record of the rollback")?;
    assert_eq!(rollback["reason"], "mail after all");
    assert_eq!(rollback["detail"]["entry"], 2);
    Ok(())
}

#[test]
fn an_earlier_policy_can_be_tried_out_and_a_restart_keeps_what_was_confirmed() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = prepared(&world, &policy(&[("shop", 443), ("mail", 25)]))?;
    daemon.write_policy(&policy(&[("shop", 443)]))?;
    daemon.palisade(&["apply"])?;
    let has_mail =
        |daemon: &Daemon| Ok::<_, anyhow::Error>(rules(daemon)?.contains(&"mail".to_owned()));

    let alone = daemon.try_palisade(&["rollback", "--confirm", "60s"])?;
    assert_eq!(alone.code(), 2, "{alone}");
    let back = daemon.palisade(&["rollback", "1", "--confirm", "60s"])?;
    assert!(back["trial"]["remaining_seconds"].is_u64(), "{back:#}");
    assert!(has_mail(&daemon)?);
    let again = daemon.try_palisade(&["rollback", "2", "--confirm", "60s"])?;
    assert!(again.stderr.contains("is on trial"), "{again}");
    daemon.palisade(&["rollback"])?;
    assert!(!has_mail(&daemon)?);
    let status = daemon.palisade(&["status"])?;
    // The file holds what is in force.
    assert_eq!(status["policy"]["valid"], true, "{status:#}");
    assert_eq!(daemon.palisade(&["history", "show", "3"])?["to"], 1);

    let told = daemon.try_palisade(&["rollback", "1", "--confirm", "1s"])?;
    assert!(
        told.stdout.contains("on trial") && told.stdout.contains("palisade confirm"),
        "{told}"
    );
    wait_until("the trial is over", PATIENCE, || Ok(!has_mail(&daemon)?))?;

    daemon.palisade(&["rollback", "1", "--confirm", "10m"])?;
    daemon.kill()?;
    daemon.launch()?;
    daemon.palisade(&["confirm", "--reason", "mail after all"])?;
    assert!(has_mail(&daemon)?);
    // Its file has the other policy, which does not come back by itself.
    daemon.kill()?;
    daemon.launch()?;
    assert!(has_mail(&daemon)?);
    let status = daemon.palisade(&["status"])?;
    assert_eq!(status["policy"]["valid"], false, "{status:#}");
    Ok(())
}

#[test]
fn a_trial_that_nobody_confirms_leaves_its_trace_and_what_was_before_it() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = prepared(&world, &policy(&[("shop", 443)]))?;
    daemon.write_policy(&policy(&[("shop", 443), ("mail", 25)]))?;
    daemon.palisade(&["apply", "--confirm", "60s"])?;
    let entry = daemon.palisade(&["history", "show", "2"])?;
    assert_eq!(entry["trial"], "pending");
    daemon.palisade(&["rollback"])?;
    let entry = daemon.palisade(&["history", "show", "2"])?;
    assert_eq!(
        entry["trial"]["given_back"], "it was rolled back",
        "{entry:#}"
    );
    daemon.palisade(&["apply", "--confirm", "60s"])?;
    daemon.palisade(&["confirm"])?;
    let told: Vec<_> = told(&daemon)?
        .into_iter()
        .map(|(number, how, _, _)| (number, how))
        .collect();
    let expected = [(1, "start"), (2, "apply"), (3, "return"), (4, "apply")];
    assert_eq!(told, expected.map(|(number, how)| (number, how.to_owned())));
    let entry = daemon.palisade(&["history", "show", "4"])?;
    assert_eq!(entry["trial"], "confirmed");
    Ok(())
}

#[test]
fn going_back_is_guarded_and_wants_an_admin_and_sense() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = prepared(&world, &policy(&[("shop", 443)]))?;
    for (body, says) in [
        ("{\"to\": \"one\"}", "invalid type"),
        ("{\"to\": 0}", "no entry 0"),
        ("{\"two\": 1}", "unknown field"),
    ] {
        let answer = palisade_tests::process::finish(
            std::process::Command::new("curl")
                .args(["--silent", "--max-time", "10", "--data", body])
                .arg("--unix-socket")
                .arg(daemon.socket())
                .arg("http://palisade/v1/rollback"),
        )?;
        assert!(answer.stdout.contains(says), "{body}: {answer}");
    }
    for arguments in [
        ["rollback", "zero"],
        ["history", "diff"],
        ["history", "--at"],
    ] {
        let refused = daemon.try_palisade(&arguments)?;
        assert_eq!(refused.code(), 2, "{refused}");
    }
    let missing = daemon.try_palisade(&["diff", "@1", "@9"])?;
    assert_eq!(missing.code(), 1, "{missing}");
    assert!(missing.stderr.contains("no entry 9"), "{missing}");
    Ok(())
}
