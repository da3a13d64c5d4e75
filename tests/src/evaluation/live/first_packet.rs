//! When an attack truly began: the kernel's time of its first packet on the wire, which is later
//! than the start of the tool that sends it.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::namespace::Namespace;
use crate::process::{Background, wait_until};

/// A tcpdump that ends with the first packet that its filter lets through.
#[derive(Debug)]
pub struct FirstPacket {
    folder: tempfile::TempDir,
    tcpdump: Background,
}

impl FirstPacket {
    pub fn await_on(namespace: &Namespace, interface: &str, filter: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let mut command = namespace.command("tcpdump");
        command
            .args(["-i", interface, "-c", "1", "-tt", "-n", "-l", "-s", "64"])
            .args(["-Z", "root"])
            .arg(filter)
            .stdin(Stdio::null())
            .stdout(File::create(path("packet"))?)
            .stderr(File::create(path("words"))?);
        let tcpdump = Background::spawn(&mut command)?;
        let words = path("words");
        wait_until("tcpdump listens", Duration::from_secs(5), || {
            Ok(std::fs::read_to_string(&words)?.contains("listening on"))
        })
        .with_context(|| std::fs::read_to_string(&words).unwrap_or_default())?;
        Ok(Self { folder, tcpdump })
    }

    /// When it came, in Unix seconds; none if it has not.
    pub fn time(mut self) -> Result<Option<f64>> {
        if self.tcpdump.runs()? {
            self.tcpdump.kill()?;
        }
        let line = std::fs::read_to_string(self.folder.path().join("packet"))?;
        Ok(line
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok()))
    }
}
