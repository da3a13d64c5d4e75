//! Putting a new policy in force, one at a time: read and checked off the reactor and off the fence
//! thread, so that bans do not wait for a long list to be read.

use super::documents::ApplyReport;
use super::failure::Failure;
use super::fence::Fence;
use super::offer::{Offer, Origin};

/// Applies policies; behind a lock, so that the one asked for last is the one in force.
#[derive(Debug)]
pub struct Reloader {
    fence: Fence,
}

impl Reloader {
    pub fn new(fence: Fence) -> Self {
        Self { fence }
    }

    /// Reads, checks and, unless it is a dry run, puts in force. On any error the policy in force stays.
    pub async fn apply(&self, origin: Origin, dry_run: bool) -> Result<ApplyReport, Failure> {
        let read = tokio::task::spawn_blocking(move || Offer::read(&origin)).await;
        let read = read.map_err(|error| Failure::Unavailable(error.to_string()))?;
        match read {
            Ok(offer) => {
                self.fence
                    .call(move |keeper| keeper.apply(offer, dry_run))
                    .await?
            }
            Err(error) => {
                if !dry_run {
                    tracing::error!("the policy in force stays: {error}");
                    let reason = error.clone();
                    self.fence
                        .call(move |keeper| keeper.refuse_policy(reason))
                        .await?;
                }
                Err(Failure::Refused(error))
            }
        }
    }
}
