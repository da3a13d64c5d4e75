//! `/v1/bans`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::super::documents::{BanDocument, BanRequest, Bans, BansQuery, UnbanQuery};
use super::super::failure::Failure;
use super::Control;
use super::body::{Asked, Body};
use super::peer::Deed;

pub async fn list(State(control): State<Control>, Asked(query): Asked<BansQuery>) -> Json<Bans> {
    Json(control.warden.list(query.limit.unwrap_or(usize::MAX)))
}

pub async fn add(
    State(control): State<Control>,
    Body(request): Body<BanRequest>,
) -> Result<Response, Failure> {
    let ban = control.warden.ban(request)?;
    control.store.settle().await;
    Ok(told("ban.add", ban))
}

/// A ban that was made or lifted, and what is written down of it.
fn told(action: &'static str, ban: BanDocument) -> Response {
    let deed = Deed {
        action,
        target: Some(ban.prefix.to_string()),
        reason: ban.reason.clone(),
        detail: json!({ "seconds": ban.remaining_seconds }),
    };
    (Extension(deed), Json(ban)).into_response()
}

pub async fn remove(
    State(control): State<Control>,
    Asked(query): Asked<UnbanQuery>,
) -> Result<Response, Failure> {
    let lifted = control.warden.unban(&query.prefix)?;
    control.store.settle().await;
    Ok(told("ban.remove", lifted))
}
