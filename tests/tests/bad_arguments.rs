//! Wrong flags and wrong files, for every verb that there is: the verbs and their flags are asked of the command
//! line's own definition, so that a new one is tried without being named here.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::CommandFactory;
use firewall_user::cli::Cli;
use palisade_tests::daemon::palisade;
use palisade_tests::process::{Finished, finish};

/// A verb as it is typed, and its definition.
type Verb = (Vec<String>, clap::Command);

/// Every verb that is no mere folder of others.
fn verbs() -> Vec<Verb> {
    fn collect(path: &[String], command: &clap::Command, verbs: &mut Vec<Verb>) {
        let mut inner = command
            .get_subcommands()
            .filter(|inner| inner.get_name() != "help")
            .peekable();
        if inner.peek().is_none() {
            verbs.push((path.to_vec(), command.clone()));
        }
        for inner in inner {
            let path = [path, &[inner.get_name().to_owned()]].concat();
            collect(&path, inner, verbs);
        }
    }
    let mut verbs = Vec::new();
    let mut command = Cli::command();
    command.build();
    collect(&[], &command, &mut verbs);
    verbs
}

/// Runs where no daemon answers and nothing can be found by accident.
fn run(folder: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Finished> {
    finish(
        Command::new(palisade()?)
            .args(arguments)
            .current_dir(folder)
            .env("PALISADE_SOCKET", folder.join("none.sock")),
    )
}

/// Refused as wrong usage, with what is wrong and where to look.
fn assert_usage(refusal: &Finished, words: &[&str]) {
    assert_eq!(refusal.code(), 2, "{refusal}");
    for word in words {
        assert!(refusal.stderr.contains(word), "no `{word}` in {refusal}");
    }
    assert!(refusal.stdout.is_empty(), "{refusal}");
    assert!(!refusal.stderr.contains("panicked"), "{refusal}");
}

#[test]
fn every_verb_refuses_flags_that_it_does_not_know_and_values_that_are_missing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let verbs = verbs();
    assert!(verbs.len() > 25, "{}", verbs.len());
    for (path, command) in &verbs {
        let unknown = [path.as_slice(), &["--no-such-flag".to_owned()]].concat();
        assert_usage(&run(folder.path(), &unknown)?, &["--no-such-flag"]);
        let required = command
            .get_arguments()
            .any(|argument| argument.is_required_set());
        if required {
            assert_usage(&run(folder.path(), path)?, &["required"]);
        }
        for argument in command.get_arguments() {
            let (Some(long), true) = (argument.get_long(), argument.get_action().takes_values())
            else {
                continue;
            };
            let least = argument
                .get_num_args()
                .map_or(1, |range| range.min_values());
            if least == 0 {
                continue;
            }
            let flag = format!("--{long}");
            let missing = [path.as_slice(), std::slice::from_ref(&flag)].concat();
            assert_usage(&run(folder.path(), &missing)?, &[&flag]);
        }
    }
    assert_usage(&run(folder.path(), ["no-such-verb"])?, &["no-such-verb"]);
    assert_usage(
        &run(folder.path(), [OsStr::from_bytes(b"\xff\xfe")])?,
        &["Usage"],
    );
    Ok(())
}

#[test]
fn values_that_make_no_sense_are_refused_by_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cases: &[&[&str]] = &[
        &["apply", "--confirm", "soon"],
        &["apply", "--confirm", "8d"],
        &["apply", "--confirm", "60s", "--dry-run"],
        &["ban", "shop"],
        &["ban", "203.0.113.7", "--for", "-1h"],
        &["unban", ""],
        &["why", "203.0.113.7/24"],
        &["top", "--by", "noise"],
        &["explain", "--from", "shop", "--to", "203.0.113.7"],
        &[
            "explain",
            "--from",
            "203.0.113.7:99999",
            "--to",
            "203.0.113.8",
        ],
        &["explain", "--from", "203.0.113.7", "--to", "2001:db8::1"],
        &[
            "explain",
            "--from",
            "203.0.113.7",
            "--to",
            "203.0.113.8",
            "--vlan",
            "4095",
        ],
        &[
            "explain",
            "--from",
            "203.0.113.7",
            "--to",
            "203.0.113.8",
            "--protocol",
            "tpc",
        ],
        &[
            "explain",
            "--from",
            "203.0.113.7",
            "--to",
            "203.0.113.8",
            "--payload",
            "4",
        ],
        &[
            "replay",
            "none.pcap",
            "--policy",
            "none.toml",
            "--inside",
            "203.0.113.7/33",
        ],
        &["init", "--mode", "maybe"],
        &["init", "--outbound", "sometimes"],
        &["surface", "--unused-after", "long"],
        &["surface", "--interface", "edge"],
        &["completions", "tcsh"],
        &[
            "set",
            "add",
            "office",
            "198.51.100.7/24",
            "--policy",
            "none.toml",
        ],
    ];
    for arguments in cases {
        let refusal = run(folder.path(), *arguments)?;
        assert_usage(&refusal, &[]);
        assert!(!refusal.stderr.is_empty(), "{arguments:?}: {refusal}");
    }
    Ok(())
}

