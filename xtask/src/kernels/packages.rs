//! Debian's packages of kernels, from suites that are not this machine's: asked for through an apt
//! configuration of their own, and kept. Nothing is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};

use super::{catalogue::Kernel, version::newest_first};
use crate::shell;

/// How old the lists of packages may be before they are fetched anew.
const LISTS_AGE: Duration = Duration::from_secs(24 * 3600);
const UPDATE_LIMIT: Duration = Duration::from_secs(180);
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MIRROR: &str = "http://deb.debian.org/debian/";
const SECURITY_MIRROR: &str = "http://deb.debian.org/debian-security/";

/// The packages of the newest release of a kernel: fetched, or from an earlier run where the mirror
/// cannot be asked.
pub fn packages(kernel: &Kernel, folder: &Path) -> Result<Vec<PathBuf>> {
    let kept = folder.join("packages");
    fs::create_dir_all(&kept)?;
    match fetched(kernel, folder, &kept) {
        Ok(packages) => Ok(packages),
        Err(error) => {
            let names = names_of(&kept)?;
            let Some(packages) = kernel.newest_packages(&names) else {
                return Err(error);
            };
            println!("kernels: {kernel}: {error:#}; going on with the packages of an earlier run");
            files(&packages, &kept)
        }
    }
}

fn fetched(kernel: &Kernel, folder: &Path, kept: &Path) -> Result<Vec<PathBuf>> {
    let apt = Apt::configure(kernel, folder)?;
    apt.update_if_old()?;
    let offered = apt.offered()?;
    let packages = kernel
        .newest_packages(&offered)
        .with_context(|| format!("no cloud kernel {kernel} in {}", kernel.suites.join(", ")))?;
    let missing: Vec<&String> = packages
        .iter()
        .filter(|package| newest_file(package, kept).is_none())
        .collect();
    if !missing.is_empty() {
        println!("kernels: {kernel}: downloading {}", list(&missing));
        let mut download = apt.command("apt-get");
        download
            .args(["download", "--quiet", "--quiet"])
            // As the user that apt takes otherwise it may not write here.
            .args(["-o", "APT::Sandbox::User=root"])
            .args(&missing)
            .current_dir(kept);
        shell::run_within(&mut download, DOWNLOAD_LIMIT)?;
    }
    files(&packages, kept)
}

fn list(names: &[&String]) -> String {
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    names.join(", ")
}

fn files(packages: &[String], kept: &Path) -> Result<Vec<PathBuf>> {
    let file = |package: &String| {
        newest_file(package, kept)
            .with_context(|| format!("{package} is not in {}", kept.display()))
    };
    packages.iter().map(file).collect()
}

/// A package may be there in several revisions.
fn newest_file(package: &str, kept: &Path) -> Option<PathBuf> {
    let mut files: Vec<String> = file_names(kept)
        .ok()?
        .into_iter()
        .filter(|name| {
            name.strip_prefix(package)
                .is_some_and(|rest| rest.starts_with('_'))
        })
        .collect();
    files.sort_by(|one, other| newest_first(one, other));
    files.first().map(|name| kept.join(name))
}

fn names_of(kept: &Path) -> Result<Vec<String>> {
    let name = |file: String| file.split('_').next().map(str::to_owned);
    Ok(file_names(kept)?.into_iter().filter_map(name).collect())
}

fn file_names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".deb") {
            names.push(name);
        }
    }
    Ok(names)
}

/// apt with sources, lists and caches of its own.
struct Apt {
    configuration: PathBuf,
    folder: PathBuf,
}

impl Apt {
    fn configure(kernel: &Kernel, folder: &Path) -> Result<Self> {
        if shell::program("apt-get").is_none() {
            bail!("there is no apt-get here to fetch Debian's kernels with");
        }
        let folder = folder.join("apt").join(kernel.version);
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("archives/partial"))?;
        fs::create_dir_all(folder.join("none"))?;
        let (mirror, security) = mirrors();
        let mut sources = String::new();
        for suite in kernel.suites {
            let mirror = if suite.ends_with("-security") {
                &security
            } else {
                &mirror
            };
            sources += &format!("deb [arch=amd64 signed-by={KEYRING}] {mirror} {suite} main\n");
        }
        fs::write(folder.join("sources.list"), sources)?;
        let place = folder.display();
        let configuration = folder.join("apt.conf");
        fs::write(
            &configuration,
            format!(
                "Dir::Etc::sourcelist \"{place}/sources.list\";\n\
                 Dir::Etc::sourceparts \"{place}/none\";\n\
                 Dir::Etc::preferences \"{place}/none/none\";\n\
                 Dir::Etc::preferencesparts \"{place}/none\";\n\
                 Dir::State::lists \"{place}/lists\";\n\
                 Dir::Cache \"{place}\";\n"
            ),
        )?;
        Ok(Self {
            configuration,
            folder,
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = shell::command(program);
        command.env("APT_CONFIG", &self.configuration);
        command
    }

    fn update_if_old(&self) -> Result<()> {
        let mark = self.folder.join("updated");
        let age = mark
            .metadata()
            .and_then(|data| data.modified())
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_some_and(|age| age < LISTS_AGE) {
            return Ok(());
        }
        let mut update = self.command("apt-get");
        update
            .args(["update", "--quiet", "--quiet", "--error-on=any"])
            .args(["-o", "Acquire::Retries=1", "-o", "Acquire::Languages=none"])
            .args(["-o", "APT::Sandbox::User=root"]);
        shell::run_within(&mut update, UPDATE_LIMIT)?;
        Ok(fs::write(mark, "")?)
    }

    /// The names of all kernel packages.
    fn offered(&self) -> Result<Vec<String>> {
        let names = shell::output_of(self.command("apt-cache").args(["pkgnames", "linux-"]))
            .context("apt-cache does not list the packages")?;
        Ok(names.lines().map(str::to_owned).collect())
    }
}

/// The mirrors of Debian and of its security updates that this machine's own sources name.
fn mirrors() -> (String, String) {
    let targets = shell::output_of(shell::command("apt-get").args([
        "indextargets",
        "--format",
        "$(LABEL) $(REPO_URI)",
        "Created-By: Packages",
    ]))
    .unwrap_or_default();
    let of = |label: &str, otherwise: &str| {
        targets
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(its, _)| *its == label)
            .map_or_else(|| otherwise.to_owned(), |(_, mirror)| mirror.to_owned())
    };
    (of("Debian", MIRROR), of("Debian-Security", SECURITY_MIRROR))
}
