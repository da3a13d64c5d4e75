//! Palisade on guard at a real interface, for as long as this runs. It only watches unless told
//! to enforce, so that nobody locks themselves out by trying it.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use toml_edit::{DocumentMut, Item, value};

use super::interrupt;

pub fn guard(program: &Path, interface: &str, policy: &Path, enforce: bool) -> Result<()> {
    let policy = policy
        .canonicalize()
        .with_context(|| format!("the policy {} cannot be read", policy.display()))?;
    let home = Home::make(interface, &policy, enforce)?;
    let mut daemon = home.start(program)?;
    let watch = home.wait_until_up(&mut daemon).and_then(|()| {
        home.greet(program, interface, enforce);
        stay(&mut daemon)
    });
    home.take_down(program, &mut daemon)?;
    watch?;
    println!("the fence at {interface} is down");
    Ok(())
}

/// Waits for Ctrl-C; an error if the daemon ends before it.
fn stay(daemon: &mut Child) -> Result<()> {
    while !interrupt::asked() {
        if let Some(status) = daemon.try_wait()? {
            bail!("the daemon ended by itself ({status}); the fence is taken down");
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// The folders and files of this guard, gone at its end.
struct Home {
    folder: tempfile::TempDir,
    pins: PathBuf,
}

impl Home {
    fn make(interface: &str, policy: &Path, enforce: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("palisade-run-").tempdir()?;
        let pins = PathBuf::from(format!("/sys/fs/bpf/palisade-run-{}", std::process::id()));
        let home = Self { folder, pins };
        let in_force = if enforce {
            policy.to_owned()
        } else {
            let copy = home.folder.path().join("policy.toml");
            let text = fs::read_to_string(policy)
                .with_context(|| format!("the policy {} cannot be read", policy.display()))?;
            let beside = policy.parent().unwrap_or(Path::new("/"));
            fs::write(&copy, observing(&text, beside)?)?;
            copy
        };
        let mut settings = DocumentMut::new();
        settings["interfaces"] = value(toml_edit::Array::from_iter([interface]));
        for (key, path) in [
            ("policy", in_force),
            ("state_dir", home.folder.path().join("state")),
            ("socket", home.socket()),
            ("pin_dir", home.pins.clone()),
        ] {
            settings[key] = value(path.display().to_string());
        }
        fs::create_dir(home.folder.path().join("state"))?;
        fs::write(home.settings(), settings.to_string())?;
        Ok(home)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    fn settings(&self) -> PathBuf {
        self.folder.path().join("palisade.toml")
    }

    /// The daemon does not hear Ctrl-C itself: it must be there to take the fence down first.
    fn start(&self, program: &Path) -> Result<Child> {
        Command::new(program)
            .args(["daemon", "--config"])
            .arg(self.settings())
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))
    }

    fn wait_until_up(&self, daemon: &mut Child) -> Result<()> {
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            if let Some(status) = daemon.try_wait()? {
                bail!("the daemon did not start ({status}); its last words are above");
            }
            if started.elapsed() > Duration::from_secs(30) {
                bail!("the daemon's control socket does not answer");
            }
            interrupt::check()?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn greet(&self, program: &Path, interface: &str, enforce: bool) {
        let does = if enforce {
            "ENFORCES the policy"
        } else {
            "only watches: it drops nothing and counts what it would have dropped; --enforce changes that"
        };
        let program = program.display();
        println!("\nPalisade stands at {interface} and {does}.");
        println!("Ctrl-C here takes it down. In another terminal, as root:");
        println!("  export PALISADE_SOCKET={}", self.socket().display());
        println!("  {program} status | top | alerts | bans | rule list");
        println!("  curl http://127.0.0.1:9477/metrics");
        println!("  {program} detach      takes the fence down at once");
        println!(
            "  rm -r {}      takes it down even if nothing else works\n",
            self.pins.display()
        );
    }

    fn take_down(&self, program: &Path, daemon: &mut Child) -> Result<()> {
        if daemon.try_wait()?.is_none() {
            let detached = Command::new(program)
                .arg("detach")
                .env("PALISADE_SOCKET", self.socket())
                .stdin(Stdio::null())
                .status();
            if !detached.is_ok_and(|status| status.success()) {
                eprintln!("`palisade detach` failed; removing the pins instead");
            }
            // It has nothing left to keep.
            daemon.kill()?;
        }
        daemon.wait()?;
        if self.pins.exists() {
            fs::remove_dir_all(&self.pins)
                .with_context(|| format!("{} cannot be removed", self.pins.display()))?;
        }
        Ok(())
    }
}

/// The policy in observe mode, with the files of its sets found from anywhere.
fn observing(policy: &str, beside: &Path) -> Result<String> {
    let mut document: DocumentMut = policy.parse().context("the policy is no TOML")?;
    document["defaults"]["mode"] = value("observe");
    if let Some(sets) = document.get_mut("sets").and_then(Item::as_table_like_mut) {
        for (_, set) in sets.iter_mut() {
            let file = set
                .as_table_like()
                .and_then(|set| set.get("file"))
                .and_then(Item::as_str)
                .map(|file| beside.join(file).display().to_string());
            if let (Some(file), Some(set)) = (file, set.as_table_like_mut()) {
                set.insert("file", value(file));
            }
        }
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observing_policy_differs_only_in_its_mode_and_in_where_it_finds_its_files() {
        let policy = "version = 1\n\n[sets]\nhostile = { file = \"hostile.netset\" }\nown = [\"198.51.100.0/24\"]\n\n# why\n[[rule]]\nname = \"shop\"\n";
        let observing = observing(policy, Path::new("/etc/palisade")).expect("it is TOML");
        assert!(observing.contains("mode = \"observe\""), "{observing}");
        assert!(
            observing.contains("file = \"/etc/palisade/hostile.netset\""),
            "{observing}"
        );
        assert!(observing.contains("# why\n[[rule]]"), "{observing}");
        assert!(
            observing.contains("own = [\"198.51.100.0/24\"]"),
            "{observing}"
        );
    }

    #[test]
    fn an_enforcing_mode_is_overruled() {
        let policy = "version = 1\n[defaults]\nmode = \"enforce\"\ninbound = \"drop\"\n";
        let observing = observing(policy, Path::new("/")).expect("it is TOML");
        assert!(!observing.contains("enforce"), "{observing}");
        assert!(observing.contains("inbound = \"drop\""), "{observing}");
    }
}
