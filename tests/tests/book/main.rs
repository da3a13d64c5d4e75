//! The docs as a book: it builds, its links lead somewhere, and its commands do what they say.

#[path = "../../book/mod.rs"]
mod book;
mod page;
mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use firewall_user::detect::AlertKind;
use palisade_tests::process::finish;
use palisade_tests::{need_tools, skip_unless_root};

use page::{Expectation, Line, Page};
use stage::Stage;

/// What takes an editor, or a whole host with systemd as its first process, and where such a host is.
const ELSEWHERE: [(&str, &str); 6] = [
    ("$EDITOR", "for people"),
    ("systemctl", "tests/tests/package"),
    ("journalctl", "tests/tests/package"),
    ("apt", "tests/tests/package"),
    ("apt-get", "tests/tests/package"),
    ("dpkg", "tests/tests/package"),
];

/// Each has a daemon and a scanner of its own.
const PAGES_AT_A_TIME: usize = 2;

#[test]
fn the_book_builds_with_every_verb_of_the_command_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    book::build(folder.path())?;
    let page = std::fs::read_to_string(folder.path().join("command-line.html"))?;
    for verb in ["palisade apply", "palisade rule add", "palisade watch"] {
        ensure!(page.contains(verb), "the command line's page lacks {verb}");
    }
    let page = std::fs::read_to_string(folder.path().join("policy-reference.html"))?;
    ensure!(
        page.contains("tcp_window"),
        "the policy reference lacks tcp_window"
    );
    ensure!(folder.path().join("runbook.html").is_file(), "no runbook");
    Ok(())
}

#[test]
fn every_page_is_in_the_table_of_contents_and_every_link_leads_somewhere() -> Result<()> {
    let pages = pages()?;
    let anchors: BTreeMap<PathBuf, &[String]> = pages
        .iter()
        .map(|page| Ok((std::fs::canonicalize(&page.path)?, &page.anchors[..])))
        .collect::<Result<_>>()?;
    let contents = std::fs::read_to_string(book::docs().join("SUMMARY.md"))?;
    let mut faults = Vec::new();
    for page in &pages {
        let name = page.path.file_name().context("a name")?.to_string_lossy();
        if name != "README.md" && name != "SUMMARY.md" && !contents.contains(&format!("({name})")) {
            faults.push(format!("{name} is not in docs/SUMMARY.md"));
        }
        for (number, link) in &page.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                page.path.clone()
            } else {
                page.path.parent().context("a folder")?.join(path)
            };
            let Ok(target) = std::fs::canonicalize(target) else {
                faults.push(format!("{name}:{number}: {link} is not there"));
                continue;
            };
            let known = anchors.get(&target);
            if !anchor.is_empty() && known.is_some_and(|all| !all.iter().any(|own| own == anchor)) {
                faults.push(format!("{name}:{number}: {link}: no such heading"));
            }
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn the_runbook_has_a_section_for_every_alert() -> Result<()> {
    let page = Page::read(&book::docs().join("runbook.md"))?;
    for kind in AlertKind::ALL {
        let name = kind.name();
        ensure!(
            page.anchors.iter().any(|own| own == name),
            "no section {name}"
        );
    }
    Ok(())
}

#[test]
fn every_command_in_the_docs_does_what_is_said_of_it() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nsenter", "unshare", "nmap", "hping3", "tcpdump", "curl"])?;
    let pages = pages()?;
    // One page alone, for whoever writes it.
    let only = std::env::var("PALISADE_PAGE").unwrap_or_default();
    let pages: Vec<Page> = pages
        .into_iter()
        .filter(|page| page.path.to_string_lossy().contains(&only))
        .collect();
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    let perform_some = || {
        while let Some(page) = pages.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = perform(page)
                .unwrap_or_else(|error| vec![format!("{}: {error:#}", page.path.display())]);
            faults
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(found);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..PAGES_AT_A_TIME {
            scope.spawn(perform_some);
        }
    });
    let faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(faults.is_empty(), "{}", faults.join("\n\n"));
    Ok(())
}

/// All pages, the README among them.
fn pages() -> Result<Vec<Page>> {
    let mut paths = vec![book::docs().join("../README.md")];
    for entry in std::fs::read_dir(book::docs())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| Page::read(path)).collect()
}

