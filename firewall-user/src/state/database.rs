//! The file: opening it, with the format that it has, reading rows that are whole, and writing several at once.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, ErrorCode, Params, params};

use super::row::{Key, Kind, Row, checksum};

/// Says in the file's header whose it is: "PALS".
const APPLICATION: i32 = 0x5041_4c53;
/// The version of the format, SQLite's `user_version`. Version 0 is the folder of files that was before
/// ([`super::migrate`]).
const VERSION: i32 = 1;

/// A table for each kind. Without an index beside it, which could hide rows when it is damaged.
fn schema(kind: Kind) -> String {
    format!(
        "CREATE TABLE {} (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID",
        kind.name()
    )
}

/// What becomes of a row: a value, or none.
pub(super) type Changes = BTreeMap<Key, Option<Vec<u8>>>;

/// Where the header says how the file is written: 1 or 2 (SQLite, "Database File Format", 1.3.2).
const WRITE_VERSION: usize = 18;
/// SQLite's result code for a statement that the file does not fit.
const SQLITE_ERROR: i32 = 1;

/// The open file.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// It makes no sense, or not any more.
    #[error("{0}")]
    Damaged(String),
    /// A later version wrote it.
    #[error("it has version {0} of the format and this palisade knows versions up to {VERSION}")]
    Newer(i32),
    /// The disk, the folder or somebody else is in the way; later it may go well.
    #[error("{0}")]
    Now(String),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        use ErrorCode::{DatabaseCorrupt, NotADatabase};
        // The statements are all written here and right: a file that they do not fit is damaged.
        let unfit = error
            .sqlite_error()
            .is_some_and(|error| error.extended_code == SQLITE_ERROR);
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged(error.to_string()),
            _ if unfit => Self::Damaged(error.to_string()),
            _ => Self::Now(error.to_string()),
        }
    }
}

/// Rows, and how many were left out because they are not what was written.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub rows: Vec<Row>,
    pub damaged: usize,
}

