//! Fetches the page's library from the npm registry, as the lock file pins it: `npm ci` takes nothing whose SHA-512 is another
//! one. npm is asked because it knows the mirrors and the proxy that a site has set up for it.

use std::{
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Beside Cargo.toml.
const FOLDER: &str = "page";
/// What pins the library.
const PINS: [&str; 2] = ["package.json", "package-lock.json"];

/// Leaves the library in `page/node_modules` of the build's own folder.
pub fn fetch(setup: &str) -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?).join(FOLDER);
    let mut pins = Vec::new();
    for name in PINS {
        let file = Path::new(FOLDER).join(name);
        println!("cargo:rerun-if-changed={}", file.display());
        let text = fs::read(&file).with_context(|| file.display().to_string())?;
        pins.push((out.join(name), text));
    }
    let fetched = out.join("fetched");
    if fetched.exists()
        && pins
            .iter()
            .all(|(file, text)| fs::read(file).is_ok_and(|old| old == *text))
    {
        return Ok(());
    }
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    // One that was fetched halfway is not there.
    match fs::remove_file(&fetched) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| fetched.display().to_string());
        }
        _ => {}
    }
    for (file, text) in &pins {
        fs::write(file, text).with_context(|| file.display().to_string())?;
    }
    install(&out, setup)?;
    fs::write(&fetched, "").with_context(|| fetched.display().to_string())
}

fn install(folder: &Path, setup: &str) -> Result<()> {
    let output = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--omit=dev", "--prefer-offline"])
        .args(["--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("npm is missing, which fetches the library for the page's charts; {setup}")
        }
        Err(error) => return Err(error).context("npm cannot be started"),
    };
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`npm ci` in {} does not fetch the library for the page's charts: {}",
            folder.display(),
            words.trim()
        );
    }
    Ok(())
}
