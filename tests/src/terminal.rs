//! A program on a terminal of its own: a pseudo-terminal at one end, a screen in memory at the other.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::process::{Background, wait_until};

/// How long a screen is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Written behind what the program wrote: characters that no terminal shows.
const BEHIND: &[u8] = &[0; 8];

/// A terminal, and the program that runs on it.
pub struct Terminal {
    program: Background,
    /// The user's end.
    keys: File,
    /// The program's end, kept open so that what it left can be looked at.
    line: OwnedFd,
    seen: Arc<Mutex<Seen>>,
}

/// What the program has written.
struct Seen {
    screen: vt100::Parser,
    bytes: Vec<u8>,
}

impl Terminal {
    /// Starts `command` on a terminal of so many rows and columns.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Result<Self> {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&keys)?;
        unlockpt(&keys)?;
        let name = ptsname(&keys, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let line = rustix::fs::open(name, flags, Mode::empty())?;
        tcsetwinsize(&line, size(rows, columns))?;
        // With a session of its own, whose terminal this is: resizing sends it a signal.
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program());
        session.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => session.env(key, value),
                None => session.env_remove(key),
            };
        }
        if !command.get_envs().any(|(key, _)| key == "TERM") {
            session.env("TERM", "xterm-256color");
        }
        let program = Background::spawn(
            session
                .stdin(Stdio::from(line.try_clone()?))
                .stdout(Stdio::from(line.try_clone()?))
                .stderr(Stdio::from(line.try_clone()?)),
        )?;
        let keys = File::from(keys);
        let seen = Arc::new(Mutex::new(Seen {
            screen: vt100::Parser::new(rows, columns, 0),
            bytes: Vec::new(),
        }));
        let mut output = keys.try_clone()?;
        let shown = seen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends with an error once both ends are closed.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let mut seen = shown.lock().unwrap_or_else(PoisonError::into_inner);
                seen.screen.process(&bytes[..count]);
                seen.bytes.extend_from_slice(&bytes[..count]);
            }
        });
        Ok(Self {
            program,
            keys,
            line,
            seen,
        })
    }

    /// What stands on the screen, line by line.
    pub fn screen(&self) -> String {
        self.with(|seen| seen.screen.screen().contents())
    }

    /// All that was written so far, escape sequences included.
    pub fn bytes(&self) -> Vec<u8> {
        self.with(|seen| seen.bytes.clone())
    }

    /// Waits until the screen fits.
    pub fn wait_until(&self, what: &str, fits: impl Fn(&str) -> bool) -> Result<()> {
        let waited = wait_until(what, PATIENCE, || Ok(fits(&self.screen())));
        waited.with_context(|| format!("the screen:\n{}", self.screen()))?;
        Ok(())
    }

    /// Waits until a text stands on the screen.
    pub fn wait_for(&self, text: &str) -> Result<()> {
        self.wait_until(text, |screen| screen.contains(text))
    }

    /// Types a text. Keys without a letter are their control characters and escape sequences.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        self.keys.write_all(text.as_bytes())?;
        Ok(())
    }

    /// Changes the size, as a window's edge that is dragged does.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        self.with(|seen| seen.screen.screen_mut().set_size(rows, columns));
        tcsetwinsize(&self.line, size(rows, columns))?;
        Ok(())
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.program.signal(signal)
    }

    /// Waits for the program's end, and until all that it wrote is on the screen.
    pub fn end(&mut self) -> Result<ExitStatus> {
        let status = self.program.wait(PATIENCE)?;
        rustix::io::write(&self.line, BEHIND)?;
        wait_until("the program's last words", PATIENCE, || {
            Ok(self.with(|seen| seen.bytes.ends_with(BEHIND)))
        })?;
        Ok(status)
    }

    /// Whether the terminal is as a shell expects it: echo, whole lines, the ordinary screen, a cursor.
    pub fn is_restored(&self) -> Result<bool> {
        let modes = tcgetattr(&self.line)?.local_modes;
        let plain = self.with(|seen| {
            let screen = seen.screen.screen();
            !screen.alternate_screen() && !screen.hide_cursor()
        });
        Ok(plain && modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        // A panic elsewhere leaves the screen as it was.
        look(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
