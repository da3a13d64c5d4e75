//! What is said of notifications.

use serde::{Deserialize, Serialize};

use crate::export::notify::{NotifierDocument, TestDocument};

/// `GET /v1/notify`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NotifierList {
    pub notifiers: Vec<NotifierDocument>,
}

/// Body of `POST /v1/notify/test`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyTest {
    /// Only this one.
    #[serde(default)]
    pub name: Option<String>,
}

/// Its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TestList {
    pub tests: Vec<TestDocument>,
}
