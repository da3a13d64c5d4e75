//! `/v1/apply`, `/v1/confirm`, `/v1/rollback` and `/v1/detach`.

use std::path::Path;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::documents::{
    ApplyRequest, DetachRequest, LONGEST_TRIAL_SECONDS, RollbackRequest, changes,
};
use super::super::failure::Failure;
use super::super::history::By;
use super::super::offer::{Origin, base_of};
use super::super::reload::Orders;
use super::Control;
use super::body::Body;
use super::peer::{Deed, Unchanged};
use crate::guard::{Session, SessionError};

pub async fn apply(
    State(control): State<Control>,
    Extension(by): Extension<By>,
    Body(request): Body<ApplyRequest>,
) -> Result<Response, Failure> {
    let dry_run = request.dry_run;
    let origin = match (request.text, request.path) {
        (Some(_), Some(_)) => {
            return Err(Failure::Invalid(
                "`text` and `path` exclude each other".to_owned(),
            ));
        }
        (Some(text), None) => Origin::Text {
            text,
            name: request.name,
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
        by,
        dry_run: request.dry_run,
        confirm: trial(request.confirm_seconds)?,
        force: request.force,
        tentative: request.tentative,
        session: session(request.ssh_connection.as_deref())?,
    };
    let reloader = control.reloader.lock().await;
    let report = reloader.apply(origin, orders).await?;
    control.store.settle().await;
    if dry_run {
        return Ok((Extension(Unchanged), Json(report)).into_response());
    }
    let mut detail = changes(&report.changes);
    if let (Some(trial), Value::Object(detail)) = (&report.trial, &mut detail) {
        detail.insert("trial_until".to_owned(), trial.deadline.to_string().into());
    }
    Ok(done(
        "policy.apply",
        Some(report.source.clone()),
        detail,
        report,
    ))
}

/// An answer, and what is written down of it.
fn done<T: Serialize>(
    action: &'static str,
    target: Option<String>,
    detail: Value,
    report: T,
) -> Response {
    let deed = Deed {
        action,
        target,
        reason: None,
        detail,
    };
    (Extension(deed), Json(report)).into_response()
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
    Extension(by): Extension<By>,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Response, Failure> {
    let reloader = control.reloader.lock().await;
    let report = reloader.confirm(by).await?;
    control.store.settle().await;
    let detail = json!({ "generation": report.generation });
    Ok(done(
        "policy.confirm",
        Some(report.source.clone()),
        detail,
        report,
    ))
}

pub async fn roll_back(
    State(control): State<Control>,
    Extension(by): Extension<By>,
    Body(request): Body<RollbackRequest>,
) -> Result<Response, Failure> {
    if request.to.is_none() && request.confirm_seconds.is_some() {
        return Err(Failure::Invalid(
            "`confirm_seconds` needs `to`, an entry of the history: the policy before is put in force for good"
                .to_owned(),
        ));
    }
    let orders = Orders {
        force: request.force,
        confirm: trial(request.confirm_seconds)?,
        session: session(request.ssh_connection.as_deref())?,
        ..Orders::by(by)
    };
    let reloader = control.reloader.lock().await;
    let report = match request.to {
        Some(number) => reloader.roll_back_to(number, orders).await?,
        None => reloader.roll_back(orders.by).await?,
    };
    control.store.settle().await;
    let mut detail = changes(&report.changes);
    detail["from"] = report.from_generation.into();
    detail["generation"] = report.generation.into();
    if let Some(number) = report.entry {
        detail["entry"] = number.into();
    }
    if let Some(trial) = &report.trial {
        detail["trial_until"] = trial.deadline.to_string().into();
    }
    Ok(done(
        "policy.rollback",
        Some(report.source.clone()),
        detail,
        report,
    ))
}

/// A request that has nothing to say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

pub async fn detach(
    State(control): State<Control>,
    Body(request): Body<DetachRequest>,
) -> Result<Response, Failure> {
    let report = control
        .fence
        .call(move |keeper| keeper.detach(request.interface.as_deref()))
        .await??;
    let detail = json!({ "protected": report.attached });
    let target = Some(report.detached.join(", "));
    Ok(done("fence.detach", target, detail, report))
}
