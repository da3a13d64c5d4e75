//! `/v1/bans`.

use axum::Json;
use axum::extract::State;

use super::super::documents::{BanDocument, BanRequest, Bans, UnbanQuery};
use super::super::failure::Failure;
use super::Control;
use super::body::{Asked, Body};

pub async fn list(State(control): State<Control>) -> Json<Bans> {
    Json(control.warden.list())
}

pub async fn add(
    State(control): State<Control>,
    Body(request): Body<BanRequest>,
) -> Result<Json<BanDocument>, Failure> {
    let (ban, change) = control.warden.ban(request)?;
    control.warden.saved(change).await;
    Ok(Json(ban))
}

pub async fn remove(
    State(control): State<Control>,
    Asked(query): Asked<UnbanQuery>,
) -> Result<Json<BanDocument>, Failure> {
    let (lifted, change) = control.warden.unban(&query.prefix)?;
    control.warden.saved(change).await;
    Ok(Json(lifted))
}
