//! `cargo xtask package`: a Debian package and a tarball with an install script, of the same files.
//!
//! Both are made with the tools that Debian itself uses (dpkg-shlibdeps, dpkg-deb): they are on every
//! Debian machine that compiles, know the dependencies on libraries best, and leave maintainer scripts
//! to people.

mod debian;
mod tarball;
mod tree;

use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    build,
    setup::{self, Need},
    shell,
};
use tree::Tree;

#[derive(clap::Args)]
pub struct Arguments {
    /// Package this program instead of building it optimised
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Added to the version, such as `+1` for a build of one's own
    #[arg(long, value_name = "TEXT", default_value = "")]
    version_suffix: String,
    /// Make only this kind of package
    #[arg(long, value_name = "KIND")]
    only: Option<Kind>,
    /// Where the packages go, instead of target/package
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Debian,
    Tarball,
}

/// What is packaged, and as what.
struct Release {
    version: String,
    /// As Debian calls it, and as the compiler does.
    architecture: &'static str,
    target: String,
    /// Seconds since 1970 that every file is dated: of the last commit, so that the same sources
    /// make the same package.
    date: u64,
}

pub fn main(arguments: &Arguments) -> Result<()> {
    setup::ensure(Need::Package)?;
    let binary = match &arguments.binary {
        Some(binary) => env::current_dir()?.join(binary),
        None => {
            build::build(true)?;
            shell::target().join("release/palisade")
        }
    };
    let release = Release::new(&arguments.version_suffix)?;
    let output = match &arguments.output {
        Some(folder) => env::current_dir()?.join(folder),
        None => shell::target().join("package"),
    };
    fs::create_dir_all(&output).with_context(|| output.display().to_string())?;

    let work = tempfile::Builder::new()
        .prefix("work-")
        .tempdir_in(&output)?;
    // Its files are packed with their modes, and the folder with the rest.
    fs::set_permissions(work.path(), Permissions::from_mode(0o755))?;
    let tree = Tree::make(&work.path().join("tree"), &binary)?;
    // The Debian package adds files of its own to the tree, so it comes last.
    if arguments.only != Some(Kind::Debian) {
        let archive = tarball::make(&tree, &release, work.path(), &output)?;
        println!("{}", archive.display());
    }
    if arguments.only != Some(Kind::Tarball) {
        let package = debian::make(&tree, &release, work.path(), &output)?;
        println!("{}", package.display());
    }
    Ok(())
}

impl Release {
    fn new(suffix: &str) -> Result<Self> {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "+.~".contains(letter);
        if !suffix.chars().all(allowed) {
            bail!(
                "`{suffix}` is no end of a version: letters, digits, `+`, `.` and `~` may stand there"
            );
        }
        Ok(Self {
            version: format!("{}{suffix}", env!("CARGO_PKG_VERSION")),
            architecture: match env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => {
                    bail!("packages for {other} were never made: name its Debian architecture")
                }
            },
            target: format!("{}-linux-gnu", env::consts::ARCH),
            date: last_commit(),
        })
    }
}

/// 1970 where there is no history, as in an unpacked archive of the sources.
fn last_commit() -> u64 {
    shell::output_of(shell::command("git").args(["log", "-1", "--format=%ct"]))
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(0)
}

/// Copies a file, and gives it a mode.
fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let text = fs::read(from).with_context(|| from.display().to_string())?;
    write(to, &text, mode)
}

/// Writes a file with its folders, and gives it a mode whatever the umask is.
fn write(to: &Path, text: &[u8], mode: u32) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(to, text).with_context(|| to.display().to_string())?;
    fs::set_permissions(to, Permissions::from_mode(mode)).with_context(|| to.display().to_string())
}

/// Every file below a folder, by its path relative to it, in order.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(here) = folders.pop() {
        for entry in fs::read_dir(&here).with_context(|| here.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path().strip_prefix(folder)?.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_that_debian_would_not_take_is_refused() {
        assert!(Release::new("+1").is_ok_and(|release| release.version.ends_with("+1")));
        assert!(Release::new("-1").is_err());
        assert!(Release::new("+1 ").is_err());
    }
}
