//! Compiles the kernel programs with the toolchain that can, and embeds them.

use std::process::Command;

use anyhow::{Context, Result, anyhow};
use aya_build::{Package, Toolchain};

/// The name under which `cargo xtask setup` links the distribution's toolchain.
const LINKED_TOOLCHAIN: &str = "palisade-bpf";

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=../firewall-common/src");
    println!("cargo:rerun-if-changed=../Cargo.lock");
    let root = format!("{}/../firewall-ebpf", env!("CARGO_MANIFEST_DIR"));
    let package = Package {
        name: "firewall-ebpf",
        root_dir: &root,
        features: if cfg!(feature = "trace") {
            &["trace"]
        } else {
            &[]
        },
        ..Default::default()
    };
    let toolchain = if is_installed(LINKED_TOOLCHAIN)? {
        // SAFETY: the build script has a single thread.
        unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "1") };
        Toolchain::Custom(LINKED_TOOLCHAIN)
    } else {
        Toolchain::Nightly
    };
    aya_build::build_ebpf([package], toolchain)
        .context("the kernel programs do not build; `cargo xtask setup` installs what they need")
}

fn is_installed(toolchain: &str) -> Result<bool> {
    let output = Command::new("rustup")
        .args(["toolchain", "list"])
        .output()
        .map_err(|error| anyhow!("rustup cannot be run: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .any(|line| line.split(' ').next() == Some(toolchain)))
}
