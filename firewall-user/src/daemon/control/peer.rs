//! Who is speaking, by the kernel's word, what they may, and what they did.
#![expect(
    unsafe_code,
    reason = "the groups of a peer are asked of the kernel directly"
)]

use std::os::fd::AsRawFd;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State, connect_info::Connected};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

use super::super::failure::{Failure, Told};
use super::super::history::By;
use super::Control;
use super::role::{self, Role};
use crate::audit::{AuditLog, Author, Channel, Entry, Outcome};
use crate::guard::lookout;

/// The header in which whoever asks says why, percent-encoded UTF-8.
pub const REASON: &str = "x-palisade-reason";
/// Longest reason that is kept, in characters.
const LONGEST_REASON: usize = 500;
/// Groups of one user that are asked for.
const MOST_GROUPS: usize = 1_024;

/// The process at the other end of the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// `None` if the kernel would not say.
    pub uid: Option<u32>,
    pub pid: Option<i32>,
    /// All of its groups.
    pub groups: Vec<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        let mut groups = groups(stream.io());
        groups.extend(credentials.map(|credentials| credentials.gid()));
        Self {
            uid: credentials.map(|credentials| credentials.uid()),
            pid: credentials.and_then(|credentials| credentials.pid()),
            groups,
        }
    }
}

/// The supplementary groups that a peer had when it connected (SO_PEERGROUPS, Linux 4.13).
fn groups(stream: &UnixStream) -> Vec<u32> {
    let mut groups = vec![0_u32; MOST_GROUPS];
    let mut bytes = size_of_val(groups.as_slice()) as libc::socklen_t;
    // SAFETY: the kernel writes at most `bytes` bytes, which is the size of the vector's memory.
    let failed = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    let count = if failed == 0 {
        bytes as usize / size_of::<u32>()
    } else {
        0
    };
    groups.truncate(count);
    groups
}

/// What a handler did, for the audit log; an answer without it is logged by its path.
#[derive(Clone, Debug)]
pub struct Deed {
    pub action: &'static str,
    pub target: Option<String>,
    /// The request's own, if it has one.
    pub reason: Option<String>,
    pub detail: Value,
}

/// An answer that changed nothing, such as a dry run's.
#[derive(Clone, Copy, Debug)]
pub struct Unchanged;

/// Lets in whose role suffices, and writes down what was changed, or refused.
pub async fn authorize(
    State(control): State<Control>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let needed = role::needed(&method, &path);
    let role = control.roles.of(&peer);
    let reason = reason(request.headers());
    let changes = needed > Role::Viewer;
    let mut response = if role.is_some_and(|role| role >= needed) {
        request.extensions_mut().insert(By {
            who: author(&peer, role),
            from: Channel::Socket,
            reason: reason.clone(),
        });
        next.run(request).await
    } else {
        warn!(
            uid = peer.uid, pid = peer.pid, role = role.map(Role::name), %method, path,
            "a request was refused"
        );
        refusal(&peer, role, needed).into_response()
    };
    if !changes || response.extensions_mut().remove::<Unchanged>().is_some() {
        return response;
    }
    let deed = response.extensions_mut().remove::<Deed>();
    let told = response.extensions_mut().remove::<Told>();
    let outcome = match told {
        Some(Told(error)) => Outcome::Refused(error),
        None => Outcome::Done,
    };
    let deed = deed.unwrap_or_else(|| Deed {
        action: action(&path),
        target: None,
        reason: None,
        detail: Value::Null,
    });
    let entry = Entry {
        who: author(&peer, role),
        from: Channel::Socket,
        action: deed.action.to_owned(),
        target: deed.target,
        reason: reason.or(deed.reason),
        outcome,
        detail: deed.detail,
    };
    write_down(control.audit, entry).await;
    response
}

/// Adds a line to the audit log, off the reactor.
async fn write_down(audit: Arc<AuditLog>, entry: Entry) {
    // A thread that panicked has told so in the log.
    let _ = tokio::task::spawn_blocking(move || audit.append(entry)).await;
}

fn refusal(peer: &Peer, role: Option<Role>, needed: Role) -> Failure {
    let who = match peer.uid {
        Some(uid) => format!("user {uid}"),
        None => "a peer without credentials".to_owned(),
    };
    Failure::Forbidden(match role {
        Some(role) => format!(
            "{who} has the role {} and this needs {}: be root, or have `[roles]` of the host settings name \
             you",
            role.name(),
            needed.name(),
        ),
        None => format!(
            "{who} has no role here: be root, or have `[roles]` of the host settings name you"
        ),
    })
}

/// What a change is called that said nothing of itself.
fn action(path: &str) -> &'static str {
    match path {
        "/v1/apply" => "policy.apply",
        "/v1/confirm" => "policy.confirm",
        "/v1/rollback" => "policy.rollback",
        "/v1/detach" => "fence.detach",
        "/v1/bans" => "ban",
        "/v1/cookies" => "cookies",
        "/v1/watch/frames" => "watch.frames",
        _ => "change",
    }
}

fn author(peer: &Peer, role: Option<Role>) -> Author {
    Author {
        uid: peer.uid,
        pid: peer.pid,
        program: peer.pid.and_then(lookout::name_of),
        role: role.map(|role| role.name().to_owned()),
    }
}

/// The reason that a request gives, on one line.
fn reason(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(REASON)?.to_str().ok()?;
    let reason = percent_decode_str(text).decode_utf8_lossy();
    let line: String = reason
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .take(LONGEST_REASON)
        .collect();
    (!line.trim().is_empty()).then_some(line)
}
