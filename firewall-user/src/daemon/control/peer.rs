//! Who is speaking, by the kernel's word, and whether they may change anything.

use axum::extract::{ConnectInfo, Request, connect_info::Connected};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use tokio::net::UnixListener;
use tracing::{info, warn};

use super::super::failure::Failure;

/// The process at the other end of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `None` if the kernel would not say.
    pub uid: Option<u32>,
    pub pid: Option<i32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        Self {
            uid: credentials.map(|credentials| credentials.uid()),
            pid: credentials.and_then(|credentials| credentials.pid()),
        }
    }
}

impl Peer {
    /// Root and the daemon's own user may change things.
    fn may_change(self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        self.uid.is_some_and(|uid| uid == 0 || uid == own)
    }
}

/// Lets everybody who can open the socket look, and refuses changes by others than root and the
/// daemon's own user.
pub async fn authorize(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if method == Method::GET || method == Method::HEAD {
        return next.run(request).await;
    }
    if !peer.may_change() {
        warn!(uid = peer.uid, pid = peer.pid, %method, path, "a change was refused");
        let who = match peer.uid {
            Some(uid) => format!("user {uid}"),
            None => "a peer without credentials".to_owned(),
        };
        return Failure::Forbidden(format!("{who} may look but not change anything: be root"))
            .into_response();
    }
    let response = next.run(request).await;
    info!(
        uid = peer.uid,
        pid = peer.pid,
        %method,
        path,
        status = response.status().as_u16(),
        "a change was asked for"
    );
    response
}
