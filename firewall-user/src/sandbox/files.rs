//! The file system, by Landlock: what the daemon may open, and what it may change.
//!
//! A rule holds for a folder and all below it. Files that are replaced by renaming (policies, lists,
//! certificates, the daemon's own state) get another inode, so it is their folder that is named.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

/// What the restrictions are written for; older kernels know less and do what they can.
const KNOWN: ABI = ABI::V6;

/// What may be done with a folder or a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Folder {
    /// Files are read.
    Read,
    /// Files that are there are read and written.
    Write,
    /// A socket is made and removed.
    Sockets,
    /// Everything that a folder of its own takes.
    Own,
}

/// All that the daemon may open.
#[derive(Clone, Debug, Default)]
pub struct Files(Vec<(PathBuf, Folder)>);

impl Files {
    /// What every daemon needs, whatever its settings.
    pub fn common() -> Self {
        let mut files = Self::default();
        // Its own figures; which boot this is, and which kernel; routes and sockets are looked at by
        // another process.
        files.add("/proc/self", Folder::Read);
        files.add("/proc/stat", Folder::Read);
        files.add("/proc/meminfo", Folder::Read);
        files.add("/proc/sys/kernel/random/boot_id", Folder::Read);
        files.add("/proc/sys/kernel/osrelease", Folder::Read);
        files.add("/proc/sys/vm/overcommit_memory", Folder::Read);
        // tcp_syncookies and tcp_timestamps; one cannot be named without a folder's worth of others.
        files.add("/proc/sys/net/ipv4", Folder::Write);
        // What the loader asks of the kernel. It would read the kernel's types as well (/sys/kernel/btf), with which
        // no program of the fence has to do: that takes longer than to make all maps, and a host waits for it.
        files.add("/sys/devices/system/cpu", Folder::Read);
        files.add("/dev/null", Folder::Write);
        files.add("/dev/urandom", Folder::Read);
        // Names of other hosts, users and time zones; who vouches for other hosts.
        for file in [
            "/etc/ssl/certs",
            "/usr/share/ca-certificates",
            "/usr/local/share/ca-certificates",
            "/etc/pki/tls/certs",
            "/etc/pki/ca-trust/extracted",
            "/etc/hosts",
            "/etc/host.conf",
            "/etc/nsswitch.conf",
            "/etc/gai.conf",
            "/etc/passwd",
            "/etc/group",
            "/etc/localtime",
            "/usr/share/zoneinfo",
        ] {
            files.add(file, Folder::Read);
        }
        if let Some(credentials) = std::env::var_os("CREDENTIALS_DIRECTORY") {
            files.add(credentials, Folder::Read);
        }
        files
    }

    pub fn add(&mut self, path: impl AsRef<Path>, folder: Folder) {
        self.0.push((path.as_ref().to_owned(), folder));
    }

    /// A file that may be replaced: what lies beside it may be read too. Where it is a link, so may what lies
    /// beside that which it names. In a folder of everybody's it is the file alone, as it is now.
    pub fn add_beside(&mut self, file: &Path) {
        let mut add = |file: &Path| match file.parent() {
            Some(folder) if !is_shared(folder) => self.add(folder, Folder::Read),
            _ => self.add(file, Folder::Read),
        };
        add(file);
        if let Ok(target) = file.canonicalize() {
            add(&target);
        }
    }
}

/// Whether a folder holds what belongs to many: whoever keeps a file there gets no more than that file.
fn is_shared(folder: &Path) -> bool {
    const SHARED: [&str; 14] = [
        "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/proc", "/root", "/run", "/sys",
        "/tmp", "/usr", "/var",
    ];
    SHARED.iter().any(|shared| folder == Path::new(shared))
}

impl Folder {
    fn rights(self, is_folder: bool) -> BitFlags<AccessFs> {
        let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        let rights = match self {
            Self::Read => read,
            Self::Write => read | AccessFs::WriteFile | AccessFs::Truncate,
            Self::Sockets => make_bitflags!(AccessFs::{ReadDir | MakeSock | RemoveFile}),
            Self::Own => {
                read | make_bitflags!(AccessFs::{
                    WriteFile | Truncate | MakeReg | MakeDir | MakeSock | RemoveFile | RemoveDir | Refer
                })
            }
        };
        if is_folder {
            rights
        } else {
            rights & AccessFs::from_file(KNOWN)
        }
    }
}

/// Restricts the calling thread. How far, and what must stay open: `/proc` gives a folder another inode
/// once nobody holds it.
pub(super) fn restrict(files: &Files) -> anyhow::Result<(&'static str, Vec<OwnedFd>)> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?;
    // Nothing is asked of abstract sockets but, in some containers, by whoever watches over services.
    let ruleset = if told_by_abstract_socket() {
        ruleset.scope(Scope::Signal)?
    } else {
        ruleset.scope(Scope::from_all(KNOWN))?
    };
    let mut ruleset = ruleset.create()?;
    let mut held = Vec::new();
    for (path, folder) in &files.0 {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = match open(path, flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let rights = folder.rights(path.is_dir());
        ruleset = ruleset
            .add_rule(PathBeneath::new(&opened, rights))
            .with_context(|| path.display().to_string())?;
        held.push(opened);
    }
    let status = ruleset.restrict_self()?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(("full", held)),
        RulesetStatus::PartiallyEnforced => Ok(("partial", held)),
        RulesetStatus::NotEnforced => {
            anyhow::bail!("this kernel has no Landlock, or it is not among its `lsm=` modules")
        }
    }
}

fn told_by_abstract_socket() -> bool {
    std::env::var_os("NOTIFY_SOCKET")
        .is_some_and(|socket| socket.as_encoded_bytes().starts_with(b"@"))
}
