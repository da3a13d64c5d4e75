//! The files that keep the bans across restarts: the book, written whole and swapped in, and a
//! journal of what changed since, a line for each change, so that one more ban among a million costs
//! what one among ten does. A crash leaves a book and a journal that fit; a line that it cut short
//! is left out. A book that cannot be read is set aside, never a reason to stay down.

use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use ipnet::IpNet;
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

/// What happens to the book: a line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Ban(BanRecord),
    Lift(IpNet),
}

/// A journal that is longer than this and than the book is written into the book.
const LONG_JOURNAL: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    bans: Vec<BanRecord>,
}

#[derive(Serialize)]
struct Written<'b> {
    version: u32,
    bans: Vec<&'b BanRecord>,
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

    fn journal(&self) -> PathBuf {
        self.path.with_extension("journal")
    }

    /// Whether changes are waiting in the journal.
    pub fn has_journal(&self) -> bool {
        self.journal().exists()
    }

    /// Reads the bans. Fails only if the file system does.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        let mut loaded = self.load_book()?;
        if let Loaded::Bans(book) = &mut loaded {
            let journal = self.journal();
            self.replay(book)
                .with_context(|| format!("{} cannot be read", journal.display()))?;
        }
        Ok(loaded)
    }

    /// Brings a book up to date by the journal.
    fn replay(&self, book: &mut BanBook) -> io::Result<()> {
        let file = match fs::File::open(self.journal()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).split(b'\n') {
            match serde_json::from_slice(&line?) {
                Ok(Change::Ban(record)) => book.insert(record),
                Ok(Change::Lift(prefix)) => {
                    book.remove(&prefix);
                }
                // What comes behind a line that a crash cut short was never said to be kept.
                Err(error) => {
                    tracing::warn!(file = %self.journal().display(), %error, "the journal of bans ends in a line that makes no sense");
                    break;
                }
            }
        }
        Ok(())
    }

    /// Writes changes down so that they survive a crash at any moment.
    pub fn append(&self, changes: &[Change]) -> anyhow::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let length = self
            .write_journal(changes)
            .with_context(|| format!("{} cannot be written", self.journal().display()))?;
        let book = fs::metadata(&self.path).map_or(0, |about| about.len());
        if length > LONG_JOURNAL.max(book)
            && let Loaded::Bans(book) = self.load()?
        {
            self.save(&book)?;
        }
        Ok(())
    }

    fn write_journal(&self, changes: &[Change]) -> anyhow::Result<u64> {
        let mut lines = Vec::new();
        for change in changes {
            serde_json::to_writer(&mut lines, change)?;
            lines.push(b'\n');
        }
        let is_new = !self.has_journal();
        let mut options = fs::OpenOptions::new();
        let mut file = options.append(true).create(true).open(self.journal())?;
        let before = file.metadata()?.len();
        if let Err(error) = file.write_all(&lines).and_then(|()| file.sync_data()) {
            // Half a line must not stand before the next attempt.
            file.set_len(before)?;
            return Err(error.into());
        }
        if is_new {
            self.sync_folder()?;
        }
        Ok(before + lines.len() as u64)
    }

    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()
    }

    fn load_book(&self) -> anyhow::Result<Loaded> {
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

    /// Writes all bans so that they survive a crash at any moment; the journal is done with.
    pub fn save(&self, book: &BanBook) -> anyhow::Result<()> {
        self.write(book)
            .with_context(|| format!("{} cannot be written", self.path.display()))
    }

    fn write(&self, book: &BanBook) -> anyhow::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".bans-")
            .tempfile_in(folder)?;
        let document = Written {
            version: VERSION,
            bans: book.iter().collect(),
        };
        let mut writer = BufWriter::new(&mut file);
        serde_json::to_writer_pretty(&mut writer, &document)?;
        writer.write_all(b"\n")?;
        writer.flush()?;
        drop(writer);
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        // The rename itself is only safe once the folder is.
        self.sync_folder()?;
        // Left behind by a crash here, it says once more what the book says.
        match fs::remove_file(self.journal()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
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
    fn changes_are_kept_in_the_journal_until_the_book_is_written() {
        let (folder, file) = folder();
        let (one, two) = (
            record("203.0.113.7/32", None),
            record("2001:db8::/32", None),
        );
        file.save(&[one.clone()].into_iter().collect())
            .expect("written");
        let lift = Change::Lift(one.prefix);
        file.append(&[Change::Ban(two.clone()), lift])
            .expect("written");
        let expected: BanBook = [two].into_iter().collect();
        assert_eq!(file.load().expect("read"), Loaded::Bans(expected.clone()));
        // A crash cut the next line short.
        let journal = folder.path().join("bans.journal");
        let mut cut = fs::OpenOptions::new()
            .append(true)
            .open(&journal)
            .expect("there");
        cut.write_all(b"{\"lift\":\"2001:").expect("written");
        assert_eq!(file.load().expect("read"), Loaded::Bans(expected.clone()));
        file.save(&expected).expect("written");
        assert!(!journal.exists());
        assert_eq!(file.load().expect("read"), Loaded::Bans(expected));
    }

    #[test]
    fn a_journal_that_grew_long_goes_into_the_book() {
        let (folder, file) = folder();
        let changes: Vec<Change> = (0..40_000)
            .map(|number| {
                Change::Ban(record(
                    &format!("10.0.{}.{}/32", number / 256 % 256, number % 256),
                    None,
                ))
            })
            .collect();
        file.append(&changes).expect("written");
        assert!(!folder.path().join("bans.journal").exists());
        let Loaded::Bans(book) = file.load().expect("read") else {
            panic!("not read");
        };
        assert_eq!(book.len(), 40_000);
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
