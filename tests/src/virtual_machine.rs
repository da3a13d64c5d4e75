//! A virtual machine: a kernel of its own that boots from a disk of its own, and a network card that is a wire to a
//! namespace of the test. It is emulated without any acceleration, so that it runs the same everywhere.
//!
//! A second serial port is a way in that does not depend on the network: a service of the guest reads lines from
//! there and runs them as root.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::disk::Disk;
use crate::process::{Background, succeed, wait_until};
use crate::tools::find;
use crate::{Namespace, need_tools, stretched};

/// How long a boot, and a command, may take: all of it is emulated.
const BOOT: Duration = Duration::from_secs(300);
const COMMAND: Duration = Duration::from_secs(120);
const EMULATOR: &str = "qemu-system-x86_64";
const MEGABYTES: u32 = 768;
/// What guards a processor's secrets costs an emulated one a third of its time.
const BOOT_LINE: &str = "root=/dev/vda rw console=ttyS0 panic=-1 quiet mitigations=off";
/// The address of the network card.
pub const HARDWARE: &str = "52:54:00:5e:00:01";

/// The guest's own lines on the port begin so.
const MARK: &str = "@@";
const SHELL: &str = "#!/bin/sh
exec </dev/ttyS1 >/dev/ttyS1 2>&1
stty raw -echo
echo '@@ up'
while IFS= read -r line; do
    sh -c \"$line\" </dev/null
    printf '\\n@@ end %s\\n' $?
done
";
/// Idle: it starts when nothing else is left to start.
const SERVICE: &str = "[Service]\nType=idle\nExecStart=/usr/local/sbin/way-in\nEnvironment=DEBIAN_FRONTEND=noninteractive\n";

/// Why there are no virtual machines here, if so.
pub fn unavailable() -> Option<String> {
    if std::env::consts::ARCH != "x86_64" {
        return Some("the virtual machine is an x86-64 one".to_owned());
    }
    if find(EMULATOR).is_none() {
        return Some(format!(
            "{EMULATOR} is not installed (`cargo xtask setup` does)"
        ));
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun for the wire to the virtual machine".to_owned());
    }
    None
}

/// A machine that was turned on. Dropping it is pulling its plug.
#[derive(Debug)]
pub struct VirtualMachine {
    way_in: UnixStream,
    said: Receiver<String>,
    console: PathBuf,
    _emulator: Background,
    _folder: TempDir,
}

impl VirtualMachine {
    /// Puts the way in on a disk.
    pub fn prepare(disk: &Disk) -> Result<()> {
        disk.write("usr/local/sbin/way-in", SHELL, 0o755)?;
        disk.write("etc/systemd/system/way-in.service", SERVICE, 0o644)?;
        disk.enable("way-in.service", "multi-user.target")
    }

