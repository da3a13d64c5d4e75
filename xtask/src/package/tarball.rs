//! The tarball: the same files, and a script that puts them in their places.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Release, install, tree::Tree};
use crate::shell;

/// Makes `palisade-VERSION-TARGET.tar.gz`.
pub fn make(tree: &Tree, release: &Release, work: &Path, output: &Path) -> Result<PathBuf> {
    let name = format!("palisade-{}-{}", release.version, release.target);
    let folder = work.join(&name);
    for file in tree.files()? {
        let from = tree.root().join(&file);
        let executable = ["usr/bin", "usr/libexec"]
            .iter()
            .any(|part| file.starts_with(part));
        let mode = if executable { 0o755 } else { 0o644 };
        install(&from, &folder.join("files").join(&file), mode)?;
    }
    let script = shell::root().join("packaging/tarball/install.sh");
    install(&script, &folder.join("install.sh"), 0o755)?;

    let archive = output.join(format!("{name}.tar.gz"));
    shell::run(
        shell::command("tar")
            .args([
                "--create",
                "--sort=name",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
            ])
            .args([
                "--mode=u+rwX,go=rX",
                "--use-compress-program=gzip --no-name",
            ])
            .arg(format!("--mtime=@{}", release.date))
            .arg("--directory")
            .arg(work)
            .arg("--file")
            .arg(&archive)
            .arg(&name),
    )?;
    Ok(archive)
}
