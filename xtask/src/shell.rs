//! Running other programs: every failure names the command line, nothing reads the terminal,
//! and what may hang is given a bounded time.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// The folder of the workspace.
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The folder that cargo builds into.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A command that runs in the workspace's folder, without standard input, and finds rustup.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    if let Some(path) = path_to_hidden_rustup() {
        command.env("PATH", path);
    }
    command
}

/// The cargo that started this program; rustup's where that is another.
pub fn cargo() -> Command {
    match env::var_os("CARGO") {
        Some(cargo) if path_to_hidden_rustup().is_none() => command(cargo),
        _ => command("cargo"),
    }
}

/// PATH with cargo's own folder first, where rustup is in that folder and PATH leaves it out. It
/// was then the distribution's cargo that started this program: alone it has no rustfmt and no
/// clippy, and mixed with rustup's the one compiler cannot read what the other has written.
fn path_to_hidden_rustup() -> Option<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folder = cargo_home()?.join("bin");
    first_with_rustup(&path, folder)
}

fn first_with_rustup(path: &OsStr, folder: PathBuf) -> Option<OsString> {
    let has_rustup = |folder: &Path| is_executable(&folder.join("rustup"));
    if !has_rustup(&folder) || env::split_paths(path).any(|folder| has_rustup(&folder)) {
        return None;
    }
    env::join_paths([folder].into_iter().chain(env::split_paths(path))).ok()
}

/// Runs to the end, output on the terminal; anything but success is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    succeeded(command, status)
}

/// Like [`run`], but ends the command and fails when it takes longer than `limit`.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return succeeded(command, status);
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            bail!(
                "`{}` was ended after {} s without an answer",
                line(command),
                limit.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Standard output of a command, or nothing when it cannot be run or fails.
pub fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        if argument.is_empty() || argument.contains([' ', '\t', '$', '*']) {
            words.push(format!("'{argument}'"));
        } else {
            words.push(argument.into_owned());
        }
    }
    words.join(" ")
}

/// Where a program is: in PATH, in cargo's own folder, or in the folders of system tools that
/// an ordinary user's PATH leaves out.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(cargo_home().map(|home| home.join("bin")))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}

/// Whether this process has root's rights (its effective user is 0).
pub fn is_root() -> bool {
    Path::new("/proc/self")
        .metadata()
        .is_ok_and(|data| data.uid() == 0)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn rustup_comes_first_only_where_the_path_leaves_it_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bin = folder.path().to_owned();
        let bare = OsStr::new("/nowhere/bin");
        assert_eq!(first_with_rustup(bare, bin.clone()), None, "no rustup");

        let rustup = bin.join("rustup");
        fs::write(&rustup, "").expect("a file");
        fs::set_permissions(&rustup, Permissions::from_mode(0o755)).expect("made executable");
        let found = first_with_rustup(bare, bin.clone()).expect("it is left out");
        assert_eq!(
            env::split_paths(&found).collect::<Vec<_>>(),
            [bin.clone(), PathBuf::from(bare)]
        );
        assert_eq!(first_with_rustup(&found, bin), None, "it is there");
    }
}
