//! A fenced host with notifiers, a scanner outside, and the peers that are told.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use palisade_tests::daemon::Mode;
use palisade_tests::policies::SHOP;
use palisade_tests::process::{Finished, wait_until};
use palisade_tests::topology::{EDGE, INSIDE, WIRE};
use palisade_tests::{Background, Daemon, Topology};
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::Value;

/// A host and its daemon, which is not started before its notifiers are known.
pub struct Scene {
    pub daemon: Home,
    pub world: Topology,
    quiet: &'static str,
}

impl Scene {
    /// Alerts are over a second after their cause.
    pub fn new() -> Result<Self> {
        Self::quiet_for("1s")
    }

    pub fn quiet_for(quiet: &'static str) -> Result<Self> {
        let world = Topology::untagged()?;
        let daemon = Daemon::prepare(&world.inside, SHOP, EDGE, Mode::Auto)?;
        Ok(Self {
            daemon: Home(daemon),
            world,
            quiet,
        })
    }

    /// The folder of the settings, at which relative paths start.
    pub fn folder(&self) -> PathBuf {
        self.daemon.0.folder().to_owned()
    }

    pub fn launch(&mut self, notifiers: &str) -> Result<()> {
        self.daemon.0.write_settings(
            &format!("interfaces = [\"{EDGE}\"]"),
            &format!(
                "[detect]\nquiet = \"{}\"\nport_scan = {{ window = \"3s\" }}\n{notifiers}",
                self.quiet
            ),
        )?;
        self.daemon.0.launch()
    }

    pub fn scan(&self, scanner: &str) -> Result<()> {
        self.world.add_client(scanner.parse()?)?;
        self.world.outside.run(&format!(
            "nmap -n -Pn -sS -p 1-100 --min-rate 100 --max-retries 0 -e {WIRE} -S {scanner} {}",
            INSIDE[0]
        ))?;
        Ok(())
    }

    /// Looks for secrets wherever people or programs look.
    pub fn shows_none_of(&self, secrets: &[&str]) -> Result<()> {
        let mut seen = vec![
            ("the log".to_owned(), self.daemon.log()),
            ("/metrics".to_owned(), self.daemon.scrape()?),
        ];
        for verb in ["status", "notify", "alerts", "incidents", "audit"] {
            for arguments in [vec![verb], vec![verb, "--json"]] {
                let said = self.daemon.try_palisade(&arguments)?;
                seen.push((format!("palisade {arguments:?}"), said.to_string()));
            }
        }
        let mut folders = vec![self.daemon.state_dir()];
        while let Some(folder) = folders.pop() {
            for file in fs::read_dir(&folder)? {
                let path = file?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
                    seen.push((path.display().to_string(), text));
                }
            }
        }
        for (place, text) in seen {
            for secret in secrets {
                if text.contains(secret) {
                    bail!("{secret} is in {place}:\n{text}");
                }
            }
        }
        Ok(())
    }
}

/// The daemon, with a verb that must fail.
pub struct Home(Daemon);

impl Home {
    /// Runs a verb that must fail, and gives all that it says.
    pub fn palisade_failing(&self, arguments: &[&str]) -> Result<String> {
        let Finished {
            status,
            stdout,
            stderr,
        } = self.0.try_palisade(arguments)?;
        if status.success() {
            bail!("`palisade {arguments:?}` succeeded: {stdout}{stderr}");
        }
        Ok(stdout + &stderr)
    }
}

impl std::ops::Deref for Home {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.0
    }
}

impl std::ops::DerefMut for Home {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.0
    }
}

/// Writes a file that only its owner can read.
pub fn private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, format!("{text}\n"))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(())
}

/// A certificate for 127.0.0.1 that vouches for itself, and its key.
pub fn self_signed(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let paths = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&paths.0, certificate.pem())?;
    fs::write(&paths.1, key.serialize_pem())?;
    Ok(paths)
}

/// A receiver of webhooks in the host's namespace.
pub struct Receiver {
    file: PathBuf,
    _running: Background,
}

impl Receiver {
    pub fn start(scene: &Scene, port: u16, secret: &str, mode: &str) -> Result<Self> {
        let file = scene.folder().join("received");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/notifications/receiver.py");
        let mut command = scene.world.inside.command("python3");
        command
            .arg(script)
            .arg(port.to_string())
            .arg(&file)
            .args([secret, mode])
            .stdin(Stdio::null());
        let mut running = Background::spawn(&mut command)?;
        let world = &scene.world.inside;
        wait_until("the receiver listens", Duration::from_secs(30), || {
            if !running.runs()? {
                bail!("the receiver ended");
            }
            let listening = world.run("ss --tcp --listening --numeric --no-header")?;
            Ok(listening.contains(&format!("127.0.0.1:{port} ")))
        })?;
        Ok(Self {
            file,
            _running: running,
        })
    }

    /// What it got so far.
    pub fn got(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        // A line without its end is being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }
}
