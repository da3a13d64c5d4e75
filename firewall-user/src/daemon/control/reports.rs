//! What can be asked without changing anything.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};

use super::super::documents::{
    AlertReport, Alerts, AlertsQuery, ConnectionQuery, ConnectionReport, Events, EventsQuery,
    IncidentList, PolicyDocument, Report, ReportQuery, Rules, Services, Sources, SourcesQuery,
    Status, WhyQuery, WhyReport,
};
use super::super::failure::Failure;
use super::body::Asked;
use super::{Control, stream};
use crate::audit::Verified;

/// Most rows of one answer.
const MOST_ROWS: usize = 10_000;

pub async fn status(State(control): State<Control>) -> Result<Json<Status>, Failure> {
    Ok(Json(control.fence.call(|keeper| keeper.status()).await??))
}

pub async fn rules(State(control): State<Control>) -> Result<Json<Rules>, Failure> {
    Ok(Json(control.fence.call(|keeper| keeper.rules()).await??))
}

pub async fn services(State(control): State<Control>) -> Result<Json<Services>, Failure> {
    let services = control.fence.call(|keeper| keeper.service_ranges());
    Ok(Json(services.await?))
}

pub async fn policy(State(control): State<Control>) -> Result<Json<PolicyDocument>, Failure> {
    let policy = control.fence.call(|keeper| keeper.policy_in_force());
    Ok(Json(policy.await??))
}

pub async fn sources(
    State(control): State<Control>,
    Asked(query): Asked<SourcesQuery>,
) -> Result<Json<Sources>, Failure> {
    let SourcesQuery {
        by,
        limit,
        prefixes,
    } = query;
    let limit = limit.min(MOST_ROWS);
    let sources = control.fence.call(move |keeper| {
        let rates = keeper.rates();
        let (sources, prefixes) = if prefixes {
            (Vec::new(), rates.top_prefixes(by, limit))
        } else {
            (rates.top(by, limit), Vec::new())
        };
        Sources {
            by,
            tracked: keeper.sources_tracked(),
            sources,
            prefixes,
        }
    });
    let mut sources = sources.await?;
    control.warden.mark(&mut sources.sources);
    Ok(Json(sources))
}

pub async fn events(
    State(control): State<Control>,
    Asked(query): Asked<EventsQuery>,
) -> Result<Json<Events>, Failure> {
    let latest = control.events.latest(query.limit.min(MOST_ROWS));
    let events = control.fence.call(move |keeper| Events {
        events: latest
            .iter()
            .map(|sighting| keeper.name_event(sighting))
            .collect(),
    });
    Ok(Json(events.await?))
}

pub async fn connection(
    State(control): State<Control>,
    Asked(query): Asked<ConnectionQuery>,
) -> Result<Json<ConnectionReport>, Failure> {
    let report = control.fence.call(move |keeper| keeper.connection(&query));
    Ok(Json(report.await??))
}

pub async fn why(
    State(control): State<Control>,
    Asked(query): Asked<WhyQuery>,
) -> Result<Json<WhyReport>, Failure> {
    let report = control.fence.call(move |keeper| keeper.why(query.address));
    Ok(Json(report.await?))
}

pub async fn alert(
    State(control): State<Control>,
    Path(id): Path<String>,
) -> Result<Json<AlertReport>, Failure> {
    let id = id
        .parse()
        .map_err(|_| Failure::Invalid(format!("`{id}` is no number of an alert or incident")))?;
    let report = control.fence.call(move |keeper| keeper.alert_report(id));
    Ok(Json(report.await??))
}

pub async fn incidents(State(control): State<Control>) -> Result<Json<IncidentList>, Failure> {
    let incidents = control.fence.call(|keeper| keeper.incidents().all());
    Ok(Json(IncidentList {
        incidents: incidents.await?,
    }))
}

pub async fn alerts(
    State(control): State<Control>,
    Asked(query): Asked<AlertsQuery>,
) -> Result<Response, Failure> {
    match query.follow {
        0 => {
            let alerts = control.fence.call(|keeper| keeper.alerts().all()).await?;
            Ok(Json(Alerts { alerts }).into_response())
        }
        1 => {
            let (active, changes) = control
                .fence
                .call(|keeper| {
                    let active: Vec<_> = keeper.alerts().active().cloned().collect();
                    (active, keeper.alerts().follow())
                })
                .await?;
            Ok(stream::json_lines(active, changes))
        }
        _ => Err(Failure::Invalid("`follow` is 0 or 1".to_owned())),
    }
}

/// The audit log, with what does not hold in it.
pub async fn audit(State(control): State<Control>) -> Result<Json<Verified>, Failure> {
    let audit = control.audit.clone();
    let verified = tokio::task::spawn_blocking(move || audit.verify()).await;
    let verified = verified.map_err(|error| Failure::Unavailable(error.to_string()))?;
    Ok(Json(verified?))
}

/// A review of the policy and of a period.
pub async fn review(
    State(control): State<Control>,
    Asked(query): Asked<ReportQuery>,
) -> Result<Json<Report>, Failure> {
    let audit = control.audit.clone();
    let verified = tokio::task::spawn_blocking(move || audit.verify()).await;
    let verified = verified.map_err(|error| Failure::Unavailable(error.to_string()))??;
    let report = control
        .fence
        .call(move |keeper| keeper.review(query.since, verified));
    Ok(Json(report.await??))
}
