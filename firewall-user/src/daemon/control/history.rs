//! `/v1/history`.

use axum::Json;
use axum::extract::{Path, State};

use super::super::documents::{HistoryDocument, HistoryList};
use super::super::failure::Failure;
use super::Control;

pub async fn list(State(control): State<Control>) -> Result<Json<HistoryList>, Failure> {
    Ok(Json(control.fence.call(|keeper| keeper.history()).await?))
}

pub async fn entry(
    State(control): State<Control>,
    Path(number): Path<String>,
) -> Result<Json<HistoryDocument>, Failure> {
    let number = number.parse().map_err(|_| {
        Failure::Invalid(format!(
            "`{number}` is no number of an entry of the history"
        ))
    })?;
    let entry = control
        .fence
        .call(move |keeper| keeper.history_entry(number));
    Ok(Json(entry.await??))
}
