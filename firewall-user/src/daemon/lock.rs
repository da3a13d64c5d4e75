//! Two daemons with the same state or the same pins would undo each other's work: one lock file for
//! the state folder, one lock on the pin folder.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Held for as long as the daemon lives; the kernel lets go of them when it dies.
#[derive(Debug)]
pub struct Locks {
    _state: File,
    _pins: File,
}

impl Locks {
    /// Takes both locks; creates the folders.
    pub fn take(state_dir: &Path, pin_dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(state_dir).with_context(|| {
            format!("the state folder {} cannot be created", state_dir.display())
        })?;
        let path = state_dir.join("lock");
        let mut state = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("{} cannot be opened", path.display()))?;
        if !lock(&state, &path)? {
            let mut pid = String::new();
            // The number is a courtesy; without it the message still says enough.
            let _ = state.read_to_string(&mut pid);
            let holder = match pid.trim() {
                "" => String::new(),
                pid => format!(" (process {pid})"),
            };
            bail!(
                "another daemon{holder} uses the state folder {}: stop it, or set another `state_dir`",
                state_dir.display()
            );
        }
        // That courtesy, too, is nothing that a full disk may keep a daemon from starting for.
        let told = state
            .set_len(0)
            .and_then(|()| state.rewind())
            .and_then(|()| writeln!(state, "{}", std::process::id()));
        if let Err(error) = told {
            tracing::warn!(file = %path.display(), "the lock does not tell whose it is: {error}");
        }
        fs::create_dir_all(pin_dir).with_context(|| {
            format!(
                "the pin folder {} cannot be created: it must be on a BPF file system \
                 (`mount -t bpf bpf /sys/fs/bpf`)",
                pin_dir.display()
            )
        })?;
        // A BPF file system holds no ordinary files, but its folders can be locked.
        let pins = File::open(pin_dir)
            .with_context(|| format!("the pin folder {} cannot be opened", pin_dir.display()))?;
        if !lock(&pins, pin_dir)? {
            bail!(
                "another daemon uses the pin folder {}: stop it, or set another `pin_dir`",
                pin_dir.display()
            );
        }
        Ok(Self {
            _state: state,
            _pins: pins,
        })
    }
}

/// Whether the lock was free.
fn lock(file: &File, path: &Path) -> anyhow::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{} cannot be locked", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_by_the_state_folder_and_told_who_holds_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (state, pins) = (folder.path().join("state"), folder.path().join("pins"));
        let first = Locks::take(&state, &pins).expect("the first");
        let error = Locks::take(&state, &folder.path().join("other")).expect_err("the second");
        let message = format!("{error:#}");
        assert!(message.contains("state_dir"), "{message}");
        assert!(
            message.contains(&format!("process {}", std::process::id())),
            "{message}"
        );
        drop(first);
        Locks::take(&state, &pins).expect("free again");
    }

    #[test]
    fn a_second_daemon_is_refused_by_the_pin_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let pins = folder.path().join("pins");
        let _first = Locks::take(&folder.path().join("one"), &pins).expect("the first");
        let error = Locks::take(&folder.path().join("two"), &pins).expect_err("the second");
        assert!(format!("{error:#}").contains("pin_dir"));
    }
}
