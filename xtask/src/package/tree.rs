//! The files of an installation, each where it will be: the program, what it says about itself, and
//! what lies in `packaging/` and `docs/`.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{files_below, install, write};
use crate::shell;

pub const DOCUMENTATION: &str = "usr/share/doc/palisade";
/// Host settings before the interfaces are known: an installation makes its own of them.
pub const SETTINGS: &str = "usr/share/palisade/palisade.toml";
/// Edited by people, and so never overwritten.
pub const POLICY: &str = "etc/palisade/policy.toml";

/// Where completions go, and for which shell.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/palisade"),
    ("zsh", "usr/share/zsh/vendor-completions/_palisade"),
    ("fish", "usr/share/fish/vendor_completions.d/palisade.fish"),
];

/// Files that are taken as they are.
const COPIED: [(&str, &str, u32); 10] = [
    (
        "packaging/systemd/palisade.service",
        "usr/lib/systemd/system/palisade.service",
        0o644,
    ),
    (
        "packaging/scripts/first-settings",
        "usr/libexec/palisade/first-settings",
        0o755,
    ),
    (
        "packaging/scripts/take-over",
        "usr/libexec/palisade/take-over",
        0o755,
    ),
    ("packaging/etc/palisade.toml", SETTINGS, 0o644),
    ("packaging/etc/policy.toml", POLICY, 0o644),
    (
        "packaging/debian/copyright",
        "usr/share/doc/palisade/copyright",
        0o644,
    ),
    ("README.md", "usr/share/doc/palisade/README.md", 0o644),
    ("LICENSE-MIT", "usr/share/doc/palisade/LICENSE-MIT", 0o644),
    (
        "LICENSE-APACHE",
        "usr/share/doc/palisade/LICENSE-APACHE",
        0o644,
    ),
    (
        "LICENSE-GPL-2.0",
        "usr/share/doc/palisade/LICENSE-GPL-2.0",
        0o644,
    ),
];

/// Folders of which all files are taken, but for those whose name ends so.
const FOLDERS: [(&str, &str, &str); 4] = [
    (
        "packaging/prometheus",
        "usr/share/palisade/prometheus",
        ".test.yml",
    ),
    ("packaging/grafana", "usr/share/palisade/grafana", ".md"),
    ("docs", "usr/share/doc/palisade/docs", "part.json"),
    ("examples", "usr/share/doc/palisade/examples", ".rs"),
];

/// The folder that stands for `/`.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    pub fn make(root: &Path, binary: &Path) -> Result<Self> {
        let tree = Self {
            root: root.to_owned(),
        };
        tree.add_program(binary)?;
        tree.add_manual(binary)?;
        for (shell, path) in COMPLETIONS {
            let mut program = shell::command(binary);
            let script =
                shell::output_of(program.args(["completions", shell])).with_context(|| {
                    format!("{} prints no completions for {shell}", binary.display())
                })?;
            write(&tree.path(path), format!("{script}\n").as_bytes(), 0o644)?;
        }
        for (from, to, mode) in COPIED {
            install(&shell::root().join(from), &tree.path(to), mode)?;
        }
        for (from, to, but) in FOLDERS {
            tree.add_folder(&shell::root().join(from), to, but)?;
        }
        tree.add_compressed(
            &shell::root().join("CHANGELOG.md"),
            &format!("{DOCUMENTATION}/changelog"),
        )?;
        Ok(tree)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    /// Every file, by its path without the leading slash.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        files_below(&self.root)
    }

    /// Folders are made under whatever umask there is.
    pub fn open_folders(&self) -> Result<()> {
        for file in self.files()? {
            for folder in file.ancestors().skip(1) {
                fs::set_permissions(self.root.join(folder), Permissions::from_mode(0o755))?;
            }
        }
        Ok(())
    }

    /// Without what only a debugger reads; functions keep their names in a panic's trace.
    fn add_program(&self, binary: &Path) -> Result<()> {
        let program = self.path("usr/bin/palisade");
        install(binary, &program, 0o755)?;
        shell::run(shell::command("strip").arg("--strip-debug").arg(&program))
    }

    fn add_manual(&self, binary: &Path) -> Result<()> {
        let folder = self.path("usr/share/man/man1");
        shell::run(
            shell::command(binary)
                .args(["man", "--directory"])
                .arg(&folder),
        )?;
        for page in files_below(&folder)? {
            compress(&folder.join(page))?;
        }
        Ok(())
    }

    /// A folder that is not there has nothing to add.
    fn add_folder(&self, from: &Path, to: &str, but: &str) -> Result<()> {
        if !from.is_dir() {
            return Ok(());
        }
        for file in files_below(from)? {
            if !file.to_string_lossy().ends_with(but) {
                install(&from.join(&file), &self.path(to).join(&file), 0o644)?;
            }
        }
        Ok(())
    }

    fn add_compressed(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.path(to);
        install(from, &to, 0o644)?;
        compress(&to)
    }
}

/// Adds `.gz` to a file's name, without writing the time into it.
pub fn compress(file: &Path) -> Result<()> {
    fs::set_permissions(file, Permissions::from_mode(0o644))?;
    shell::run(
        shell::command("gzip")
            .args(["-9", "--no-name", "--force"])
            .arg(file),
    )
}
