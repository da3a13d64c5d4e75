//! bpf-linker turns LLVM bitcode into BPF objects. It must be built with the LLVM of the
//! toolchain that writes the bitcode, and links libLLVM dynamically, so that of Debian's LLVM
//! only the -dev package is needed.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{apt, doing, done, there, toolchain::Toolchain};
use crate::shell;

const VERSION: &str = "0.13.0";
/// The LLVM releases that this bpf-linker can be built for.
const SUPPORTED: std::ops::RangeInclusive<u32> = 21..=23;

pub fn ensure(toolchain: &Toolchain) -> Result<()> {
    if let Some((file, version)) = installed() {
        there(&format!("{version} ({})", file.display()));
        return Ok(());
    }
    let llvm = toolchain.llvm_major;
    if !SUPPORTED.contains(&llvm) {
        bail!(
            "bpf-linker {VERSION} knows LLVM {} to {}, but the toolchain ({}) has LLVM {llvm}; \
             name another in PALISADE_BPF_TOOLCHAIN, or install a bpf-linker that fits",
            SUPPORTED.start(),
            SUPPORTED.end(),
            toolchain.version
        );
    }
    if library_folder(llvm).is_none() {
        apt::install(&[&format!("llvm-{llvm}-dev")])?;
    }
    let prefix = library_folder(llvm)
        .with_context(|| format!("llvm-{llvm}-dev is installed, but has no libLLVM.so"))?;
    let mut cargo = shell::cargo();
    cargo
        .args(["install", "bpf-linker", "--version", VERSION, "--locked"])
        .args(["--no-default-features", "--features"])
        .arg(format!("llvm-{llvm}"))
        .env("LLVM_PREFIX", &prefix);
    doing(&format!(
        "installing bpf-linker (`LLVM_PREFIX={} {}`), which takes some minutes",
        prefix.display(),
        shell::line(&cargo)
    ));
    shell::run(&mut cargo)?;
    let (file, version) = installed()
        .context("cargo installed bpf-linker, but `bpf-linker --version` does not run")?;
    done(&format!("{version} ({})", file.display()));
    Ok(())
}

/// Whether there is a linker for this LLVM, or one can be built.
pub fn obtainable(llvm: u32) -> bool {
    installed().is_some()
        || SUPPORTED.contains(&llvm)
            && (library_folder(llvm).is_some() || apt::offers(&format!("llvm-{llvm}-dev")))
}

fn installed() -> Option<(PathBuf, String)> {
    let file = shell::program("bpf-linker")?;
    let version = shell::output_of(shell::command(&file).arg("--version"))?;
    Some((file, version))
}

/// The prefix of an LLVM whose library can be linked.
fn library_folder(llvm: u32) -> Option<PathBuf> {
    env::var_os("LLVM_PREFIX")
        .map(PathBuf::from)
        .into_iter()
        .chain([Path::new("/usr/lib").join(format!("llvm-{llvm}"))])
        .find(|prefix| prefix.join("lib/libLLVM.so").exists())
}
