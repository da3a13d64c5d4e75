//! What a test needs of the machine, and what it says when that is not there.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Whether the calling test must be skipped, which it says, because only root can make network
/// namespaces.
pub fn skip_unless_root() -> bool {
    if rustix::process::geteuid().is_root() {
        return false;
    }
    skipped("network namespaces and BPF programs need root; run the tests as root");
    true
}

/// Says that the calling test returns without having proved anything. The runner keeps what a
/// passed test prints with `println!` to itself; this line gets past it, and `cargo xtask test`
/// counts the test as skipped by it.
pub fn skipped(why: &str) {
    note(&format!("skipped: {why}"));
}

/// Says a line of its own past the runner, which keeps what passed tests print to itself.
pub fn note(line: &str) {
    let _ = writeln!(stdout(), "\n{line}");
}

/// Refuses, naming the remedy, if one of `tools` is not installed.
pub fn need_tools(tools: &[&str]) -> Result<()> {
    let missing: Vec<&str> = tools
        .iter()
        .copied()
        .filter(|tool| find(tool).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "not installed: {}; `cargo xtask setup` installs what the tests use",
        missing.join(", ")
    )
}

/// Where a program is: along PATH, and in the folders that a user's PATH often lacks.
pub fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(tool))
        .find(|candidate| Path::is_file(candidate))
}
