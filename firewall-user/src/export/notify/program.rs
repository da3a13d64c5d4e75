//! A program of the host's own, which is handed the alert as JSON on standard input. No shell is involved:
//! nothing that comes from a packet is ever a command or an argument.
//!
//! The daemon may start no program once it has confined itself. So each program has a process of its own that
//! was forked before, can run that program and nothing else, and has no capabilities.
#![expect(unsafe_code, reason = "the process is forked and sees to its own end")]

mod run;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Delivery;
use super::notice::Notice;
use crate::sandbox;

/// `EX_TEMPFAIL` of sysexits.h: try again later.
const LATER: i32 = 75;
/// How much longer than the program its process may take to answer.
const GRACE: Duration = Duration::from_secs(5);

/// What is run, and how long it may take.
#[derive(Clone, Debug)]
pub struct Order {
    pub path: PathBuf,
    pub arguments: Vec<String>,
    pub timeout: Duration,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Ran {
    /// It ended by itself; a signal has no code.
    Ended {
        code: Option<i32>,
        /// The end of what it said on standard error.
        said: String,
    },
    Killed,
    Impossible(String),
}

/// The way to the process that runs a program.
#[derive(Debug)]
pub struct Program {
    order: Order,
    way: Arc<Mutex<Option<BufReader<UnixStream>>>>,
}

impl Program {
    /// Starts the process. Forks, so there must be no other thread, and nothing open that must not live on in
    /// another process.
    pub fn start(order: Order) -> Result<Self, String> {
        let failed = |error| format!("no process for {}: {error}", order.path.display());
        let (near, far) = UnixStream::pair().map_err(failed)?;
        let daemon = rustix::process::getpid();
        // SAFETY: the process has no other thread, so the child may go on as any program.
        match unsafe { libc::fork() } {
            -1 => Err(failed(std::io::Error::last_os_error())),
            0 => {
                drop(near);
                let orphaned = || rustix::process::getppid() != Some(daemon);
                let ended = live(&far, &order, orphaned);
                // Not through whatever else the daemon would do at its end.
                // SAFETY: ends this process.
                unsafe { libc::_exit(i32::from(ended.is_err())) }
            }
            _ => {
                near.set_read_timeout(Some(order.timeout + GRACE))
                    .map_err(failed)?;
                near.set_write_timeout(Some(GRACE)).map_err(failed)?;
                Ok(Self {
                    order,
                    way: Arc::new(Mutex::new(Some(BufReader::new(near)))),
                })
            }
        }
    }

    /// Whom it runs.
    pub fn shown(&self) -> String {
        self.order.path.display().to_string()
    }

    pub async fn deliver(&self, notice: &Notice) -> Delivery {
        // A line to its process, and a line of JSON to the program.
        let mut document = match serde_json::to_vec(notice) {
            Ok(document) => document,
            Err(error) => return Delivery::Refused(format!("it cannot be written down: {error}")),
        };
        document.push(b'\n');
        let way = self.way.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&way, &document)).await;
        let shown = self.shown();
        match asked.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(Ran::Ended { code, said }) => judge(&shown, code, &said),
            Ok(Ran::Killed) => Delivery::again(format!(
                "{shown} did not end within {:?} and was killed",
                self.order.timeout
            )),
            Ok(Ran::Impossible(why)) => Delivery::again(format!("{shown} cannot be run: {why}")),
            Err(why) => Delivery::again(format!(
                "the process that runs {shown} is gone ({why}): start the daemon anew"
            )),
        }
    }
}

fn ask(way: &Mutex<Option<BufReader<UnixStream>>>, document: &[u8]) -> Result<Ran, String> {
    let mut way = way.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(stream) = way.as_mut() else {
        return Err("it ended earlier".to_owned());
    };
    let mut line = String::new();
    let answered = stream
        .get_mut()
        .write_all(document)
        .and_then(|()| stream.read_line(&mut line));
    let ran = match answered {
        Ok(0) => Err("it has ended".to_owned()),
        Ok(_) => serde_json::from_str(&line).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if ran.is_err() {
        // An answer that comes late must not be taken for the next one's.
        *way = None;
    }
    ran
}

fn judge(shown: &str, code: Option<i32>, said: &str) -> Delivery {
    let how = match code {
        Some(code) => format!("exit code {code}"),
        None => "a signal".to_owned(),
    };
    let mut answer = format!("{shown} ended with {how}");
    if !said.is_empty() {
        answer.push_str(": ");
        answer.push_str(said);
    }
    match code {
        Some(0) => Delivery::Done(answer),
        Some(LATER) => Delivery::again(answer),
        _ => Delivery::Refused(answer),
    }
}

/// The life of the process: a document, a run, an answer, until the daemon goes.
fn live(way: &UnixStream, order: &Order, orphaned: impl Fn() -> bool) -> std::io::Result<()> {
    // SAFETY: plain system calls without pointers to anything but a constant.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"palisade-run".as_ptr());
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // It goes with the daemon, not before it.
        for signal in run::IGNORED {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
    if orphaned() {
        return Ok(());
    }
    if let Err(error) = sandbox::enter_as_runner() {
        warn!("programs run with the daemon's privileges: {error:#}");
    }
    let mut answers = way;
    for document in BufReader::new(way).lines() {
        let mut answer = serde_json::to_vec(&run::run(order, document? + "\n"))?;
        answer.push(b'\n');
        answers.write_all(&answer)?;
    }
    Ok(())
}
