//! What scripts build on: every verb that reports prints one JSON document on one line, with the
//! fields that people were told of, and ends with the code that says how it went.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use palisade_tests::daemon::palisade;
use palisade_tests::process::{finish, succeed};
use palisade_tests::{Daemon, Topology, policies, skip_unless_root};
use serde_json::Value;

#[test]
fn each_reporting_verb_prints_one_document_with_its_fields() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, policies::SHOP)?;
    let policy = daemon.policy();
    let policy = policy.to_str().context("a path in UTF-8")?;
    let cases: [(&[&str], &[&str]); 17] = [
        (
            &["status"],
            &[
                "version",
                "revision",
                "policy",
                "interfaces",
                "totals",
                "bans",
                "alerts_active",
            ],
        ),
        (&["check", policy], &["file", "valid", "errors", "warnings"]),
        (
            &["apply", "--dry-run"],
            &["dry_run", "source", "generation", "warnings"],
        ),
        (&["incidents"], &["incidents"]),
        (
            &["why", "203.0.113.7"],
            &[
                "address",
                "source",
                "counts",
                "connections",
                "sets",
                "protected_by",
                "outcomes",
                "latest",
                "bans",
                "past_bans",
                "offences",
                "alerts",
                "incidents",
                "explain",
            ],
        ),
        (&["apply"], &["dry_run", "source", "generation", "warnings"]),
        (&["rule", "list"], &["policy", "generation", "rules"]),
        (
            &["rule", "show", "shop"],
            &[
                "name",
                "action",
                "direction",
                "mode",
                "match",
                "packets",
                "bytes",
                "line",
            ],
        ),
        (&["set", "list"], &["policy", "sets"]),
        (
            &["set", "show", "hostile"],
            &["name", "file", "prefixes", "rules"],
        ),
        (
            &["ban", "203.0.113.7", "--reason", "a test"],
            &[
                "prefix",
                "origin",
                "reason",
                "created",
                "expires",
                "remaining_seconds",
            ],
        ),
        (&["bans"], &["bans"]),
        (&["unban", "203.0.113.7"], &["prefix", "origin"]),
        (&["top"], &["by", "tracked", "sources"]),
        (&["alerts"], &["alerts"]),
        (
            &[
                "explain",
                "--from",
                "198.51.100.9",
                "--to",
                "198.51.100.1:80",
            ],
            &["verdict", "reason", "rule", "steps", "packet", "direction"],
        ),
        (&["detach"], &["detached"]),
    ];
    for (verb, fields) in cases {
        let answer = daemon.try_palisade(&[verb, &["--json"]].concat())?;
        assert_eq!(answer.code(), 0, "{verb:?}: {answer}");
        assert_eq!(answer.stdout.lines().count(), 1, "{verb:?}: {answer}");
        let document: Value = serde_json::from_str(&answer.stdout)?;
        for field in fields {
            assert!(
                document.get(field).is_some(),
                "{verb:?}: no {field} in {document:#}"
            );
        }
    }
    Ok(())
}

#[test]
fn wrong_usage_no_daemon_and_refusals_have_codes_of_their_own() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("control.sock");
    let cases: [(&[&str], i32); 14] = [
        (&["status"], 3),
        (&["top"], 3),
        (&["bans"], 3),
        (&["alerts"], 3),
        (&["ban", "203.0.113.7"], 3),
        (&["unban", "203.0.113.7"], 3),
        (&["apply"], 3),
        (&["detach"], 3),
        (&["status", "--loud"], 2),
        (&["stats"], 2),
        (&["ban"], 2),
        (&["ban", "example.org"], 2),
        (&["ban", "203.0.113.7", "--for", "soon"], 2),
        (&["check", "/nowhere/policy.toml"], 1),
    ];
    for (arguments, code) in cases {
        let mut command = Command::new(palisade()?);
        let answer = finish(command.args(arguments).env("PALISADE_SOCKET", &socket))?;
        assert_eq!(answer.code(), code, "{arguments:?}: {answer}");
        assert!(!answer.stderr.is_empty(), "{arguments:?}: {answer}");
        assert_eq!(answer.stdout, "", "{arguments:?}: {answer}");
    }
    Ok(())
}

#[test]
fn a_build_of_a_checkout_names_its_commit() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, policies::CLOSED)?;
    let status = daemon.palisade(&["status"])?;
    let revision = status["revision"].as_str().context("no revision")?;
    let label = format!("revision=\"{revision}\"");
    assert!(daemon.scrape()?.contains(&label));
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |arguments: &[&str]| succeed(Command::new("git").current_dir(here).args(arguments));
    if git(&["ls-files", "--error-unmatch", "Cargo.toml"]).is_ok() {
        // The last commit may be younger than the build; but it is one of this house.
        git(&["cat-file", "-e", &format!("{revision}^{{commit}}")])?;
    } else {
        assert_eq!(revision, "unknown");
    }
    Ok(())
}