    /// Makes a file of the disk and boots from it. Packets to and from the card pass the interface `wire` of
    /// `network`, which is made here.
    pub fn boot(disk: &Disk, network: &Namespace, wire: &str) -> Result<Self> {
        need_tools(&["mke2fs", "ip"])?;
        let folder = tempfile::Builder::new().prefix("palisade-vm-").tempdir()?;
        let image = folder.path().join("disk");
        succeed(
            Command::new("mke2fs")
                .args(["-q", "-t", "ext4", "-d"])
                .arg(disk.path())
                .arg(&image)
                .arg("3G"),
        )?;
        network.run(&format!("ip tuntap add {wire} mode tap"))?;
        network.run(&format!("ip link set {wire} up"))?;
        let port = folder.path().join("port");
        let listener = UnixListener::bind(&port)?;
        listener.set_nonblocking(true)?;
        let console = folder.path().join("console.log");
        let words = File::create(folder.path().join("emulator.log"))?;
        let mut command = network.command(EMULATOR);
        command
            .args(["-accel", "tcg", "-cpu", "max", "-nodefaults"])
            .args([
                "-display",
                "none",
                "-smp",
                "2",
                "-m",
                &MEGABYTES.to_string(),
            ])
            .arg("-kernel")
            .arg(disk.path().join("vmlinuz").canonicalize()?)
            .arg("-initrd")
            .arg(disk.path().join("initrd.img").canonicalize()?)
            .args(["-append", BOOT_LINE])
            .arg("-drive")
            .arg(format!(
                "file={},format=raw,if=virtio,cache=unsafe",
                image.display()
            ))
            .arg("-netdev")
            .arg(format!("tap,id=wire,ifname={wire},script=no,downscript=no"))
            .arg("-device")
            .arg(format!(
                "virtio-net-pci,netdev=wire,mac={HARDWARE},romfile="
            ))
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-serial")
            .arg(format!("unix:{}", port.display()))
            .stdin(Stdio::null())
            .stdout(words.try_clone()?)
            .stderr(words);
        let mut emulator = Background::spawn(&mut command)?;
        let mut way_in = None;
        wait_until("the emulator starts", Duration::from_secs(30), || {
            way_in = match listener.accept() {
                Ok((stream, _)) => Some(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                Err(error) => return Err(error.into()),
            };
            if !emulator.runs()? {
                let words = fs::read_to_string(folder.path().join("emulator.log"))?;
                bail!("{EMULATOR} ended: {words}");
            }
            Ok(way_in.is_some())
        })?;
        let way_in = way_in.context("nobody connected")?;
        way_in.set_nonblocking(false)?;
        let said = listen(way_in.try_clone()?);
        let mut machine = Self {
            way_in,
            said,
            console,
            _emulator: emulator,
            _folder: folder,
        };
        machine.until("up", BOOT)?;
        Ok(machine)
    }

    /// Runs a line of the shell, to success; what it said.
    pub fn run(&mut self, line: &str) -> Result<String> {
        writeln!(self.way_in, "{line}")?;
        let (said, code) = self.until("end", COMMAND)?;
        if code != "0" {
            bail!("`{line}` in the virtual machine: exit {code}\n{said}");
        }
        Ok(said)
    }

    /// Runs a line that makes it boot again, and waits until it has; what it said on its way down.
    pub fn boots_again_by(&mut self, line: &str) -> Result<String> {
        writeln!(self.way_in, "{line}")?;
        Ok(self.until("up", BOOT)?.0)
    }

    pub fn console(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads up to a line of the way in itself; what came before it, and the rest of that line.
    fn until(&mut self, what: &str, limit: Duration) -> Result<(String, String)> {
        let mark = format!("{MARK} {what}");
        let end = Instant::now() + stretched(limit);
        let mut before = String::new();
        loop {
            match self
                .said
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) => match line.strip_prefix(&mark) {
                    Some(rest) => return Ok((before, rest.trim().to_owned())),
                    None => {
                        before.push_str(&line);
                        before.push('\n');
                    }
                },
                Err(why) => {
                    let why = match why {
                        RecvTimeoutError::Timeout => "not in time",
                        RecvTimeoutError::Disconnected => "it went",
                    };
                    bail!(
                        "the virtual machine says no `{mark}`: {why}; it said:\n{before}\nand on its console:\n{}",
                        self.console()
                    );
                }
            }
        }
    }
}

/// The lines that come, for as long as any do.
fn listen(stream: UnixStream) -> Receiver<String> {
    let (lines, said) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(text).is_err() {
                break;
            }
            line.clear();
        }
    });
    said
}

impl Disk {
    /// Writes a file, with its folders.
    pub fn write(&self, path: &str, text: &str, mode: u32) -> Result<()> {
        let path = self.path().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Has a unit started with a target, as `systemctl enable` does in a running system.
    pub fn enable(&self, unit: &str, target: &str) -> Result<()> {
        let wants = self
            .path()
            .join(format!("etc/systemd/system/{target}.wants"));
        fs::create_dir_all(&wants)?;
        let places = ["/etc/systemd/system", "/lib/systemd/system"];
        let place = places
            .into_iter()
            .find(|place| self.path().join(&place[1..]).join(unit).exists());
        let place = place.with_context(|| format!("no unit {unit} on the disk"))?;
        symlink(format!("{place}/{unit}"), wants.join(unit))?;
        Ok(())
    }
}
