//! The endpoints with a fence whose thread has ended: what is wrong with a request must show before
//! the fence is asked, and what is right must say that the fence is gone.

use std::path::Path;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::super::documents::ErrorDocument;
use super::super::warden::tests::warden;
use super::*;
use crate::state::Health;

fn root() -> Peer {
    Peer {
        uid: Some(0),
        ..Peer::default()
    }
}

fn control() -> Control {
    let folder = tempfile::tempdir().expect("a folder");
    control_in(folder.path())
}

fn control_in(folder: &Path) -> Control {
    let store = Store::open(folder, Health::default()).expect("a store");
    let (warden, _) = warden(store.clone(), &["198.51.100.0/24"]);
    let fence = Fence::ended();
    Control {
        warden: Arc::new(warden),
        reloader: Arc::new(Mutex::new(Reloader::new(fence.clone(), false))),
        fence,
        events: EventRing::new(1),
        traffic: History::default(),
        lookout: Lookout::default(),
        policy: PathBuf::from("/nonexistent/policy.toml"),
        roles: Arc::default(),
        audit: Arc::new(AuditLog::open(folder).expect("a log")),
        store,
        notifiers: Notifiers::default(),
    }
}

/// The status and the error of a request that cannot succeed.
async fn failure(
    control: &Control,
    peer: Peer,
    method: &str,
    path: &str,
    body: &str,
) -> (StatusCode, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .extension(ConnectInfo(peer))
        .body(Body::from(body.to_owned()))
        .expect("a request");
    let response = router(control.clone())
        .oneshot(request)
        .await
        .expect("an answer");
    let status = response.status();
    let bytes = response.into_body().collect().await.expect("a body");
    let document: ErrorDocument =
        serde_json::from_slice(&bytes.to_bytes()).expect("an error document");
    (status, document.error)
}

