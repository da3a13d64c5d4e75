//! The listener: `/metrics` for Prometheus, `/healthz`, and a page for people, over loopback, or to the network behind TLS and
//! credentials.

mod gate;
mod hosts;
mod listener;
mod page;
mod passwords;
mod seats;
mod settings;
mod tls;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tracing::{error, info};

use super::{Reading, render};
use crate::daemon::Pulse;
use gate::Gate;
pub use settings::{ClientAuth, PasswordHash, TlsSettings, TlsVersion, WebSettings};
use tls::Certificates;

/// How long to wait before the listener is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// A scrape that takes longer than this gets no answer but an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a scrape gets its reading from.
pub trait Readable: Clone + Send + Sync + 'static {
    /// Everything as it is now.
    fn read(&self) -> impl Future<Output = anyhow::Result<Reading>> + Send;
}

#[derive(Clone)]
struct Shared<R> {
    readable: R,
    pulse: Arc<Pulse>,
}

/// Serves for ever. A listener that cannot be bound, or whose certificate makes no sense, is an error in the log and tried again: the
/// fence must not fall for want of a port.
///
/// `documents` is what the page reads, under `/api/v1`.
pub async fn serve(
    settings: WebSettings,
    readable: impl Readable,
    pulse: Arc<Pulse>,
    documents: Router,
) {
    let address = settings.listen;
    let mut routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .with_state(Shared { readable, pulse });
    if settings.page {
        routes = routes.merge(page::routes()).nest("/api/v1", documents);
    }
    loop {
        match open(&settings, routes.clone()).await {
            Ok((listener, router, certificates)) => {
                info!(%address, tls = certificates.is_some(), "metrics are served");
                listener::serve(listener, router, certificates).await;
            }
            Err(error) => error!(
                %address,
                "metrics cannot be served: {error:#}; mend it, or set another `listen` in [metrics]; it is tried \
                 again in {} s",
                RETRY.as_secs()
            ),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn open(
    settings: &WebSettings,
    routes: Router,
) -> anyhow::Result<(TcpListener, Router, Option<Certificates>)> {
    let certificates = settings.tls.clone().map(Certificates::load).transpose()?;
    let gate = Gate::new(settings).context("passwords cannot be checked")?;
    let listener = TcpListener::bind(settings.listen).await?;
    Ok((listener, gate::before(gate, routes), certificates))
}

async fn metrics<R: Readable>(State(shared): State<Shared<R>>) -> Response {
    let text = match tokio::time::timeout(PATIENCE, shared.readable.read()).await {
        Ok(reading) => reading.and_then(|reading| render(&reading)),
        Err(_) => Err(anyhow::anyhow!("the fence thread is busy")),
    };
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            error!("a scrape failed: {error:#}");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")).into_response()
        }
    }
}

async fn healthz<R: Readable>(State(shared): State<Shared<R>>) -> Response {
    match shared.pulse.complaint() {
        None => Json(json!({ "healthy": true, "reason": null })).into_response(),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "healthy": false, "reason": reason })),
        )
            .into_response(),
    }
}
