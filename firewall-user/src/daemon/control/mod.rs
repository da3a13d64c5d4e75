//! The control socket: HTTP with JSON over a Unix socket, so that any tool can speak to the daemon
//! and the kernel vouches for who is speaking.

mod bans;
mod body;
mod cookies;
mod history;
mod listener;
mod notify;
mod peer;
mod policy;
mod reports;
mod role;
mod signatures;
mod stream;
#[cfg(test)]
mod tests;
mod viewer;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use tokio::sync::Mutex;

pub use listener::{bind, claim, make_folder};
pub use peer::{Peer, REASON};
pub use role::{Members, Roles};
pub use viewer::viewer;

use super::events::EventRing;
use super::failure::answer;
use super::fence::Fence;
use super::reload::Reloader;
use super::surface::Lookout;
use super::traffic::History;
use super::warden::Warden;
use crate::audit::AuditLog;
use crate::export::notify::Notifiers;
use crate::state::Store;

/// Largest request: a policy as text.
pub const LARGEST_BODY: usize = 16 << 20;

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Control {
    pub fence: Fence,
    pub warden: Arc<Warden>,
    pub events: EventRing,
    pub reloader: Arc<Mutex<Reloader>>,
    pub traffic: History,
    pub lookout: Lookout,
    /// The daemon's own policy file.
    pub policy: PathBuf,
    pub roles: Arc<Roles>,
    pub audit: Arc<AuditLog>,
    pub store: Store,
    pub notifiers: Notifiers,
}

/// All endpoints. Whoever may look may GET; what else a role may is in [`role::needed`], and it is
/// the administrator's unless it says otherwise.
fn endpoints() -> Vec<(&'static str, MethodRouter<Control>)> {
    vec![
        ("/v1/status", get(reports::status)),
        ("/v1/rules", get(reports::rules)),
        ("/v1/services", get(reports::services)),
        ("/v1/policy", get(reports::policy)),
        ("/v1/sources", get(reports::sources)),
        ("/v1/events", get(reports::events)),
        ("/v1/watch", get(watch::watch)),
        ("/v1/watch/frames", get(watch::frames)),
        ("/v1/alerts", get(reports::alerts)),
        ("/v1/alerts/{id}", get(reports::alert)),
        ("/v1/incidents", get(reports::incidents)),
        ("/v1/policy/rules", get(viewer::policy)),
        ("/v1/traffic", get(viewer::traffic)),
        ("/v1/surface", get(viewer::surface)),
        ("/v1/why", get(reports::why)),
        ("/v1/connection", get(reports::connection)),
        ("/v1/audit", get(reports::audit)),
        ("/v1/report", get(reports::review)),
        ("/v1/history", get(history::list)),
        ("/v1/history/{number}", get(history::entry)),
        ("/v1/apply", post(policy::apply)),
        ("/v1/confirm", post(policy::confirm)),
        ("/v1/rollback", post(policy::roll_back)),
        ("/v1/detach", post(policy::detach)),
        (
            "/v1/bans",
            get(bans::list).post(bans::add).delete(bans::remove),
        ),
        ("/v1/cookies", get(cookies::show).post(cookies::order)),
        (
            "/v1/signatures",
            get(signatures::list).delete(signatures::remove),
        ),
        ("/v1/notify", get(notify::list)),
        ("/v1/notify/test", post(notify::test)),
    ]
}

/// The endpoints behind whoever lets in.
pub fn router(control: Control) -> Router {
    endpoints()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods)
        })
        .fallback(no_such_endpoint)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(
            control.clone(),
            peer::authorize,
        ))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(control)
}

async fn no_such_endpoint(uri: axum::http::Uri) -> Response {
    answer(
        StatusCode::NOT_FOUND,
        format!("there is no {} here", uri.path()),
    )
}

async fn wrong_method(method: axum::http::Method, uri: axum::http::Uri) -> Response {
    answer(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not take {method}", uri.path()),
    )
}