impl Database {
    /// Opens the file, or begins one.
    pub fn open(path: &Path) -> Result<Self, Unusable> {
        // Nobody else may read it, nor the log that takes its permissions from it.
        let made = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path);
        made.map_err(|error| Unusable::Now(error.to_string()))?;
        // SQLite takes a file that says so for one that must not be written.
        let mut header = [0; WRITE_VERSION + 1];
        let mut file = File::open(path).map_err(|error| Unusable::Now(error.to_string()))?;
        if file.read_exact(&mut header).is_ok() && !matches!(header[WRITE_VERSION], 1 | 2) {
            return Err(Unusable::Damaged("its header makes no sense".to_owned()));
        }
        drop(file);
        let connection = Connection::open(path)?;
        // Nobody else has it: the index of the log can stand in memory, and there is no third file.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version > VERSION {
            return Err(Unusable::Newer(version));
        }
        // What was told to be kept has to stand a power failure.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        let mut database = Self { connection };
        if version == 0 {
            database.begin()?;
        }
        // A table of another shape is damage, too.
        for kind in Kind::ALL {
            let probed = database.connection.prepare(&select(kind)).map(|_| ());
            probed.map_err(|error| Unusable::Damaged(error.to_string()))?;
        }
        Ok(database)
    }

    fn begin(&mut self) -> Result<(), Unusable> {
        let transaction = self.connection.transaction()?;
        let tables: i64 =
            transaction.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        if tables > 0 {
            let what = "it says that it is empty, and is not".to_owned();
            return Err(Unusable::Damaged(what));
        }
        for kind in Kind::ALL {
            transaction.execute_batch(&schema(kind))?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        Ok(transaction.commit()?)
    }

    /// All rows of a kind, by their keys.
    pub fn load(&self, kind: Kind) -> Result<Found, Unusable> {
        self.read(kind, "ORDER BY key", [])
    }

    /// One row, if it is there.
    pub fn get(&self, kind: Kind, key: &str) -> Result<Found, Unusable> {
        self.read(kind, "WHERE key = ?1", [key])
    }

    fn read(&self, kind: Kind, which: &str, values: impl Params) -> Result<Found, Unusable> {
        let mut found = Found::default();
        let query = format!("{} {which}", select(kind));
        let mut statement = self.connection.prepare(&query)?;
        let mut rows = statement.query(values)?;
        while let Some(row) = rows.next()? {
            found.take(kind, row);
        }
        Ok(found)
    }

    /// Writes all changes or none, and waits until the disk has them.
    pub fn write(&mut self, changes: &Changes) -> Result<(), Unusable> {
        let transaction = self.connection.transaction()?;
        for kind in Kind::ALL {
            let of = (kind, String::new());
            let mut changes = changes
                .range(of..)
                .take_while(|((other, _), _)| *other == kind)
                .peekable();
            if changes.peek().is_none() {
                continue;
            }
            let name = kind.name();
            let mut put = transaction.prepare(&format!(
                "INSERT OR REPLACE INTO {name} (key, value, sum) VALUES (?1, ?2, ?3)"
            ))?;
            let mut delete = transaction.prepare(&format!("DELETE FROM {name} WHERE key = ?1"))?;
            for ((_, key), value) in changes {
                match value {
                    Some(value) => put.execute(params![key, value, checksum(kind, key, value)])?,
                    None => delete.execute([key])?,
                };
            }
        }
        Ok(transaction.commit()?)
    }

    /// Reads what can still be read of a damaged file, which stays as it is.
    pub fn salvage(path: &Path) -> Found {
        let mut found = Found::default();
        let Ok(connection) = Connection::open(path) else {
            return found;
        };
        // What fails here makes less readable, and nothing worse.
        let _ = connection.pragma_update(None, "locking_mode", "EXCLUSIVE");
        let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        // A file that is shorter than it says is read as far as it goes.
        let _ = connection.pragma_update(None, "writable_schema", "ON");
        let mut seen = BTreeMap::new();
        for kind in Kind::ALL {
            let mut damaged = 0;
            // From both ends: reading stops at the first page that makes no sense.
            for order in ["ASC", "DESC"] {
                let mut half = Found::default();
                let query = format!("{} ORDER BY key {order}", select(kind));
                if let Ok(mut statement) = connection.prepare(&query)
                    && let Ok(mut rows) = statement.query([])
                {
                    while let Ok(Some(row)) = rows.next() {
                        half.take(kind, row);
                    }
                }
                damaged = half.damaged.max(damaged);
                seen.extend(half.rows);
            }
            found.damaged += damaged;
        }
        found.rows = seen.into_iter().collect();
        found
    }
}

fn select(kind: Kind) -> String {
    format!("SELECT key, value, sum FROM {}", kind.name())
}

impl Found {
    /// Takes a row that is what was written.
    fn take(&mut self, kind: Kind, row: &rusqlite::Row<'_>) {
        let read = || -> rusqlite::Result<(String, Vec<u8>, i64)> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        };
        match read() {
            Ok((key, value, sum)) if checksum(kind, &key, &value) == sum => {
                self.rows.push(((kind, key), value));
            }
            _ => self.damaged += 1,
        }
    }
}

/// Moves the file away under a name that is free, with the log that belongs to it.
pub(super) fn set_aside(path: &Path, why: &str) -> std::io::Result<PathBuf> {
    let named = |name: String| {
        let mut path = path.to_owned().into_os_string();
        path.push(name);
        PathBuf::from(path)
    };
    let aside = (1_u32..)
        .map(|number| named(format!(".{why}-{number}")))
        .find(|aside| !aside.exists())
        .unwrap_or_else(|| named(format!(".{why}")));
    fs::rename(path, &aside)?;
    let mut log = aside.clone().into_os_string();
    log.push("-wal");
    match fs::rename(named("-wal".to_owned()), PathBuf::from(log)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(aside),
    }
}
