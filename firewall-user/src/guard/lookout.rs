//! A process of its own that looks at other processes for the daemon: which sockets are sshd's, who
//! asks over the control socket, which name servers the host asks.
//!
//! Looking into other processes takes CAP_SYS_PTRACE and a view of all of `/proc`. The daemon, which speaks
//! with the network, gives up both when it confines itself; this process has them and can do nothing
//! else with them. It is asked three questions, none of which names a file, and it ends with the daemon.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::bail;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{host, resolvers, sockets};
use crate::sandbox::{self, helper};

/// How long an answer may take: a look at each process of the host.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way to the lookout, where there is one.
static LOOKOUT: Mutex<Option<BufReader<UnixStream>>> = Mutex::new(None);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Question {
    /// The sockets of ssh servers.
    Servers,
    /// The name servers of the host.
    Resolvers,
    /// What a process is called.
    Name(i32),
}

/// Sockets of ssh servers, by inode.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Servers {
    pub(super) sockets: HashSet<u64>,
    /// A server was seen whose sockets may not be looked at.
    pub(super) hidden: bool,
}

/// Starts the lookout: before there are other threads ([`helper::spawn`]).
pub fn start(resolv_conf: &Path) -> anyhow::Result<()> {
    // Asked once, while it may still be: of this process's ancestors.
    host::remember_network();
    let way = helper::spawn(c"palisade-look", |way| live(way, resolv_conf))?;
    way.set_read_timeout(Some(PATIENCE))?;
    way.set_write_timeout(Some(PATIENCE))?;
    *LOOKOUT.lock().unwrap_or_else(PoisonError::into_inner) = Some(BufReader::new(way));
    Ok(())
}

/// The sockets of ssh servers.
pub(super) fn servers() -> Servers {
    ask(Question::Servers).unwrap_or_else(sockets::sockets_of_servers)
}

/// The name servers that this host is set to ask; `file` is where they are configured.
pub(super) fn resolvers(file: &Path) -> Vec<IpAddr> {
    ask(Question::Resolvers).unwrap_or_else(|| resolvers::configured(file))
}

/// What a process is called, if it still runs.
pub fn name_of(pid: i32) -> Option<String> {
    ask(Question::Name(pid)).unwrap_or_else(|| name(pid))
}

/// `None` where there is nobody to ask.
fn ask<T: DeserializeOwned>(question: Question) -> Option<T> {
    let mut way = LOOKOUT.lock().unwrap_or_else(PoisonError::into_inner);
    match exchange(way.as_mut()?, question) {
        Ok(answer) => Some(answer),
        Err(error) => {
            warn!(
                "the process that looks at others is gone ({error:#}): sshd is taken to be on port 22 \
                 until the daemon is started anew"
            );
            // An answer that comes late must not be taken for the next one's.
            *way = None;
            None
        }
    }
}

fn exchange<T: DeserializeOwned>(
    way: &mut BufReader<UnixStream>,
    question: Question,
) -> anyhow::Result<T> {
    send(way.get_mut(), &question)?;
    let mut line = String::new();
    if way.read_line(&mut line)? == 0 {
        bail!("it has ended");
    }
    Ok(serde_json::from_str(&line)?)
}

fn send(way: &mut UnixStream, what: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    Ok(way.write_all(&line)?)
}

/// The lookout's life: questions and answers, until the daemon goes.
fn live(mut way: UnixStream, resolv_conf: &Path) -> anyhow::Result<()> {
    sandbox::enter_as_lookout()?;
    let questions = BufReader::new(way.try_clone()?);
    for line in questions.lines() {
        match serde_json::from_str(&line?)? {
            Question::Servers => send(&mut way, &sockets::sockets_of_servers())?,
            Question::Resolvers => send(&mut way, &resolvers::configured(resolv_conf))?,
            Question::Name(pid) => send(&mut way, &name(pid))?,
        }
    }
    Ok(())
}

fn name(pid: i32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}
