//! Why a request was not fulfilled, so that a person, a script and HTTP each can tell whose turn it is.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::documents::ErrorDocument;

/// A request that was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The peer may not.
    #[error("{0}")]
    Forbidden(String),
    /// What it is about does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It makes sense, but a rule of the house is against it.
    #[error("{0}")]
    Refused(String),
    /// The daemon cannot now.
    #[error("{0}")]
    Unavailable(String),
    /// The kernel or the file system would not.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::error!(error = %self, "a request failed");
        }
        answer(status, self.to_string())
    }
}

/// What whoever asked is told, for the audit log.
#[derive(Clone, Debug)]
pub struct Told(pub String);

/// An error document with its status.
pub fn answer(status: StatusCode, error: String) -> Response {
    let told = Extension(Told(error.clone()));
    (status, told, Json(ErrorDocument { error })).into_response()
}
