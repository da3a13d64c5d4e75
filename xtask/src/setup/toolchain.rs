//! The Rust toolchain for the kernel programs: one that can build `core` for the bpf target.
//!
//! That is a nightly with rust-src where rustup can fetch them, else Debian's compiler with its
//! sources, which rustup then knows under a name of its own. firewall-user's build script looks
//! for the same toolchains in the same order.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{apt, doing, done, linker, there};
use crate::shell;

/// Names a toolchain that wins over every other.
const OVERRIDE: &str = "PALISADE_BPF_TOOLCHAIN";
/// The name that Debian's toolchain gets in rustup.
const LINKED: &str = "palisade-bpf";
const NIGHTLY: &str = "nightly";
/// Compiler, cargo and the sources of `core`.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// rust-src is a few megabytes, a toolchain some hundreds.
const COMPONENT_TIME: Duration = Duration::from_secs(60);
const TOOLCHAIN_TIME: Duration = Duration::from_secs(300);

/// A toolchain that has the sources of `core`.
pub struct Toolchain {
    /// What `rustc --version` says.
    pub version: String,
    /// The linker must be built with the same LLVM.
    pub llvm_major: u32,
}

pub fn ensure() -> Result<Toolchain> {
    if let Some(name) = env::var_os(OVERRIDE) {
        let name = name.to_string_lossy();
        let toolchain = usable(&name).with_context(|| {
            format!(
                "{OVERRIDE} names `{name}`, which rustup does not know or which has no rust-src; \
                 try `rustup component add rust-src --toolchain {name}`"
            )
        })?;
        return Ok(found(&name, toolchain));
    }
    if shell::program("rustup").is_none() {
        return without_rustup();
    }
    if let Some(toolchain) = usable(LINKED) {
        return Ok(found(LINKED, toolchain));
    }
    if let Some(toolchain) = usable(NIGHTLY)
        && linker::obtainable(toolchain.llvm_major)
    {
        return Ok(found(NIGHTLY, toolchain));
    }
    let fetching = match fetch_nightly() {
        Ok(toolchain) => return Ok(toolchain),
        Err(error) => error,
    };
    println!("setup: no nightly from rustup: {fetching:#}");
    link_debian().with_context(|| {
        format!("no toolchain for the kernel programs, neither from rustup ({fetching:#}) nor from Debian")
    })
}

fn found(name: &str, toolchain: Toolchain) -> Toolchain {
    there(&format!(
        "toolchain `{name}` for the kernel programs ({}, LLVM {})",
        toolchain.version, toolchain.llvm_major
    ));
    toolchain
}

/// The toolchain of that name, if it is installed and has the sources of `core`.
fn usable(name: &str) -> Option<Toolchain> {
    inspect(|| {
        let mut command = shell::command("rustup");
        command.args(["run", name, "rustc"]);
        command
    })
}

fn inspect(rustc: impl Fn() -> Command) -> Option<Toolchain> {
    let sysroot = PathBuf::from(shell::output_of(rustc().args(["--print", "sysroot"]))?);
    if !sysroot
        .join("lib/rustlib/src/rust/library/core/Cargo.toml")
        .exists()
    {
        return None;
    }
    let details = shell::output_of(rustc().arg("-vV"))?;
    Some(Toolchain {
        version: details.lines().next()?.to_owned(),
        llvm_major: llvm_major(&details)?,
    })
}

/// From a line like `LLVM version: 22.1.8`.
fn llvm_major(details: &str) -> Option<u32> {
    let version = details
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

fn fetch_nightly() -> Result<Toolchain> {
    let installed =
        shell::output_of(shell::command("rustup").args(["run", NIGHTLY, "rustc", "-V"]));
    let mut rustup = shell::command("rustup");
    // A network that is not there is no reason for a page of rustup's internals.
    rustup.env_remove("RUST_BACKTRACE");
    let limit = if installed.is_some() {
        rustup.args(["component", "add", "rust-src", "--toolchain", NIGHTLY]);
        COMPONENT_TIME
    } else {
        rustup.args(["toolchain", "install", NIGHTLY]);
        rustup.args(["--profile", "minimal", "--component", "rust-src"]);
        TOOLCHAIN_TIME
    };
    doing(&format!("trying `{}`", shell::line(&rustup)));
    shell::run_within(&mut rustup, limit)?;
    let toolchain = usable(NIGHTLY).context("the nightly that rustup fetched has no rust-src")?;
    if !linker::obtainable(toolchain.llvm_major) {
        bail!(
            "nightly uses LLVM {}, for which there is neither a bpf-linker nor a package here",
            toolchain.llvm_major
        );
    }
    done(&format!(
        "toolchain `{NIGHTLY}` with rust-src ({})",
        toolchain.version
    ));
    Ok(toolchain)
}

fn link_debian() -> Result<Toolchain> {
    install_debian_packages()?;
    shell::run(shell::command("rustup").args(["toolchain", "link", LINKED, "/usr"]))?;
    let toolchain = usable(LINKED).context(
        "Debian's packages are installed, but /usr/bin/rustc has no sources of `core` beside it",
    )?;
    done(&format!(
        "toolchain `{LINKED}` is Debian's {}",
        toolchain.version
    ));
    Ok(toolchain)
}

/// Debian's own cargo builds everything where nobody uses rustup.
fn without_rustup() -> Result<Toolchain> {
    let rustc = || shell::command("rustc");
    if let Some(toolchain) = inspect(rustc) {
        return Ok(found("rustc in PATH", toolchain));
    }
    install_debian_packages()?;
    inspect(rustc).context(
        "the rustc in PATH has no sources of `core` (rust-src) and there is no rustup to add them; \
         install rustup from https://rustup.rs, or put Debian's /usr/bin/rustc first in PATH",
    )
}

fn install_debian_packages() -> Result<()> {
    let complete = Path::new("/usr/bin/rustc").exists()
        && Path::new("/usr/bin/cargo").exists()
        && Path::new("/usr/lib/rustlib/src/rust/library/core/Cargo.toml").exists();
    if complete {
        there("Debian's Rust compiler and its sources");
        return Ok(());
    }
    apt::install(&DEBIAN_PACKAGES)
}

#[cfg(test)]
mod tests {
    use super::llvm_major;

    #[test]
    fn the_llvm_major_is_read_from_the_compilers_own_words() {
        let details = "rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8";
        assert_eq!(llvm_major(details), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\nrelease: 1.96.0"), None);
    }
}
