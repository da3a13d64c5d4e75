//! What other systems are told: metrics for Prometheus, whether all is well, and a page for people.

mod cookies;
mod metrics;
mod notifications;
pub mod notify;
mod ranges;
mod standing;
mod state;
mod web;

pub use metrics::{Reading, render};
pub use web::{ClientAuth, PasswordHash, Readable, TlsSettings, TlsVersion, WebSettings, serve};

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit of this build: the checkout's, or what `PALISADE_REVISION` said during the build.
pub const REVISION: &str = match option_env!("PALISADE_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
