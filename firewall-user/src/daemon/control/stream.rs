//! An answer that goes on: a JSON document a line, as they come.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body_util::channel::Channel;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tracing::warn;

/// Lines that may wait for a slow reader before the broadcast's own bound counts.
const WAITING: usize = 16;

/// First what there is, then what comes, until the reader goes or the daemon stops.
pub fn json_lines<T: Serialize + Clone + Send + Sync + 'static>(
    first: Vec<T>,
    mut changes: broadcast::Receiver<T>,
) -> Response {
    let (mut sender, body) = Channel::<Bytes, axum::Error>::new(WAITING);
    tokio::spawn(async move {
        for value in first {
            if sender.send_data(line(&value)).await.is_err() {
                return;
            }
        }
        loop {
            match changes.recv().await {
                Ok(value) => {
                    if sender.send_data(line(&value)).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    warn!(missed, "a follower was too slow and missed changes");
                }
                Err(RecvError::Closed) => return,
            }
        }
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::new(body),
    )
        .into_response()
}

fn line(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    Bytes::from(line)
}
