//! Compiles the kernel programs with a toolchain that can, and embeds them; fetches the library for the page's charts; and says
//! which commit this is.
//!
//! They need `core` built for the bpf target, hence rust-src and unstable cargo flags. The
//! toolchain is, in this order: the one that PALISADE_BPF_TOOLCHAIN names, the distribution's
//! compiler that `cargo xtask setup` links as `palisade-bpf`, or nightly.

#[path = "build/loops.rs"]
mod loops;
#[path = "build/object.rs"]
mod object;
#[path = "build/page.rs"]
mod page;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use aya_build::{Package, Toolchain};

const OVERRIDE: &str = "PALISADE_BPF_TOOLCHAIN";
const LINKED: &str = "palisade-bpf";
const NIGHTLY: &str = "nightly";

/// The commit, for whoever builds without a checkout; read by src/export.
const REVISION: &str = "PALISADE_REVISION";

/// The kernel programs in one file.
const OBJECT: &str = "palisade-ebpf";

const SETUP: &str = "run `cargo xtask setup --for build`";

/// For the cargo that aya-build starts. It has a target folder of its own, so nothing of this
/// reaches the other crates.
const SETTINGS: [(&str, &str); 8] = [
    // Instructions of 32 bits, which every kernel since 5.1 knows: each saves two shifts. Build scripts would
    // take the flag over and run on no such processor: flags of their own, whatever they say, keep it from them.
    ("CARGO_UNSTABLE_PROFILE_RUSTFLAGS", "true"),
    ("CARGO_PROFILE_RELEASE_RUSTFLAGS", "-Ctarget-cpu=v3"),
    (
        "CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_RUSTFLAGS",
        "-Copt-level=0",
    ),
    // bpf-linker optimises the whole program by itself and wants plain bitcode.
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    // Whatever the workspace chooses: the verifier knows no panic.
    ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false"),
    ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "false"),
    // aya-build turns all of cargo's messages into warnings; only real ones shall be left.
    ("CARGO_TERM_QUIET", "true"),
];

/// All that the kernel programs are made of, besides firewall-ebpf itself, which aya-build names.
const INPUTS: [&str; 6] = [
    "build.rs",
    "build",
    "../firewall-common/src",
    "../firewall-common/Cargo.toml",
    "../Cargo.toml",
    "../Cargo.lock",
];

fn main() -> ExitCode {
    let Err(error) = build() else {
        return ExitCode::SUCCESS;
    };
    // cargo shows these lines as errors of this package, without the script's whole output.
    for line in format!("{error:#}").lines() {
        println!("cargo::error={line}");
    }
    ExitCode::FAILURE
}

fn build() -> Result<()> {
    for input in INPUTS {
        println!("cargo:rerun-if-changed={input}");
    }
    println!("cargo:rerun-if-env-changed={OVERRIDE}");
    println!("cargo:rerun-if-env-changed={REVISION}");
    if env::var_os(REVISION).is_none()
        && let Some(revision) = checked_out()
    {
        println!("cargo:rustc-env={REVISION}={revision}");
    }

    page::fetch(SETUP)?;
    let (toolchain, version) = choose()?;
    require_linker()?;

    for (name, value) in SETTINGS {
        set(name, value);
    }
    if !version.contains("-nightly") {
        // A stable compiler takes the unstable flags only so. aya-build asks this variable, too.
        set("RUSTC_BOOTSTRAP", "1");
    }
    let root = format!("{}/../firewall-ebpf", env!("CARGO_MANIFEST_DIR"));
    let trace: &[&str] = if cfg!(feature = "trace") {
        &["trace"]
    } else {
        &[]
    };
    let package = Package {
        name: "firewall-ebpf",
        root_dir: &root,
        features: trace,
        ..Package::default()
    };
    aya_build::build_ebpf([package], Toolchain::Custom(&toolchain)).with_context(|| {
        format!("the kernel programs do not build with `{toolchain}` ({version})")
    })?;
    close_loops()?;
    find_length()
}

/// Notes where in the object the length of the image stands, for the loader to set.
fn find_length() -> Result<()> {
    let folder = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    let file = folder.join(OBJECT);
    let object = fs::read(&file).with_context(|| file.display().to_string())?;
    let at = object::length_of_image(&object)
        .with_context(|| format!("looking for the length of the image in {}", file.display()))?;
    fs::write(folder.join("length_at.rs"), at.to_string()).context("writing length_at.rs")
}

/// Mends the object that is embedded for kernels before 6.8; what the linker made stays beside it.
fn close_loops() -> Result<()> {
    let folder = env::var_os("OUT_DIR").context("OUT_DIR is not set")?;
    let file = PathBuf::from(folder).join(OBJECT);
    let what = || format!("closing the loops in {}", file.display());
    let object = fs::read(&file).with_context(what)?;
    if let Some(mended) = object::close_loops(&object).with_context(what)? {
        fs::write(&file, mended).with_context(what)?;
    }
    Ok(())
}

/// The commit of the checkout that this file belongs to, if it does to one.
fn checked_out() -> Option<String> {
    // A copy of the sources in somebody else's repository has not that one's commit.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    // One of them changes whenever another commit is checked out. A file that is not there would
    // make this script run each time.
    for name in ["HEAD", "logs/HEAD"] {
        let file = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&file).exists() {
            println!("cargo:rerun-if-changed={file}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// What git says; nothing without git, a checkout or a commit.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let words = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| words.trim().to_owned())
}

/// The toolchain and what its compiler calls itself.
fn choose() -> Result<(String, String)> {
    if let Ok(name) = env::var(OVERRIDE) {
        let version = describe(&name)?;
        return Ok((name, version));
    }
    if let Ok(version) = describe(LINKED) {
        return Ok((LINKED.to_owned(), version));
    }
    Ok((NIGHTLY.to_owned(), describe(NIGHTLY)?))
}

/// What `rustc --version` says, once it is known that the sources of `core` are there. Without
/// rustup, the compiler in PATH answers to every name, as it does in aya-build.
fn describe(toolchain: &str) -> Result<String> {
    let version = rustc(toolchain, &["--version"]).with_context(|| {
        format!("there is no toolchain `{toolchain}` for the kernel programs; {SETUP}")
    })?;
    let sysroot = rustc(toolchain, &["--print", "sysroot"])
        .with_context(|| format!("`{toolchain}` does not say where its libraries are"))?;
    let sources = PathBuf::from(sysroot).join("lib/rustlib/src/rust/library");
    if !sources.join("core/Cargo.toml").exists() {
        bail!(
            "the toolchain `{toolchain}` has no rust-src (looked in {}); {SETUP}",
            sources.display()
        );
    }
    Ok(version)
}

fn rustc(toolchain: &str, arguments: &[&str]) -> Result<String> {
    let mut command = match Command::new("rustup").arg("--version").output() {
        Ok(_) => {
            let mut command = Command::new("rustup");
            command.args(["run", toolchain, "rustc"]);
            command
        }
        Err(_) => Command::new("rustc"),
    };
    let output = command.args(arguments).output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{}", words.lines().next().unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// rustc looks for the linker in PATH, where rustup puts cargo's own folder first.
fn require_linker() -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let found = env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .any(|folder| folder.join("bpf-linker").is_file());
    if !found {
        bail!("bpf-linker is missing; {SETUP}");
    }
    Ok(())
}

fn set(name: &str, value: &str) {
    // SAFETY: the build script has a single thread, and what is set here ends with it.
    unsafe { env::set_var(name, value) };
}
