//! The file that keeps the bans across restarts. Written whole and swapped in, so that a crash
//! leaves the old or the new one; a file that cannot be read is set aside, never a reason to stay down.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{BanBook, BanRecord};

/// The version of the file's format.
const VERSION: u32 = 1;

/// Where the bans are kept.
#[derive(Clone, Debug)]
pub struct BanFile {
    path: PathBuf,
}

/// What was found at start.
#[derive(Debug, PartialEq, Eq)]
pub enum Loaded {
    /// The bans of the file; none if there is no file yet.
    Bans(BanBook),
    /// The file made no sense and was set aside.
    Corrupt { set_aside: PathBuf, error: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    bans: Vec<BanRecord>,
}

impl BanFile {
    /// The ban file of a state folder.
    pub fn in_state_dir(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("bans.json"),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the bans. Fails only if the file system does.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Loaded::Bans(BanBook::default()));
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("{} cannot be read", self.path.display()));
            }
        };
        match parse(&text) {
            Ok(bans) => Ok(Loaded::Bans(bans.into_iter().collect())),
            Err(error) => Ok(Loaded::Corrupt {
                set_aside: self.set_aside()?,
                error,
            }),
        }
    }

    /// Writes the bans so that they survive a crash at any moment.
    pub fn save(&self, book: &BanBook) -> anyhow::Result<()> {
        self.write(book)
            .with_context(|| format!("{} cannot be written", self.path.display()))
    }

    fn write(&self, book: &BanBook) -> anyhow::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".bans-")
            .tempfile_in(folder)?;
        let document = Document {
            version: VERSION,
            bans: book.iter().cloned().collect(),
        };
        serde_json::to_writer_pretty(&mut file, &document)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        // The rename itself is only safe once the folder is.
        fs::File::open(folder)?.sync_all()?;
        Ok(())
    }

    fn set_aside(&self) -> anyhow::Result<PathBuf> {
        for number in 1.. {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".corrupt-{number}"));
            let aside = PathBuf::from(name);
            if !aside.exists() {
                fs::rename(&self.path, &aside).with_context(|| {
                    format!("{} is corrupt and cannot be set aside", self.path.display())
                })?;
                return Ok(aside);
            }
        }
        anyhow::bail!("no free name to set {} aside", self.path.display())
    }
}

fn parse(text: &[u8]) -> Result<Vec<BanRecord>, String> {
    let document: Document = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if document.version != VERSION {
        return Err(format!(
            "version {} of the format is not known (only {VERSION})",
            document.version
        ));
    }
    match document
        .bans
        .iter()
        .find(|record| record.prefix != record.prefix.trunc())
    {
        Some(record) => Err(format!("{} has bits beyond its length", record.prefix)),
        None => Ok(document.bans),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::book::tests::record;

    fn folder() -> (tempfile::TempDir, BanFile) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = BanFile::in_state_dir(folder.path());
        (folder, file)
    }

    #[test]
    fn bans_read_back_as_they_were_written() {
        let (_folder, file) = folder();
        let mut forever = record("2001:db8:bad::/48", None);
        forever.origin = crate::respond::Origin::Automatic;
        forever.kind = Some("port_scan".to_owned());
        let book: BanBook = [record("203.0.113.7/32", Some(1_000_000)), forever]
            .into_iter()
            .collect();
        file.save(&book).expect("written");
        assert_eq!(file.load().expect("read"), Loaded::Bans(book));
    }

    #[test]
    fn no_file_is_no_bans() {
        let (_folder, file) = folder();
        assert_eq!(file.load().expect("read"), Loaded::Bans(BanBook::default()));
    }

    #[test]
    fn a_corrupt_file_is_set_aside_under_a_new_name_each_time_and_kept() {
        let (_folder, file) = folder();
        for (number, text) in [
            (1, "{\"version\":1,\"bans\":[{\"pre"),
            (2, "{\"version\":9,\"bans\":[]}"),
            (3, ""),
            (4, "{\"version\":1,\"bans\":[],\"surprise\":1}"),
        ] {
            fs::write(file.path(), text).expect("written");
            let Loaded::Corrupt { set_aside, error } = file.load().expect("read") else {
                panic!("{text} was taken for bans");
            };
            assert!(!error.is_empty());
            assert!(
                set_aside
                    .to_string_lossy()
                    .ends_with(&format!("bans.json.corrupt-{number}"))
            );
            assert_eq!(fs::read_to_string(&set_aside).expect("kept"), text);
            assert!(!file.path().exists());
        }
    }

    #[test]
    fn writing_leaves_no_temporary_files_behind() {
        let (folder, file) = folder();
        for _ in 0..3 {
            file.save(&BanBook::default()).expect("written");
        }
        let names: Vec<_> = fs::read_dir(folder.path())
            .expect("listed")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names, ["bans.json"]);
    }
}
