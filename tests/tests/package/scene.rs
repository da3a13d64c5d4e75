//! The packages, made of the program under test, and a machine to install them on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use palisade_tests::process::succeed;
use palisade_tests::{
    Machine, Topology, daemon, debian_root, need_tools, skip_unless_root, skipped,
};

/// Two versions of the same program, each as a package and as a tarball.
pub struct Packages {
    folder: tempfile::TempDir,
}

impl Packages {
    /// Made once for all tests of this process.
    pub fn get() -> Result<&'static Self> {
        static MADE: OnceLock<Result<Packages, String>> = OnceLock::new();
        match MADE.get_or_init(|| Self::make().map_err(|error| format!("{error:#}"))) {
            Ok(packages) => Ok(packages),
            Err(error) => bail!("{error}"),
        }
    }

    fn make() -> Result<Self> {
        need_tools(&["dpkg-deb", "dpkg-shlibdeps", "strip"])?;
        let folder = tempfile::Builder::new()
            .prefix("packages-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        for suffix in ["+1", "+2"] {
            let mut command = match std::env::var_os("PALISADE_XTASK") {
                Some(xtask) => Command::new(xtask),
                None => {
                    let mut cargo = Command::new("cargo");
                    cargo.args(["run", "--quiet", "--package", "xtask", "--"]);
                    cargo
                }
            };
            command
                .args(["package", "--version-suffix", suffix, "--binary"])
                .arg(daemon::palisade()?)
                .arg("--output")
                .arg(folder.path());
            succeed(&mut command)?;
        }
        Ok(Self { folder })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The package or tarball of a version.
    pub fn path(&self, suffix: &str, end: &str) -> Result<PathBuf> {
        let wanted = |path: &PathBuf| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.contains(suffix) && name.ends_with(end))
        };
        let mut files = std::fs::read_dir(self.folder())?
            .flatten()
            .map(|entry| entry.path());
        let found = files.find(wanted);
        found.with_context(|| format!("no {end} of version {suffix}"))
    }

    /// The same as the machine sees it.
    pub fn file(&self, suffix: &str, end: &str) -> Result<String> {
        let found = self.path(suffix, end)?;
        let name = found.file_name().unwrap_or_default().to_string_lossy();
        Ok(format!("/shared/{name}"))
    }
}

/// A wire, and a clean machine at its inner end.
pub struct Scene {
    pub machine: Machine,
    pub world: Topology,
    pub packages: &'static Packages,
}

impl Scene {
    /// `None`, having said why, where machines cannot be had.
    pub fn set() -> Result<Option<Self>> {
        let Some((root, packages)) = Self::parts()? else {
            return Ok(None);
        };
        let world = Topology::untagged()?;
        let machine = Machine::boot(&root, &world.inside, packages.folder())?;
        Ok(up(machine).map(|machine| Self {
            machine,
            world,
            packages,
        }))
    }

    /// A clean root and the packages; `None`, having said why, where they cannot be had.
    pub fn parts() -> Result<Option<(PathBuf, &'static Packages)>> {
        if skip_unless_root() {
            return Ok(None);
        }
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-root");
        let root = match debian_root::get(&kept)? {
            Ok(root) => root,
            Err(why) => {
                skipped(&why);
                return Ok(None);
            }
        };
        Ok(Some((root, Packages::get()?)))
    }

    /// Installs a version of the Debian package; what dpkg said.
    pub fn install(&self, suffix: &str) -> Result<String> {
        let package = self.packages.file(suffix, ".deb")?;
        self.machine.run(&format!("dpkg --install {package}"))
    }

    /// Puts a policy into the daemon's file and in force.
    pub fn enforce(&self, policy: &str) -> Result<()> {
        self.machine.write("/etc/palisade/policy.toml", policy)?;
        self.machine.run("palisade apply")?;
        Ok(())
    }
}

/// The machine, or nothing, having said why.
pub fn up(machine: Result<Machine, String>) -> Option<Machine> {
    machine.inspect_err(|why| skipped(why)).ok()
}
