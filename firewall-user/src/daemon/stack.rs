//! How the host's TCP stack has to be set for SYN cookies that it did not send itself, and that it
//! is set back afterwards: also by the next daemon, if this one is killed.
//!
//! `tcp_syncookies = 2` has the stack answer with cookies too, so that it shows how, and take those that
//! come back. `tcp_timestamps = 2` leaves out the offset that each client's timestamps have otherwise: the
//! options of a client travel in the timestamp, and only the stack knows that offset.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{error, info};

use crate::detect::Time;

/// Where the settings are, of the network namespace of whoever looks.
const PROC: &str = "/proc/sys/net/ipv4";
/// Handshakes that are under way when cookies are no longer sent have so long to end.
const DRAIN: Time = 5_000_000_000;

const COOKIES: &str = "tcp_syncookies";
const TIMESTAMPS: &str = "tcp_timestamps";
const SCALING: &str = "tcp_window_scaling";
/// What both are set to.
const WANTED: &str = "2";

/// What the stack was set to before, in the state folder while it is set otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The boot and the network namespace that this is about.
    place: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cookies: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamps: Option<String>,
}

/// The stack's settings.
#[derive(Debug)]
pub struct Stack {
    folder: PathBuf,
    place: String,
    kept: Option<Kept>,
    /// When what is left is set back.
    drained: Option<Time>,
}

/// What the stack can be relied on for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Not for reading a client's options back from a timestamp.
    pub plain: bool,
}

impl Stack {
    /// `kept` is what an earlier daemon left in its file.
    pub fn new(kept: Option<Kept>) -> Self {
        Self::within(Path::new(PROC), &place(), kept)
    }

    fn within(folder: &Path, place: &str, kept: Option<Kept>) -> Self {
        Self {
            folder: folder.to_owned(),
            place: place.to_owned(),
            // After a boot, or in another namespace, the settings are nobody's doing.
            kept: kept.filter(|kept| kept.place == place),
            drained: None,
        }
    }

    /// What must be in the file before anything is changed, and until it is set back.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// Notes what [`Self::prepare`] is going to change, so that it can be written down before.
    pub fn note(&mut self) -> Result<(), String> {
        self.drained = None;
        let mut kept = self.kept.clone().unwrap_or_else(|| Kept {
            place: self.place.clone(),
            ..Kept::default()
        });
        let cookies = self.read(COOKIES)?;
        if cookies != WANTED {
            kept.cookies.get_or_insert(cookies);
        }
        // 0 is an administrator's wish, and goes without.
        if self
            .read(TIMESTAMPS)
            .is_ok_and(|timestamps| timestamps == "1")
        {
            kept.timestamps.get_or_insert_with(|| "1".to_owned());
        }
        self.kept = Some(kept);
        Ok(())
    }

    /// Sets the stack as it has to be, after [`Self::note`]. Also when somebody else changed it meanwhile.
    pub fn prepare(&mut self) -> Result<Ready, String> {
        if self
            .read(TIMESTAMPS)
            .is_ok_and(|timestamps| timestamps == "1")
            && let Err(why) = self.write(TIMESTAMPS, WANTED)
        {
            info!("connections made by SYN cookies will do without window scaling: {why}");
        }
        if self.read(COOKIES)? != WANTED {
            self.write(COOKIES, WANTED)?;
        }
        let is = |name: &str, value: &str| self.read(name).is_ok_and(|found| found == value);
        Ok(Ready {
            plain: !is(TIMESTAMPS, WANTED) || !is(SCALING, "1"),
        })
    }

    /// No cookie is sent any more: lets handshakes end, then sets back. Whether all is as it was.
    pub fn release(&mut self, now: Time) -> bool {
        let Some(kept) = self.kept.clone() else {
            return true;
        };
        let Some(drained) = self.drained else {
            // The stack's own cookies must not outlive the clock that their timestamps were made by. Cookies
            // that are under way are taken as long as it knows them at all.
            if kept
                .cookies
                .as_deref()
                .is_some_and(|cookies| cookies != "0")
            {
                self.set_back(COOKIES, kept.cookies);
            }
            self.drained = Some(now.saturating_add(DRAIN));
            return false;
        };
        if now < drained && drained - now <= DRAIN {
            return false;
        }
        if let Some(Kept {
            cookies,
            timestamps,
            ..
        }) = self.kept.take()
        {
            self.set_back(COOKIES, cookies);
            self.set_back(TIMESTAMPS, timestamps);
        }
        self.drained = None;
        true
    }

