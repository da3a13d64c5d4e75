//! A virtual machine: qemu without any acceleration, so that it runs the same everywhere, with the
//! host's root shared read-only by virtiofs.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{initramfs::ROOT_TAG, tree::Tree};
use crate::shell;

/// Where Debian has the file server, which is in nobody's PATH: with qemu in 12, alone since 13.
const FILE_SERVERS: [&str; 3] = [
    "/usr/libexec/virtiofsd",
    "/usr/lib/qemu/virtiofsd",
    "/usr/lib/virtiofsd",
];
/// Memory of the guest, most of it for what tests write and for large policies.
const MEGABYTES: u32 = 3072;
pub const PROCESSORS: u32 = 2;

pub fn file_server() -> Option<PathBuf> {
    let files = FILE_SERVERS.into_iter().map(PathBuf::from);
    files
        .chain(shell::program("virtiofsd"))
        .find(|file| file.is_file())
}

/// Where a machine's files are.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub fn script(&self) -> PathBuf {
        self.folder.join("run.sh")
    }

    pub fn initramfs(&self) -> PathBuf {
        self.folder.join("initramfs")
    }

    /// What the kernel said.
    pub fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// What the tests said.
    pub fn results(&self) -> PathBuf {
        self.folder.join("results.log")
    }

    fn log(&self, of: &str) -> Result<File> {
        Ok(File::create(self.folder.join(of))?)
    }
}

/// A machine that runs until it turns itself off, or until this goes.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    server: Child,
    /// Where the server's socket is: a path to a socket must be short.
    _socket: tempfile::TempDir,
}

impl Machine {
    pub fn start(tree: &Tree, files: &Files) -> Result<Self> {
        let sockets = tempfile::Builder::new().prefix("palisade-vm-").tempdir()?;
        let socket = sockets.path().join("root");
        let mut server = serve(&socket, files)?;
        let qemu = wait_for(&socket, &mut server).and_then(|()| boot(tree, files, &socket));
        match qemu {
            Ok(qemu) => Ok(Self {
                qemu,
                server,
                _socket: sockets,
            }),
            Err(error) => {
                end(&mut server);
                Err(error)
            }
        }
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.qemu.try_wait()?.is_none())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.qemu);
        end(&mut self.server);
    }
}

/// Already gone is as good.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn serve(socket: &Path, files: &Files) -> Result<Child> {
    let server = file_server().context("virtiofsd is missing")?;
    let log = files.log("virtiofsd.log")?;
    let mut command = Command::new(server);
    command
        .arg("-f")
        .arg(format!("--socket-path={}", socket.display()))
        // Its own root cannot be the shared folder where that is already the root.
        .args([
            "-o",
            "source=/",
            "-o",
            "cache=always",
            "-o",
            "sandbox=chroot",
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command
        .spawn()
        .with_context(|| format!("cannot start `{}`", shell::line(&command)))
}

fn wait_for(socket: &Path, server: &mut Child) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while !socket.exists() {
        if server.try_wait()?.is_some() || Instant::now() >= end {
            bail!("virtiofsd does not start; its words are in virtiofsd.log");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn boot(tree: &Tree, files: &Files, socket: &Path) -> Result<Child> {
    let log = files.log("qemu.log")?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg", "-cpu", "max", "-nodefaults", "-no-reboot"])
        .args(["-display", "none"])
        .args(["-m", &MEGABYTES.to_string()])
        .args(["-smp", &PROCESSORS.to_string()])
        // The file server reads and writes the guest's memory.
        .arg("-object")
        .arg(format!(
            "memory-backend-memfd,id=memory,size={MEGABYTES}M,share=on"
        ))
        .args(["-numa", "node,memdev=memory"])
        .arg("-chardev")
        .arg(format!("socket,id=files,path={}", socket.display()))
        .arg("-device")
        .arg(format!("vhost-user-fs-pci,chardev=files,tag={ROOT_TAG}"))
        .arg("-serial")
        .arg(format!("file:{}", files.console().display()))
        .arg("-serial")
        .arg(format!("file:{}", files.results().display()));
    for card in ["one", "other"] {
        qemu.arg("-netdev")
            .arg(format!("hubport,id={card},hubid=0"))
            .arg("-device")
            .arg(format!("virtio-net-pci,netdev={card},romfile="));
    }
    qemu.arg("-kernel")
        .arg(&tree.image)
        .arg("-initrd")
        .arg(files.initramfs())
        .args(["-append", "console=ttyS0 panic=-1 quiet"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    qemu.spawn().context("cannot start qemu-system-x86_64")
}
