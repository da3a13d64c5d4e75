//! Writing a file that somebody may have written before.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};

/// Writes a new file. One that is there is not overwritten by mistake.
pub fn write(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true);
        if force {
            options.create(true).truncate(true);
        } else {
            options.create_new(true);
        }
        let mut file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("it exists; replace it with --force")
            }
            opened => opened?,
        };
        Ok(file.write_all(text.as_bytes())?)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_existing_policy_is_replaced_only_when_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        write(&path, "one", false).unwrap();
        assert!(write(&path, "two", false).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        write(&path, "3", true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "3");
    }
}
