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
    let llvm = toolchain.llvm_major;
    if let Some((file, version)) = fitting(llvm) {
        there(&format!("{version} ({})", file.display()));
        return Ok(());
    }
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
        // One that was built for another LLVM is replaced.
        .args(["--force", "--no-default-features", "--features"])
        .arg(format!("llvm-{llvm}"))
        .env("LLVM_PREFIX", &prefix);
    doing(&format!(
        "installing bpf-linker (`LLVM_PREFIX={} {}`), which takes some minutes",
        prefix.display(),
        shell::line(&cargo)
    ));
    shell::run(&mut cargo)?;
    let (file, version) = fitting(llvm).with_context(|| {
        format!(
            "cargo installed bpf-linker, but the first in PATH does not run or is not built for \
             LLVM {llvm}"
        )
    })?;
    done(&format!("{version} ({})", file.display()));
    Ok(())
}

/// Whether there is a linker for this LLVM, or one can be built.
pub fn obtainable(llvm: u32) -> bool {
    fitting(llvm).is_some()
        || SUPPORTED.contains(&llvm)
            && (library_folder(llvm).is_some() || apt::offers(&format!("llvm-{llvm}-dev")))
}

/// The installed linker and its version, if it runs and can read what this LLVM writes.
fn fitting(llvm: u32) -> Option<(PathBuf, String)> {
    let file = shell::program("bpf-linker")?;
    let version = shell::output_of(shell::command(&file).arg("--version"))?;
    let libraries = shell::output_of(shell::command("ldd").arg(&file)).unwrap_or_default();
    // One that is linked statically does not say; it was put there on purpose.
    linked_llvm(&libraries)
        .is_none_or(|linked| linked == llvm)
        .then_some((file, version))
}

/// From ldd's line for `libLLVM.so.22.1` or, as LLVM up to 17 called it, `libLLVM-17.so.1`.
fn linked_llvm(libraries: &str) -> Option<u32> {
    let (_, version) = libraries.split_once("libLLVM")?;
    version
        .trim_start_matches(|character: char| !character.is_ascii_digit())
        .split(|character: char| !character.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// The prefix of an LLVM whose library can be linked.
fn library_folder(llvm: u32) -> Option<PathBuf> {
    env::var_os("LLVM_PREFIX")
        .map(PathBuf::from)
        .into_iter()
        .chain([Path::new("/usr/lib").join(format!("llvm-{llvm}"))])
        .find(|prefix| prefix.join("lib/libLLVM.so").exists())
}

#[cfg(test)]
mod tests {
    use super::linked_llvm;

    #[test]
    fn the_llvm_of_a_linker_is_read_from_its_libraries() {
        let dynamic = "\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x7f)\n";
        assert_eq!(linked_llvm(dynamic), Some(22));
        assert_eq!(linked_llvm("\tlibLLVM-17.so.1 => not found\n"), Some(17));
        assert_eq!(linked_llvm("\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n"), None);
    }
}
