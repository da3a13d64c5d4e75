//! The Debian package.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    Release, install,
    tree::{self, DOCUMENTATION, POLICY, Tree},
    write,
};
use crate::shell;

/// The scripts that dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// Who answers for a package is who makes it: Debian's tools take it from DEBFULLNAME and DEBEMAIL.
const MAINTAINER: [(&str, &str); 2] = [
    ("DEBFULLNAME", "The Palisade authors"),
    ("DEBEMAIL", "palisade@localhost"),
];
const OVERRIDES: &str = "usr/share/lintian/overrides/palisade";
/// What the scripts use, besides what every Debian has.
const SCRIPTS_NEED: &str = "passwd, init-system-helpers (>= 1.52)";

/// Makes `palisade_VERSION_ARCHITECTURE.deb`.
pub fn make(tree: &Tree, release: &Release, work: &Path, output: &Path) -> Result<PathBuf> {
    let version = format!("{}-1", release.version);
    let changelog = tree.path(&format!("{DOCUMENTATION}/changelog.Debian"));
    write(&changelog, changes(&version, release).as_bytes(), 0o644)?;
    tree::compress(&changelog)?;

    let overrides = shell::root().join("packaging/debian/lintian-overrides");
    install(&overrides, &tree.path(OVERRIDES), 0o644)?;

    let control = tree.path("DEBIAN");
    let needs = needed_libraries(tree, work)?;
    let sums = sums(tree)?;
    let text = describe(&version, release, &needs, size_of(tree)?);
    write(&control.join("control"), text.as_bytes(), 0o644)?;
    write(
        &control.join("conffiles"),
        format!("/{POLICY}\n").as_bytes(),
        0o644,
    )?;
    write(&control.join("md5sums"), sums.as_bytes(), 0o644)?;
    for script in SCRIPTS {
        let from = shell::root().join("packaging/debian").join(script);
        install(&from, &control.join(script), 0o755)?;
    }
    tree.open_folders()?;

    let package = output.join(format!("palisade_{version}_{}.deb", release.architecture));
    shell::run(
        shell::command("dpkg-deb")
            .args(["--root-owner-group", "-Zxz", "-z3", "--build"])
            .arg(tree.root())
            .arg(&package)
            .env("SOURCE_DATE_EPOCH", release.date.to_string())
            .stdout(std::process::Stdio::null()),
    )?;
    Ok(package)
}

fn describe(version: &str, release: &Release, needs: &str, kilobytes: u64) -> String {
    format!(
        "Package: palisade\n\
         Version: {version}\n\
         Architecture: {}\n\
         Maintainer: {}\n\
         Section: net\n\
         Priority: optional\n\
         Installed-Size: {kilobytes}\n\
         Depends: {needs}, {SCRIPTS_NEED}\n\
         Suggests: prometheus, prometheus-alertmanager\n\
         Description: perimeter firewall and traffic anomaly detector\n \
         Palisade judges every packet in the kernel (XDP and tc programs) by one file\n \
         of rules, counts who sends what, raises alerts, and bans who misbehaves if\n \
         told to. It is installed in observe mode: nothing is dropped until the\n \
         policy says so.\n",
        release.architecture,
        maintainer(),
    )
}

fn changes(version: &str, release: &Release) -> String {
    let date = shell::output_of(
        shell::command("date")
            .args(["--utc", "--rfc-email", "--date"])
            .arg(format!("@{}", release.date)),
    )
    .unwrap_or_else(|| "Thu, 01 Jan 1970 00:00:00 +0000".to_owned());
    format!(
        "palisade ({version}) stable; urgency=medium\n\n  \
         * What is new is in changelog.gz.\n\n -- {}  {date}\n",
        maintainer()
    )
}

fn maintainer() -> String {
    let [name, address] =
        MAINTAINER.map(|(variable, otherwise)| env::var(variable).unwrap_or(otherwise.to_owned()));
    format!("{name} <{address}>")
}

/// The packages of the shared libraries that the program needs, with the oldest versions that do.
fn needed_libraries(tree: &Tree, work: &Path) -> Result<String> {
    // dpkg-shlibdeps works in the source folder of a package alone.
    let folder = work.join("source");
    let control = "Source: palisade\n\nPackage: palisade\nArchitecture: any\n";
    write(&folder.join("debian/control"), control.as_bytes(), 0o644)?;
    let mut tool = shell::command("dpkg-shlibdeps");
    tool.arg("-O")
        .arg(tree.path("usr/bin/palisade"))
        .current_dir(&folder);
    let answer =
        shell::output_of(&mut tool).with_context(|| format!("`{}` failed", shell::line(&tool)))?;
    answer
        .lines()
        .find_map(|line| line.strip_prefix("shlibs:Depends="))
        .map(str::to_owned)
        .with_context(|| format!("dpkg-shlibdeps names no libraries: {answer}"))
}

fn sums(tree: &Tree) -> Result<String> {
    let mut tool = shell::command("md5sum");
    tool.current_dir(tree.root());
    for file in tree.files()? {
        if file != Path::new(POLICY) {
            tool.arg(file);
        }
    }
    let sums = shell::output_of(&mut tool).context("md5sum cannot read the files")?;
    Ok(format!("{sums}\n"))
}

fn size_of(tree: &Tree) -> Result<u64> {
    let mut kilobytes = 0;
    for file in tree.files()? {
        kilobytes += fs::metadata(tree.root().join(file))?.len().div_ceil(1024);
    }
    Ok(kilobytes)
}
