//! What the listener shows to whoever gets past its gate: documents of the control socket that a viewer may see, under
//! `/api/v1`. Nothing here changes anything or streams, and the audit log with the host's users is not among them.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::super::documents::{Alerts, PolicyReport, Traffic, TrafficQuery};
use super::super::failure::Failure;
use super::body::Asked;
use super::{Control, bans, no_such_endpoint, reports, signatures, wrong_method};

/// The documents under `/api/v1`.
pub fn viewer(control: Control) -> Router {
    Router::new()
        .route("/status", get(reports::status))
        .route("/policy/rules", get(policy))
        .route("/rules", get(reports::rules))
        .route("/traffic", get(traffic))
        .route("/surface", get(surface))
        .route("/services", get(reports::services))
        .route("/sources", get(reports::sources))
        .route("/alerts", get(alerts))
        .route("/incidents", get(reports::incidents))
        .route("/bans", get(bans::list))
        .route("/signatures", get(signatures::list))
        .fallback(no_such_endpoint)
        .method_not_allowed_fallback(wrong_method)
        .with_state(control)
}

pub async fn policy(State(control): State<Control>) -> Result<Json<PolicyReport>, Failure> {
    let report = control.fence.call(|keeper| keeper.policy_report());
    Ok(Json(report.await?))
}

pub async fn traffic(
    State(control): State<Control>,
    Asked(query): Asked<TrafficQuery>,
) -> Result<Json<Traffic>, Failure> {
    Ok(Json(control.traffic.after(query.since)))
}

pub async fn surface(State(control): State<Control>) -> Result<Response, Failure> {
    let looked = control.lookout.surface(&control.fence, &control.events);
    Ok(Json(looked.await?.as_deref()).into_response())
}

async fn alerts(State(control): State<Control>) -> Result<Json<Alerts>, Failure> {
    let alerts = control.fence.call(|keeper| keeper.alerts().all()).await?;
    Ok(Json(Alerts { alerts }))
}