#[tokio::test]
async fn others_than_root_may_look_but_not_change() {
    let control = control();
    let stranger = Peer {
        uid: Some(54_321),
        ..Peer::default()
    };
    let nobody = Peer::default();
    let ban = "{\"prefix\":\"203.0.113.7\"}";
    for (method, path, body) in [
        ("POST", "/v1/bans", ban),
        ("DELETE", "/v1/bans?prefix=203.0.113.7", ""),
        ("POST", "/v1/apply", ""),
        ("POST", "/v1/detach", ""),
    ] {
        for peer in [stranger.clone(), nobody.clone()] {
            let (status, error) = failure(&control, peer, method, path, body).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {error}");
        }
    }
    let (status, _) = failure(&control, stranger, "GET", "/v1/status", "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "asked the fence");
    assert!(control.warden.list(usize::MAX).bans.is_empty());
    let (status, _) = failure(&control, root(), "POST", "/v1/detach", "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "asked the fence");
}

/// The list of endpoints is the router's own: a new one is tried without being named here.
#[tokio::test]
async fn whatever_is_no_look_is_refused_to_viewers_and_written_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let control = control_in(folder.path());
    let viewer = Peer {
        uid: Some(54_321),
        ..Peer::default()
    };
    let mut tried = 0;
    for (path, _) in endpoints() {
        let path = path.replace("{id}", "1").replace("{number}", "1");
        assert!(
            !path.contains('{'),
            "{path} has a part that is not filled in here"
        );
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "LOCK"] {
            let (status, error) = failure(&control, viewer.clone(), method, &path, "{}").await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {error}");
            assert!(error.contains("viewer"), "{method} {path}: {error}");
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
    let verified = control.audit.verify().expect("a log");
    assert!(verified.faults.is_empty());
    assert_eq!(verified.records.len(), tried, "each refusal is on record");
    assert!(control.warden.list(1).bans.is_empty());
}

#[tokio::test]
async fn an_operator_changes_no_policy_and_takes_no_fence_down() {
    let mut control = control();
    control.roles = Arc::new(Roles {
        operator: Members {
            users: vec![54_321],
            groups: Vec::new(),
        },
        ..Roles::default()
    });
    let operator = Peer {
        uid: Some(54_321),
        ..Peer::default()
    };
    let stranger = Peer {
        uid: Some(54_322),
        ..Peer::default()
    };
    for (path, _) in endpoints() {
        let path = path.replace("{id}", "1").replace("{number}", "1");
        let (status, error) = failure(&control, stranger.clone(), "GET", &path, "").await;
        assert_eq!(status, StatusCode::FORBIDDEN, "GET {path}: {error}");
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            if role::needed(&method, &path) == role::Role::Operator {
                continue;
            }
            let asked = failure(&control, operator.clone(), method.as_str(), &path, "{}");
            let (status, error) = asked.await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {error}");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told() {
    let control = control();
    for (method, path, body, says) in [
        ("POST", "/v1/bans", "{", "EOF"),
        ("POST", "/v1/bans", "", "missing field `prefix`"),
        (
            "POST",
            "/v1/bans",
            "{\"prefix\":\"203.0.113.7\",\"fro\":1}",
            "unknown field `fro`",
        ),
        (
            "POST",
            "/v1/bans",
            "{\"prefix\":\"203.0.113.7\",\"for\":\"soon\"}",
            "10m",
        ),
        (
            "POST",
            "/v1/bans",
            "{\"prefix\":\"203.0.113.7/24\"}",
            "write 203.0.113.0/24 for the network or 203.0.113.7 for the one address",
        ),
        ("DELETE", "/v1/bans", "", "missing field `prefix`"),
        ("POST", "/v1/apply", "{\"dryrun\":true}", "unknown field"),
        ("POST", "/v1/apply", "{\"path\":\"p.toml\"}", "absolute"),
        (
            "POST",
            "/v1/apply",
            "{\"path\":\"/p.toml\",\"text\":\"\"}",
            "exclude",
        ),
        ("POST", "/v1/detach", "[]", "JSON object"),
        ("GET", "/v1/sources?by=noise", "", "unknown variant `noise`"),
        ("GET", "/v1/sources?limit=-1", "", "invalid digit"),
        ("GET", "/v1/sources?top=1", "", "unknown field `top`"),
        ("GET", "/v1/watch?reason=bann", "", "`reason`: `bann`"),
        ("GET", "/v1/watch/frames?port=x", "", "0 to 65535"),
        ("GET", "/v1/watch?source=x", "", "unknown field `source`"),
        ("GET", "/v1/alerts?follow=2", "", "0 or 1"),
        ("GET", "/v1/alerts/latest", "", "no number"),
        ("GET", "/v1/why", "", "missing field `address`"),
        ("GET", "/v1/why?address=shop", "", "invalid IP address"),
    ] {
        let (status, error) = failure(&control, root(), method, path, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {path}: {error}");
        assert!(error.contains(says), "{method} {path} {body}: {error}");
    }
}

#[tokio::test]
async fn a_ban_against_the_rules_of_the_house_is_refused() {
    let control = control();
    for prefix in ["198.51.100.7", "0.0.0.0/0", "::/0"] {
        let body = format!("{{\"prefix\":\"{prefix}\"}}");
        let (status, error) = failure(&control, root(), "POST", "/v1/bans", &body).await;
        assert_eq!(
            status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{prefix}: {error}"
        );
    }
    let path = "/v1/bans?prefix=203.0.113.7";
    let (status, _) = failure(&control, root(), "DELETE", path, "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn unknown_places_and_methods_are_told_apart() {
    let control = control();
    let (status, _) = failure(&control, root(), "GET", "/v2/status", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, _) = failure(&control, root(), "POST", "/v1/status", "").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let control = control();
    let body = "x".repeat(LARGEST_BODY + 1);
    let (status, _) = failure(&control, root(), "POST", "/v1/apply", &body).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_wrong_policy_comes_back_with_its_place() {
    let control = control();
    let body = "{\"text\":\"version = 1\\nrulez = 2\\n\",\"dry_run\":true}";
    let (status, error) = failure(&control, root(), "POST", "/v1/apply", body).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(error.contains(":2:1:"), "{error}");
    let (_, error) = failure(&control, root(), "POST", "/v1/apply", "{\"dry_run\":true}").await;
    assert!(error.contains("/nonexistent/policy.toml"), "{error}");
}

#[tokio::test]
async fn the_kernel_says_who_speaks_over_a_real_socket() {
    let control = control();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("control.sock");
    let listener = bind(&path, false).expect("bound");
    let service = router(control).into_make_service_with_connect_info::<Peer>();
    let server = tokio::spawn(async move { axum::serve(listener, service).await });
    // The tests' user is the daemon's own user: it may change things, so the bans are asked.
    let error = tokio::task::spawn_blocking(move || {
        crate::cli::client::Client::new(&path)
            .expect("a client")
            .delete("/v1/bans?prefix=2001:db8::/64")
            .expect_err("there is no such ban")
    })
    .await
    .expect("no panic");
    assert_eq!(error.to_string(), "2001:db8::/64 is not banned");
    server.abort();
}
