//! `/v1/signatures`.

use axum::Json;
use axum::extract::State;

use super::super::documents::{SignatureQuery, Signatures};
use super::super::failure::Failure;
use super::Control;
use super::body::Asked;

pub async fn list(State(control): State<Control>) -> Result<Json<Signatures>, Failure> {
    Ok(Json(
        control.fence.call(|keeper| keeper.signatures()).await?,
    ))
}

pub async fn remove(
    State(control): State<Control>,
    Asked(SignatureQuery { name }): Asked<SignatureQuery>,
) -> Result<Json<Signatures>, Failure> {
    let removed = control
        .fence
        .call(move |keeper| keeper.remove_signature(&name));
    Ok(Json(removed.await??))
}
