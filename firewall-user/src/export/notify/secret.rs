//! Secrets: read from files that only their owner can read, never from the settings, and never shown.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Longest secret that is read.
const LONGEST: u64 = 64 << 10;
/// Where systemd puts the credentials of a service.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// What stands in a text where a secret stood.
const HIDDEN: &str = "(secret)";
/// Shorter ones would hide parts of ordinary words.
const SHORTEST_HIDDEN: usize = 4;

/// Where a secret is: `"path"` or `{ credential = "name" }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a path, or { credential = \"name\" }")]
pub enum SecretSource {
    File(PathBuf),
    Credential(Credential),
}

/// The name of one of systemd's credentials (`LoadCredential=`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    pub credential: String,
}

impl SecretSource {
    /// The same with a relative path that starts at `folder`.
    pub fn within(self, folder: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(folder.join(path)),
            credential @ Self::Credential(_) => credential,
        }
    }

    /// Reads it.
    pub fn read(&self) -> Result<Secret, String> {
        match self {
            Self::File(path) => read(path),
            Self::Credential(Credential { credential }) => {
                if credential.is_empty() || credential.contains('/') || credential.starts_with('.')
                {
                    return Err(format!("`{credential}` is no name of a credential"));
                }
                let folder = std::env::var_os(CREDENTIALS).ok_or_else(|| {
                    format!(
                        "the credential `{credential}` is asked for, but systemd gave none: write LoadCredential= in the unit"
                    )
                })?;
                read(&Path::new(&folder).join(credential))
            }
        }
    }
}

fn read(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let failed = |error| format!("{shown} cannot be read: {error}");
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(format!("{shown} is no file"));
    }
    let mode = about.mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(format!(
            "{shown} is open to everybody (mode {mode:o}): say `chmod o= {shown}`"
        ));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("{shown} is longer than {LONGEST} bytes"));
    }
    while bytes.last().is_some_and(|last| b"\r\n".contains(last)) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(format!("{shown} is empty"));
    }
    Ok(Secret(bytes))
}

/// A secret. What is printed of it says only that it is one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As text, for headers and URLs.
    pub fn text(&self) -> Result<&str, String> {
        std::str::from_utf8(&self.0).map_err(|_| "a secret is no text".to_owned())
    }

    /// What a peer said, without the secret: peers quote what they were told.
    pub fn hide(&self, text: &str) -> String {
        match std::str::from_utf8(&self.0) {
            Ok(secret) if secret.len() >= SHORTEST_HIDDEN => text.replace(secret, HIDDEN),
            _ => text.to_owned(),
        }
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
        (folder, path)
    }

    #[test]
    fn a_secret_is_read_without_its_line_end_and_never_printed() {
        let (_folder, path) = file("hunter2-and-more\n", 0o600);
        let secret = SecretSource::File(path).read().expect("read");
        assert_eq!(secret.bytes(), b"hunter2-and-more");
        assert!(!format!("{secret:?} {:?}", Some(&secret)).contains("hunter2"));
        assert_eq!(
            secret.hide("wrong key hunter2-and-more!"),
            "wrong key (secret)!"
        );
    }

    #[test]
    fn a_file_that_everybody_can_read_is_refused_with_the_remedy() {
        let (_folder, path) = file("hunter2", 0o644);
        let why = SecretSource::File(path).read().expect_err("refused");
        assert!(
            why.contains("chmod o=") && !why.contains("hunter2"),
            "{why}"
        );
    }

    #[test]
    fn what_is_missing_empty_or_no_credential_is_said() {
        let (_folder, path) = file("\n", 0o600);
        let why = SecretSource::File(path.clone()).read().expect_err("empty");
        assert!(why.contains("empty"), "{why}");
        let why = SecretSource::File(path.with_file_name("other"))
            .read()
            .expect_err("missing");
        assert!(why.contains("cannot be read"), "{why}");
        for name in ["", "../key", ".key"] {
            let credential = name.to_owned();
            let source = SecretSource::Credential(Credential { credential });
            let why = source.read().expect_err("no name");
            assert!(why.contains("no name"), "{why}");
        }
    }
}