/// Runs a page's commands in their order; tells what went wrong.
fn perform(page: &Page) -> Result<Vec<String>> {
    let name = page.path.file_name().context("a name")?.to_string_lossy();
    let mut faults: Vec<String> = page
        .unmarked
        .iter()
        .map(|number| format!("{name}:{number}: commands stand in a block marked `console`"))
        .collect();
    let mut stage = None;
    for line in &page.lines {
        let stage = match &mut stage {
            Some(stage) => stage,
            none => none.insert(set(&page.lines)?),
        };
        if let Err(error) = perform_line(stage, line) {
            faults.push(format!("{name}:{}: {}\n{error:#}", line.number, line.text));
        }
        // What was taken down stands again for the next.
        if line.text.starts_with("palisade detach") {
            stage.run("palisade apply")?;
        }
    }
    Ok(faults)
}

/// A stage on which the daemon serves already, unless the page starts it.
fn set(lines: &[Line]) -> Result<Stage> {
    let proposes = lines
        .iter()
        .any(|line| line.text.starts_with("palisade init"));
    let wants_alert = lines.iter().any(|line| line.text.contains(" ID"));
    let mut stage = Stage::new(proposes, wants_alert)?;
    let starts = |line: &Line| is_daemon(&line.text) && line.expectation == Expectation::Ends(0);
    let asks = |line: &Line| line.text.starts_with("palisade") || line.text.contains("9477");
    if lines.iter().any(asks) && !lines.iter().any(starts) {
        stage.start_daemon("palisade daemon")?;
    }
    // A page about the past of a policy is read by somebody whose policy has one.
    if lines.iter().any(|line| line.text.contains("@3")) {
        for _ in 0..3 {
            stage.run("palisade apply new.toml && palisade apply")?;
        }
    }
    Ok(stage)
}

fn perform_line(stage: &mut Stage, line: &Line) -> Result<()> {
    let code = match &line.expectation {
        Expectation::NotRun(reason) => return is_shown_elsewhere(reason),
        Expectation::Ends(code) => *code,
    };
    let first = line.text.split(' ').next().unwrap_or_default();
    if let Some((_, test)) = ELSEWHERE.iter().find(|(start, _)| *start == first) {
        is_shown_elsewhere(test)?;
        // What installs or enables it starts it.
        let starts = [
            "dpkg -i",
            "apt install",
            "systemctl enable",
            "systemctl start",
        ];
        if starts.iter().any(|start| line.text.contains(start)) && !stage.serves() {
            stage.start_daemon("palisade daemon")?;
        }
        return Ok(());
    }
    let command = line.text.split(" # ").next().unwrap_or_default().trim();
    if is_daemon(command) {
        return stage.start_daemon(command);
    }
    if let Some(task) = command.strip_prefix("cargo xtask ") {
        return is_task(task);
    }
    let endless = ["palisade watch", "palisade top", "palisade alerts --follow"];
    let ended = if endless.iter().any(|start| command.starts_with(start)) {
        stage.run_for(command, 4)?
    } else {
        stage.run(command)?
    };
    // What goes on until it is stopped is stopped here by `timeout`, which says so with 124.
    let stopped = ended.code() == 124 && endless.iter().any(|start| command.starts_with(start));
    ensure!(stopped || ended.code() == code, "{ended}");
    Ok(())
}

fn is_daemon(command: &str) -> bool {
    command.starts_with("palisade daemon") || command.starts_with("target/release/palisade daemon")
}

/// A reason that names a test must name one that is there.
fn is_shown_elsewhere(reason: &str) -> Result<()> {
    ensure!(!reason.is_empty(), "a reason is missing");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for word in reason.split([' ', ',', ';']) {
        ensure!(
            !word.starts_with("tests/") || root.join(word).exists(),
            "{word} is not there"
        );
    }
    Ok(())
}

/// Whether `cargo xtask` takes these words. They are not run: some take an hour, and one runs this.
fn is_task(words: &str) -> Result<()> {
    let words = words.split(" -- ").next().unwrap_or_default();
    let own = std::env::current_exe()?;
    let program = own
        .ancestors()
        .map(|folder| folder.join("xtask"))
        .find(|candidate| candidate.is_file())
        .context("no xtask beside the test; run `cargo build -p xtask`")?;
    // Some tasks hand all that follows on to what they start, a request for help included.
    let hands_on = ["bench", "run"];
    let mut words: Vec<&str> = words.split_whitespace().collect();
    let at = match words.first() {
        Some(task) if hands_on.contains(task) => 1,
        _ => words.len(),
    };
    words.insert(at, "--help");
    let ended = finish(Command::new(program).args(words))?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}
