//! Request bodies and queries, with errors in the shape of every other error.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::DeserializeOwned;

use super::super::failure::answer;

/// A JSON body; none at all is taken for `{}`.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let bytes = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|rejection| answer(rejection.status(), rejection.body_text()))?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        // serde would take a list for an object with every key left out.
        if text.trim_ascii_start().first() != Some(&b'{') {
            let error = "the body must be a JSON object".to_owned();
            return Err(answer(StatusCode::BAD_REQUEST, error));
        }
        let Json(value) = Json::<T>::from_bytes(text).map_err(|rejection| {
            let text = match &rejection {
                // The reason without axum's preamble.
                JsonRejection::JsonDataError(error) => deepest(error),
                JsonRejection::JsonSyntaxError(error) => deepest(error),
                _ => rejection.body_text(),
            };
            answer(StatusCode::BAD_REQUEST, text)
        })?;
        Ok(Self(value))
    }
}

/// The query of a URL.
#[derive(Debug)]
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let text = match &rejection {
                    QueryRejection::FailedToDeserializeQueryString(error) => deepest(error),
                    _ => rejection.body_text(),
                };
                Err(answer(StatusCode::BAD_REQUEST, text))
            }
        }
    }
}

/// The innermost cause, which says what is wrong.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}