    /// Sets a value back, unless it is another one than was set here: then it is somebody's wish.
    fn set_back(&self, name: &str, value: Option<String>) {
        let Some(value) = value else {
            return;
        };
        if self.read(name).is_ok_and(|now| now != WANTED) {
            return;
        }
        if let Err(why) = self.write(name, &value) {
            error!("net.ipv4.{name} stays at {WANTED}, it was {value}: {why}");
        }
    }

    fn read(&self, name: &str) -> Result<String, String> {
        let path = self.folder.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    fn write(&self, name: &str, value: &str) -> Result<(), String> {
        let path = self.folder.join(name);
        fs::write(&path, value)
            .map_err(|error| format!("{} cannot be set to {value}: {error}", path.display()))
    }
}

/// The boot and the network namespace.
fn place() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/thread-self/ns/net").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Time = 1_000_000_000;

    fn folder(cookies: &str, timestamps: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, value) in [(COOKIES, cookies), (TIMESTAMPS, timestamps), (SCALING, "1")] {
            fs::write(folder.path().join(name), format!("{value}\n")).expect("written");
        }
        folder
    }

    fn found(folder: &tempfile::TempDir) -> [String; 2] {
        [COOKIES, TIMESTAMPS].map(|name| {
            let text = fs::read_to_string(folder.path().join(name)).expect("read");
            text.trim().to_owned()
        })
    }

    #[test]
    fn what_was_set_before_comes_back_once_handshakes_have_ended() {
        let folder = folder("1", "1");
        let mut stack = Stack::within(folder.path(), "here", None);
        stack.note().expect("noted");
        assert_eq!(
            found(&folder),
            ["1", "1"],
            "nothing is changed before it is written down"
        );
        assert_eq!(stack.prepare(), Ok(Ready { plain: false }));
        assert_eq!(found(&folder), ["2", "2"]);
        assert!(!stack.release(100 * SECOND));
        assert_eq!(found(&folder), ["1", "2"]);
        assert!(!stack.release(102 * SECOND));
        assert!(stack.release(105 * SECOND));
        assert_eq!(found(&folder), ["1", "1"]);
        assert_eq!(stack.kept(), None);
    }

    #[test]
    fn the_next_daemon_sets_back_what_a_killed_one_left_but_not_in_another_place() {
        let folder = folder("0", "1");
        let mut killed = Stack::within(folder.path(), "here", None);
        killed.note().expect("noted");
        killed.prepare().expect("set");
        let written = serde_json::to_string(&killed.kept()).expect("JSON");
        let kept: Option<Kept> = serde_json::from_str(&written).expect("read");

        let mut elsewhere = Stack::within(folder.path(), "there", kept.clone());
        assert!(elsewhere.release(SECOND));
        assert_eq!(found(&folder), ["2", "2"]);

        let mut next = Stack::within(folder.path(), "here", kept);
        assert!(!next.release(SECOND));
        // Cookies on their way would be lost if the stack were told to know none.
        assert_eq!(found(&folder), ["2", "2"]);
        assert!(next.release(7 * SECOND));
        assert_eq!(found(&folder), ["0", "1"]);
    }

    #[test]
    fn to_arm_again_while_handshakes_end_keeps_what_was_set_first() {
        let folder = folder("1", "1");
        let mut stack = Stack::within(folder.path(), "here", None);
        stack.note().expect("noted");
        stack.prepare().expect("set");
        stack.release(SECOND);
        stack.note().expect("noted");
        stack.prepare().expect("set");
        assert_eq!(found(&folder), ["2", "2"]);
        stack.release(10 * SECOND);
        assert!(stack.release(20 * SECOND));
        assert_eq!(found(&folder), ["1", "1"]);
    }

    #[test]
    fn what_an_administrator_sets_meanwhile_stays() {
        let folder = folder("1", "1");
        let mut stack = Stack::within(folder.path(), "here", None);
        stack.note().expect("noted");
        stack.prepare().expect("set");
        fs::write(folder.path().join(TIMESTAMPS), "0").expect("written");
        stack.release(SECOND);
        assert!(stack.release(10 * SECOND));
        assert_eq!(found(&folder), ["1", "0"]);
    }

    #[test]
    fn without_timestamps_or_the_right_to_set_them_cookies_are_plain() {
        let folder = folder("2", "0");
        let mut stack = Stack::within(folder.path(), "here", None);
        stack.note().expect("noted");
        assert_eq!(stack.prepare(), Ok(Ready { plain: true }));
        assert_eq!(found(&folder), ["2", "0"]);
    }

    #[test]
    fn a_stack_without_cookies_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let why = Stack::within(folder.path(), "here", None)
            .note()
            .expect_err("there is nothing");
        assert!(why.contains("tcp_syncookies"), "{why}");
    }
}
