//! `/metrics` and `/healthz` over loopback.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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

/// Serves for ever. A listener that cannot be bound is an error in the log and tried again: the
/// fence must not fall for want of a port.
pub async fn serve(address: SocketAddr, readable: impl Readable, pulse: Arc<Pulse>) {
    let router = router(readable, pulse);
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                info!(%address, "metrics are served");
                match axum::serve(listener, router.clone()).await {
                    Ok(()) => return,
                    Err(error) => error!(%address, "metrics are no longer served: {error}"),
                }
            }
            Err(error) => error!(
                %address,
                "metrics cannot be served: {error}; set another `listen` in [metrics], or it is \
                 tried again in {} s",
                RETRY.as_secs()
            ),
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn router<R: Readable>(readable: R, pulse: Arc<Pulse>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::<R>))
        .route("/healthz", get(healthz::<R>))
        .with_state(Shared { readable, pulse })
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
