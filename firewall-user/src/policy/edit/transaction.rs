//! Puts an edited file on disk: one editor at a time, all or nothing, with a way back.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, fchown, flock};
use rustix::process::{Gid, Uid};

/// How long to wait for another editor.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look whether it has finished.
const PAUSE: Duration = Duration::from_millis(20);

/// The right to edit the files of a policy: a lock on the policy's folder, held until dropped.
#[derive(Debug)]
pub struct Transaction {
    _lock: File,
}

/// A file that was replaced, with what it was before.
#[derive(Debug)]
pub struct Saved {
    path: PathBuf,
    before: Vec<u8>,
}

impl Transaction {
    /// Waits for other editors of policies in the same folder.
    pub fn begin(policy: &Path) -> anyhow::Result<Self> {
        let folder = parent(&resolved(policy)?);
        let lock = File::open(&folder)
            .with_context(|| format!("{} cannot be opened", folder.display()))?;
        let began = Instant::now();
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _lock: lock }),
                Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < PATIENCE => {
                    thread::sleep(PAUSE);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => bail!(
                    "another edit of a policy in {} has not ended in {} s; try again when it has",
                    folder.display(),
                    PATIENCE.as_secs()
                ),
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("{} cannot be locked", folder.display()));
                }
            }
        }
    }

    /// Replaces the content of a file in one step, keeping its mode and owner. Links are followed.
    pub fn replace(&self, path: &Path, content: &[u8]) -> anyhow::Result<Saved> {
        let path = resolved(path)?;
        let mut before = Vec::new();
        File::open(&path)
            .and_then(|mut file| file.read_to_end(&mut before))
            .with_context(|| format!("{} cannot be read", path.display()))?;
        write_beside(&path, content)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Saved { path, before })
    }

    /// Puts back what a file was before.
    pub fn restore(&self, saved: &Saved) -> anyhow::Result<()> {
        write_beside(&saved.path, &saved.before)
            .with_context(|| format!("{} cannot be put back as it was", saved.path.display()))
    }
}

fn write_beside(path: &Path, content: &[u8]) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    let folder = parent(path);
    let mut file = tempfile::Builder::new()
        .prefix(".palisade-")
        .tempfile_in(&folder)?;
    file.write_all(content)?;
    // A user who may write the file but not give files away keeps it under its own name.
    let own = file.as_file().metadata()?;
    if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
        let owner = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
        fchown(file.as_file(), Some(owner.0), Some(owner.1))?;
    }
    file.as_file()
        .set_permissions(Permissions::from_mode(metadata.mode() & 0o7777))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(&folder)?.sync_all()
}

fn resolved(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("{} cannot be opened", path.display()))
}

/// The folder of an absolute path.
fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_replaced_file_keeps_its_mode_and_can_be_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let transaction = Transaction::begin(&path).unwrap();
        let saved = transaction.replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        transaction.restore(&saved).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_followed_rather_than_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (
            folder.path().join("real.toml"),
            folder.path().join("link.toml"),
        );
        fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        let transaction = Transaction::begin(&link).unwrap();
        transaction.replace(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }

    #[test]
    fn editors_at_the_same_time_lose_none_of_each_other_s_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = Arc::new(folder.path().join("list"));
        fs::write(&*path, "").unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        let editors: Vec<_> = (0..8)
            .map(|number| {
                let (path, done) = (path.clone(), done.clone());
                thread::spawn(move || {
                    let transaction = Transaction::begin(&path).unwrap();
                    let text = fs::read_to_string(&*path).unwrap();
                    let text = format!("{text}{number}\n");
                    transaction.replace(&path, text.as_bytes()).unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        for editor in editors {
            editor.join().unwrap();
        }
        assert_eq!(done.load(Ordering::Relaxed), 8);
        assert_eq!(fs::read_to_string(&*path).unwrap().lines().count(), 8);
    }
}
