//! `/v1/apply`, `/v1/confirm`, `/v1/rollback` and `/v1/detach`.

use std::path::Path;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::super::documents::{
    ApplyReport, ApplyRequest, ConfirmReport, DetachReport, DetachRequest, LONGEST_TRIAL_SECONDS,
    RollbackReport,
};
use super::super::failure::Failure;
use super::super::offer::{Origin, base_of};
use super::super::reload::Orders;
use super::Control;
use super::body::Body;
use crate::guard::{Session, SessionError};

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
        (None, Some(path)) if same_file(&path, &control.policy) => {
            Origin::Own(control.policy.clone())
        }
        (None, Some(path)) => Origin::File(path),
        (None, None) => Origin::Own(control.policy.clone()),
    };
    let orders = Orders {
        dry_run: request.dry_run,
        confirm: trial(request.confirm_seconds)?,
        force: request.force,
        tentative: request.tentative,
        session: session(request.ssh_connection.as_deref())?,
    };
    let reloader = control.reloader.lock().await;
    Ok(Json(reloader.apply(origin, orders).await?))
}

fn session(text: Option<&str>) -> Result<Option<Session>, Failure> {
    let session = text.map(str::parse).transpose();
    session.map_err(|error: SessionError| Failure::Invalid(format!("`ssh_connection`: {error}")))
}

fn trial(seconds: Option<u64>) -> Result<Option<Duration>, Failure> {
    match seconds {
        Some(seconds) if !(1..=LONGEST_TRIAL_SECONDS).contains(&seconds) => Err(Failure::Invalid(
            format!("`confirm_seconds` must be 1 to {LONGEST_TRIAL_SECONDS}, but is {seconds}"),
        )),
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

pub async fn confirm(
    State(control): State<Control>,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<ConfirmReport>, Failure> {
    let reloader = control.reloader.lock().await;
    Ok(Json(reloader.confirm().await?))
}

pub async fn roll_back(
    State(control): State<Control>,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<RollbackReport>, Failure> {
    let reloader = control.reloader.lock().await;
    Ok(Json(reloader.roll_back().await?))
}

/// A request that has nothing to say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

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
