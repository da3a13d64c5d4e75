//! What the kernel starts from: it loads the modules that sharing the host's root takes, mounts that
//! root under a writable layer in memory, and goes over to it.

use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::tree::Tree;
use crate::shell;

/// What the guest's root is called between qemu and the guest.
pub const ROOT_TAG: &str = "root";
/// Needed before there is a root to load modules from; a kernel may have some built in.
const MODULES: [&str; 3] = ["virtio_pci", "virtiofs", "overlay"];

/// Writes the archive; once the root is mounted, `script` is run there.
pub fn write(tree: &Tree, script: &Path, archive: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    for each in ["bin", "modules", "proc", "host", "layer", "root"] {
        fs::create_dir(root.join(each))?;
    }
    let busybox = shell::program("busybox").context("busybox is missing")?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    for (index, file) in tree.files_of(&MODULES)?.iter().enumerate() {
        copy_module(file, &root.join(format!("modules/{index:02}.ko")))?;
    }
    let init = root.join("init");
    fs::write(&init, init_script(script))?;
    fs::set_permissions(&init, Permissions::from_mode(0o755))?;
    pack(root, archive)
}

fn init_script(script: &Path) -> String {
    format!(
        "#!/bin/busybox sh\n\
         b=/bin/busybox\n\
         fail() {{ echo \"init: $1\"; $b poweroff -f; }}\n\
         $b mount -t proc proc /proc\n\
         for module in /modules/*; do $b insmod $module || fail \"module $module\"; done\n\
         $b mount -t virtiofs -o ro {ROOT_TAG} /host || fail 'the shared root'\n\
         $b mount -t tmpfs -o mode=755 tmpfs /layer || fail 'a layer in memory'\n\
         $b mkdir /layer/upper /layer/work\n\
         $b mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work overlay /root \\\n\
         || fail 'the layer over the root'\n\
         $b umount /proc\n\
         exec $b switch_root /root /bin/sh {}\n",
        script.display()
    )
}

/// busybox loads no compressed module.
fn copy_module(from: &Path, to: &PathBuf) -> Result<()> {
    let unpack = match from.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => {
            fs::copy(from, to)?;
            return Ok(());
        }
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => bail!("{}: an unknown compression", from.display()),
    };
    shell::run(
        Command::new(unpack)
            .args(["--decompress", "--stdout", "--quiet"])
            .arg(from)
            .stdout(File::create(to)?),
    )
}

fn pack(root: &Path, archive: &Path) -> Result<()> {
    let mut names = String::new();
    list(root, root, &mut names)?;
    let mut cpio = Command::new("cpio");
    cpio.args(["--create", "--format=newc", "--quiet"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(File::create(archive)?);
    let mut child = cpio.spawn().context("cannot start `cpio`")?;
    child
        .stdin
        .take()
        .context("cpio has no standard input")?
        .write_all(names.as_bytes())?;
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed ({status})", shell::line(&cpio));
    }
    Ok(())
}

/// Folders before what is in them.
fn list(root: &Path, folder: &Path, names: &mut String) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.strip_prefix(root).unwrap_or(&path);
        names.push_str(&name.to_string_lossy());
        names.push('\n');
        if path.is_dir() {
            list(root, &path, names)?;
        }
    }
    Ok(())
}
