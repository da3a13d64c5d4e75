//! A real journald with a /run of its own, so that it neither needs nor disturbs the machine's.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use palisade_tests::Background;
use palisade_tests::process::{succeed, wait_until};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = "/lib/systemd/systemd-journald";
/// Where it stands apart: in memory, away from the kernel's log, and with its sockets in a folder of ours.
const APART: &str = r#"
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/log && mount --bind /dev/null /dev/kmsg
mkdir -p /run/systemd/journal && mount --bind "$1" /run/systemd/journal
mkdir -p /run/log/journal /run/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nForwardToWall=no\n' > /run/systemd/journald.conf.d/apart.conf
exec /lib/systemd/systemd-journald
"#;

pub struct Journal {
    running: Background,
    folder: TempDir,
}

impl Journal {
    pub fn start() -> Result<Self> {
        if !std::path::Path::new(PROGRAM).exists() {
            bail!("{PROGRAM} is not here: install systemd");
        }
        let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
        let running = Background::spawn(
            Command::new("unshare")
                .args([
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-ec",
                    APART,
                    "sh",
                ])
                .arg(folder.path())
                .stdin(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        let mut journal = Self { running, folder };
        let socket = journal.socket();
        wait_until("journald listens", Duration::from_secs(30), || {
            if !journal.running.runs()? {
                bail!("journald ended");
            }
            Ok(socket.exists())
        })?;
        Ok(journal)
    }

    /// Its socket, as seen from outside of its mounts.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Entries with this field, as journalctl reads them.
    pub fn entries(&self, field: &str) -> Result<Vec<Value>> {
        let mounts = format!("--mount=/proc/{}/ns/mnt", self.running.id());
        let mut command = Command::new("nsenter");
        command
            .args([&mounts, "--", "journalctl", "--no-pager", "--quiet"])
            .args(["--output=json", field]);
        let text = succeed(&mut command)?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }
}
