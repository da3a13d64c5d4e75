//! The socket file: found stale it is replaced, found in use it is left alone.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, bail};
use tokio::net::UnixListener;

/// Binds the control socket: for its owner alone, or `shared` with all users, each of whom is asked for
/// a role.
pub fn bind(path: &Path, shared: bool) -> anyhow::Result<UnixListener> {
    make_folder(path)?;
    claim(path)?;
    // Restricted before anybody can connect: the mode is set by the mask at creation.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(mask);
    let listener =
        bound.with_context(|| format!("the control socket {} cannot be bound", path.display()))?;
    let mode = if shared { 0o666 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("the mode of {} cannot be set", path.display()))?;
    Ok(listener)
}

/// Makes the folder of the socket, where it is missing.
pub fn make_folder(path: &Path) -> anyhow::Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .with_context(|| format!("the folder {} cannot be created", folder.display()))
}

/// Removes what a dead daemon left; refuses to take a living one's socket, or to delete a file.
pub fn claim(path: &Path) -> anyhow::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be examined", path.display()));
        }
    };
    if !kind.is_socket() {
        bail!(
            "{} is in the way of the control socket and is no socket: remove it, or set another `socket`",
            path.display()
        );
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!(
            "another daemon answers on {}: stop it, or set another `socket`",
            path.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .with_context(|| format!("the stale socket {} cannot be removed", path.display())),
        Err(error) => {
            Err(error).with_context(|| format!("the socket {} cannot be examined", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_only_its_owner_may_open_the_new_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run/control.sock");
        drop(bind(&path, false).expect("bound"));
        assert!(path.exists(), "a dead daemon leaves its socket");
        let _listener = bind(&path, false).expect("bound again");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_socket_that_answers_is_not_taken_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("control.sock");
        let _listener = bind(&path, false).expect("bound");
        let error = bind(&path, false).expect_err("taken");
        assert!(format!("{error:#}").contains("another daemon answers"));
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_not_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("control.sock");
        fs::write(&path, "precious").expect("written");
        assert!(bind(&path, false).is_err());
        assert_eq!(fs::read_to_string(&path).expect("kept"), "precious");
    }
}
