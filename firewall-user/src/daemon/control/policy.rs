//! `/v1/apply` and `/v1/detach`.

use axum::Json;
use axum::extract::State;

use super::super::documents::{ApplyReport, ApplyRequest, DetachReport, DetachRequest};
use super::super::failure::Failure;
use super::super::offer::{Origin, base_of};
use super::Control;
use super::body::Body;

pub async fn apply(
    State(control): State<Control>,
    Body(request): Body<ApplyRequest>,
) -> Result<Json<ApplyReport>, Failure> {
    let origin = match (request.text, request.path) {
        (Some(_), Some(_)) => {
            return Err(Failure::Invalid(
                "`text` and `path` exclude each other".to_owned(),
            ));
        }
        (Some(text), None) => Origin::Text {
            text,
            base: base_of(&control.policy),
        },
        (None, Some(path)) if path.is_relative() => {
            return Err(Failure::Invalid(format!(
                "`path` must be absolute, but is {}",
                path.display()
            )));
        }
        (None, Some(path)) => Origin::File(path),
        (None, None) => Origin::File(control.policy.clone()),
    };
    let reloader = control.reloader.lock().await;
    Ok(Json(reloader.apply(origin, request.dry_run).await?))
}

pub async fn detach(
    State(control): State<Control>,
    Body(request): Body<DetachRequest>,
) -> Result<Json<DetachReport>, Failure> {
    let report = control
        .fence
        .call(move |keeper| keeper.detach(request.interface.as_deref()))
        .await??;
    Ok(Json(report))
}
