//! `/v1/notify`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::super::documents::{NotifierList, NotifyTest, TestList};
use super::super::failure::Failure;
use super::Control;
use super::body::Body;
use super::peer::Deed;

pub async fn list(State(control): State<Control>) -> Json<NotifierList> {
    Json(NotifierList {
        notifiers: control.notifiers.documents(),
    })
}

/// Tests one notifier after the other, so that the answers come in the order of the settings.
pub async fn test(
    State(control): State<Control>,
    Body(request): Body<NotifyTest>,
) -> Result<Response, Failure> {
    let notifiers = control.notifiers.named(request.name.as_deref());
    if notifiers.is_empty() {
        return Err(Failure::NotFound(match &request.name {
            Some(name) => format!("there is no notifier `{name}`: `palisade notify` lists them"),
            None => "there are no notifiers: the host settings have no [[notify]]".to_owned(),
        }));
    }
    let mut tests = Vec::new();
    for notifier in notifiers {
        tests.push(notifier.test().await);
    }
    let arrived: Vec<_> = tests
        .iter()
        .map(|test| json!({ "name": test.name, "arrived": test.arrived }))
        .collect();
    let deed = Deed {
        action: "notify.test",
        target: request.name,
        reason: None,
        detail: json!(arrived),
    };
    Ok((Extension(deed), Json(TestList { tests })).into_response())
}
