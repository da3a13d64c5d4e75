//! `/v1/watch`: sampled packets as they come, for as long as the peer reads.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::documents::WatchQuery;
use super::super::failure::Failure;
use super::super::watch::Filter;
use super::Control;
use super::body::Asked;
use super::peer::Deed;

pub async fn watch(
    State(control): State<Control>,
    Asked(query): Asked<WatchQuery>,
) -> Result<Response, Failure> {
    open(&control, &query, false)
}

/// The same with the first bytes of each packet, which may hold what visitors say. Who asked is on record.
pub async fn frames(
    State(control): State<Control>,
    Asked(query): Asked<WatchQuery>,
) -> Result<Response, Failure> {
    let response = open(&control, &query, true)?;
    let deed = Deed {
        action: "watch.frames",
        target: None,
        reason: None,
        detail: json!({ "filter": query }),
    };
    Ok((Extension(deed), response).into_response())
}

fn open(control: &Control, query: &WatchQuery, frames: bool) -> Result<Response, Failure> {
    let filter = Filter::try_from(query).map_err(Failure::Invalid)?;
    let watching = control.events.watchers.open(filter, frames);
    let watching = watching.map_err(|error| Failure::Unavailable(error.to_string()))?;
    Ok((
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::new(watching),
    )
        .into_response())
}
