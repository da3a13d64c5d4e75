//! A real ssh server on the protected host, and sessions on it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::Topology;
use crate::clients::{Connect, connect};
use crate::patience::stretched;
use crate::process::{Background, succeed, wait_until};
use crate::topology::INSIDE;

const PATIENCE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(300);

/// A real ssh server inside, and the keys to it.
#[derive(Debug)]
pub struct Ssh {
    folder: TempDir,
    _server: Background,
}

impl Ssh {
    /// Starts it, and waits until it listens on both families.
    pub fn start(world: &Topology) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("palisade-ssh-").tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        for key in ["host", "user"] {
            succeed(Command::new("ssh-keygen").args([
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-f",
                &path(key),
            ]))?;
        }
        let config = format!(
            "Port 22\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
             PermitRootLogin yes\nPasswordAuthentication no\nPrintMotd no\nUseDNS no\n",
            path("host"),
            path("user.pub")
        );
        fs::write(path("config"), config)?;
        // Where the server's unprivileged part lives; Debian's service makes it.
        fs::create_dir_all("/run/sshd")?;
        let mut command = world.inside.command("/usr/sbin/sshd");
        command
            .args(["-D", "-e", "-f", &path("config")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("log"))?);
        let server = Background::spawn(&mut command)?;
        for to in INSIDE {
            wait_until("sshd listens", PATIENCE, || {
                let to = SocketAddr::new(to, 22);
                Ok(connect(&world.outside, to, SILENCE)? == Connect::Accepted)
            })?;
        }
        Ok(Self {
            folder,
            _server: server,
        })
    }

    /// The client's command line up to the remote command.
    pub fn client(&self, world: &Topology, from: IpAddr, to: IpAddr) -> Command {
        let limit = stretched(Duration::from_secs(2));
        let mut command = world.outside.command("ssh");
        command
            .arg("-i")
            .arg(self.folder.path().join("user"))
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"])
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args(["-o", &format!("ConnectTimeout={}", limit.as_secs())])
            .args(["-b", &from.to_string()])
            .arg(format!("root@{to}"));
        command
    }
}

/// A session that answers what it is told.
#[derive(Debug)]
pub struct Session {
    client: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    /// Opens one and waits until it is there.
    pub fn open(ssh: &Ssh, world: &Topology, from: IpAddr, to: IpAddr) -> Result<Self> {
        let mut client = ssh
            .client(world, from, to)
            .arg("echo ready; cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = client.stdin.take().context("piped")?;
        let output = BufReader::new(client.stdout.take().context("piped")?);
        let mut session = Self {
            client,
            input,
            output,
        };
        let said = session.line()?;
        if said != "ready" {
            let log = fs::read_to_string(ssh.folder.path().join("log")).unwrap_or_default();
            bail!("no session from {from} to {to}: {said:?}; the server says: {log}");
        }
        Ok(session)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Whether it still lives.
    pub fn answers(&mut self, word: &str) -> Result<bool> {
        writeln!(self.input, "{word}")?;
        Ok(self.line()? == word)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