/// Files that are none, or hold what is none.
fn faulty(folder: &Path) -> Result<Vec<PathBuf>> {
    let file = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    };
    fs::create_dir(folder.join("folder"))?;
    Ok(vec![
        folder.join("missing"),
        folder.join("folder"),
        file("zeros", &[0; 5_000])?,
        file("not-text", b"\xff\xfe\x00version = 1\n")?,
        file(
            "noise",
            &(0..60_000_u32)
                .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect::<Vec<_>>(),
        )?,
        file("long-line", &vec![b'a'; 3 << 20])?,
        folder.join(OsStr::from_bytes(b"no-\xff-text")),
    ])
}

#[test]
fn a_file_that_cannot_be_read_or_understood_is_named_by_every_verb_that_takes_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let good = folder.path().join("good.toml");
    fs::write(&good, "version = 1\n")?;
    let good = good.as_os_str();
    let word = OsStr::new;
    for file in faulty(folder.path())? {
        let file = file.as_os_str();
        let cases: Vec<Vec<&OsStr>> = vec![
            vec![word("check"), file],
            vec![word("check"), word("--host"), file],
            vec![word("check"), good, word("--config"), file],
            vec![word("apply"), word("--dry-run"), file],
            vec![word("daemon"), word("--config"), file],
            vec![word("doctor"), word("--config"), file],
            vec![word("surface"), word("--policy"), file],
            vec![word("rule"), word("list"), word("--policy"), file],
            vec![
                word("rule"),
                word("remove"),
                word("shop"),
                word("--policy"),
                file,
            ],
            vec![word("set"), word("list"), word("--policy"), file],
            vec![
                word("set"),
                word("add"),
                word("a"),
                word("203.0.113.7"),
                word("--policy"),
                file,
            ],
            vec![
                word("explain"),
                word("--from"),
                word("203.0.113.7"),
                word("--to"),
                word("203.0.113.8"),
                word("--policy"),
                file,
            ],
            vec![word("diff"), good, file],
            vec![word("diff"), file, good],
            vec![word("diff"), good, good, word("--capture"), file],
            vec![
                word("replay"),
                file,
                word("--policy"),
                good,
                word("--engine"),
                word("host"),
            ],
            vec![
                word("replay"),
                good,
                word("--policy"),
                file,
                word("--engine"),
                word("host"),
            ],
            vec![word("score"), file],
            vec![word("import"), word("classbench"), file],
            vec![word("audit"), file],
        ];
        for arguments in cases {
            let refusal = run(folder.path(), &arguments)?;
            let code = refusal.code();
            assert_eq!(code, 1, "{arguments:?}: {refusal}");
            assert!(
                !refusal.stderr.contains("panicked"),
                "{arguments:?}: {refusal}"
            );
            // The part of the name that is text.
            let name = file.to_string_lossy();
            let name = name
                .rsplit('/')
                .next()
                .and_then(|name| name.split('\u{fffd}').next());
            // A doctor's findings are its report.
            let said = format!("{}{}", refusal.stdout, refusal.stderr);
            assert!(
                said.contains(name.unwrap_or_default()),
                "{arguments:?}: {refusal}"
            );
            assert!(
                refusal.stderr.len() < 30_000,
                "{arguments:?}: a flood of words"
            );
        }
    }
    Ok(())
}
