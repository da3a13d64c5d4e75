//! What stands before every answer: who may ask, by which name, and what a browser may do with the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::sync::Mutex;
use tracing::warn;

use super::hosts;
use super::passwords::{Answer, Users};
use super::settings::WebSettings;

/// How often wrong credentials are told in the log.
const COMPLAINT: Duration = Duration::from_secs(10);

/// Headers of every answer. The page brings all it needs: nothing from elsewhere, nothing inline, in nobody's frame.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
];

/// Lets in whoever may ask.
#[derive(Debug)]
pub struct Gate {
    users: Users,
    /// Whether whoever gets here has shown a certificate or will be asked for a password.
    knows_everybody: bool,
    hosts: Vec<String>,
    headers: HeaderMap,
    /// When wrong credentials were told last, and how many were not since.
    told: Mutex<(Option<Instant>, u64)>,
}

impl Gate {
    pub fn new(settings: &WebSettings) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for (name, value) in &settings.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .with_context(|| format!("`{name}` is no header"))?;
            headers.insert(name, HeaderValue::from_str(value)?);
        }
        Ok(Self {
            users: Users::new(settings.users.clone())?,
            knows_everybody: settings.knows_everybody(),
            hosts: settings.hosts.clone(),
            headers,
            told: Mutex::default(),
        })
    }

    async fn refusal(&self, headers: &HeaderMap, uri: &Uri) -> Option<Response> {
        if !self.knows_everybody && !hosts::belongs(headers, uri, &self.hosts) {
            return Some(refuse(
                StatusCode::MISDIRECTED_REQUEST,
                "this host is not known by that name: ask for its address, or add the name to `hosts` of [metrics]",
            ));
        }
        if !self.users.are_asked() {
            return None;
        }
        let header = headers.get(header::AUTHORIZATION);
        match self.users.judge(header).await {
            Answer::Known => None,
            Answer::Busy => Some(refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many passwords are being checked: try again",
            )),
            Answer::Unknown => {
                // A browser asks without first; that is no wrong password.
                if header.is_some() {
                    self.complain().await;
                }
                let mut response = refuse(StatusCode::UNAUTHORIZED, "who are you?");
                response.headers_mut().insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Basic realm=\"palisade\", charset=\"UTF-8\""),
                );
                Some(response)
            }
        }
    }

    /// Names nobody: what was typed for a name may be a password.
    async fn complain(&self) {
        let mut told = self.told.lock().await;
        let (last, silent) = &mut *told;
        if last.is_some_and(|last| last.elapsed() < COMPLAINT) {
            *silent += 1;
            return;
        }
        warn!(
            more = *silent,
            "somebody asked for the metrics with wrong credentials"
        );
        *last = Some(Instant::now());
        *silent = 0;
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}

/// The routes behind the gate.
pub fn before(gate: Gate, routes: Router) -> Router {
    routes.layer(from_fn_with_state(Arc::new(gate), pass))
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let mut response = match gate.refusal(request.headers(), request.uri()).await {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in &gate.headers {
        headers.insert(name, value.clone());
    }
    // What stands here is about now, and about whoever asked.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
