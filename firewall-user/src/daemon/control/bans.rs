//! `/v1/bans`.

use axum::Json;
use axum::extract::State;

use super::super::documents::{BanDocument, BanRequest, Bans, UnbanQuery};
use super::super::failure::Failure;
use super::Control;
use super::body::{Asked, Body};

pub async fn list(State(control): State<Control>) -> Result<Json<Bans>, Failure> {
    Ok(Json(control.fence.call(|keeper| keeper.list_bans()).await?))
}

pub async fn add(
    State(control): State<Control>,
    Body(request): Body<BanRequest>,
) -> Result<Json<BanDocument>, Failure> {
    let ban = control.fence.call(|keeper| keeper.ban(request)).await??;
    Ok(Json(ban))
}

pub async fn remove(
    State(control): State<Control>,
    Asked(query): Asked<UnbanQuery>,
) -> Result<Json<BanDocument>, Failure> {
    let lifted = control
        .fence
        .call(move |keeper| keeper.unban(&query.prefix))
        .await??;
    Ok(Json(lifted))
}
