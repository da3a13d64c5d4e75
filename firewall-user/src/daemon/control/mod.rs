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
use axum::routing::{get, post};
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
const LARGEST_BODY: usize = 16 << 20;

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

/// All endpoints.
pub fn router(control: Control) -> Router {
    Router::new()
        .route("/v1/status", get(reports::status))
        .route("/v1/rules", get(reports::rules))
        .route("/v1/services", get(reports::services))
        .route("/v1/policy", get(reports::policy))
        .route("/v1/sources", get(reports::sources))
        .route("/v1/events", get(reports::events))
        .route("/v1/watch", get(watch::watch))
        .route("/v1/watch/frames", get(watch::frames))
        .route("/v1/alerts", get(reports::alerts))
        .route("/v1/alerts/{id}", get(reports::alert))
        .route("/v1/incidents", get(reports::incidents))
        .route("/v1/policy/rules", get(viewer::policy))
        .route("/v1/traffic", get(viewer::traffic))
        .route("/v1/surface", get(viewer::surface))
        .route("/v1/why", get(reports::why))
        .route("/v1/connection", get(reports::connection))
        .route("/v1/audit", get(reports::audit))
        .route("/v1/report", get(reports::review))
        .route("/v1/history", get(history::list))
        .route("/v1/history/{number}", get(history::entry))
        .route("/v1/apply", post(policy::apply))
        .route("/v1/confirm", post(policy::confirm))
        .route("/v1/rollback", post(policy::roll_back))
        .route("/v1/detach", post(policy::detach))
        .route(
            "/v1/bans",
            get(bans::list).post(bans::add).delete(bans::remove),
        )
        .route("/v1/cookies", get(cookies::show).post(cookies::order))
        .route(
            "/v1/signatures",
            get(signatures::list).delete(signatures::remove),
        )
        .route("/v1/notify", get(notify::list))
        .route("/v1/notify/test", post(notify::test))
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
