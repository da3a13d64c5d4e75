//! `/v1/cookies`.

use axum::Json;
use axum::extract::State;

use super::super::documents::{CookieReport, CookieRequest};
use super::super::failure::Failure;
use super::Control;
use super::body::Body;

pub async fn show(State(control): State<Control>) -> Result<Json<CookieReport>, Failure> {
    Ok(Json(control.fence.call(|keeper| keeper.cookies()).await??))
}

pub async fn order(
    State(control): State<Control>,
    Body(request): Body<CookieRequest>,
) -> Result<Json<CookieReport>, Failure> {
    let report = control
        .fence
        .call(move |keeper| keeper.order_cookies(&request));
    Ok(Json(report.await??))
}
