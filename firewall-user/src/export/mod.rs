//! What other systems are told: metrics for Prometheus, and whether all is well.

mod cookies;
mod metrics;
mod ranges;
mod server;
mod standing;

pub use metrics::{Reading, render};
pub use server::{Readable, serve};

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit of this build: the checkout's, or what `PALISADE_REVISION` said during the build.
pub const REVISION: &str = match option_env!("PALISADE_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
