//! Putting a new policy in force, one at a time: read and checked off the reactor and off the fence
//! thread, so that bans do not wait for a long list to be read.

use std::time::Duration;

use super::documents::ApplyReport;
use super::documents::RollbackReport;
use super::failure::Failure;
use super::fence::Fence;
use super::history::By;
use super::memory::Remembered;
use super::offer::{Offer, Origin};
use crate::guard::Session;
use crate::policy::UNREADABLE;

/// Begins what is said of a file that a confined daemon may not read.
pub const CONFINED: &str = "the daemon is confined to folders";

/// How a policy is to be put in force.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Who asks, and why.
    pub by: By,
    /// Say what would be, and change nothing.
    pub dry_run: bool,
    /// On trial: goes back by itself unless it is confirmed within this time.
    pub confirm: Option<Duration>,
    /// Even if it cuts what the host lives by.
    pub force: bool,
    /// Whoever asks puts the file back if it is refused: the daemon's own file is then not wrong.
    pub tentative: bool,
    /// The ssh session of whoever asks.
    pub session: Option<Session>,
}

impl Orders {
    /// At once, and held up by whatever there is to say against it.
    pub fn by(by: By) -> Self {
        Self {
            by,
            dry_run: false,
            confirm: None,
            force: false,
            tentative: false,
            session: None,
        }
    }
}

/// Applies policies; behind a lock, so that the one asked for last is the one in force.
#[derive(Debug)]
pub struct Reloader {
    fence: Fence,
    /// The daemon may not read every file of the host.
    confined: bool,
}

impl Reloader {
    pub fn new(fence: Fence, confined: bool) -> Self {
        Self { fence, confined }
    }

    /// Reads, checks and, unless it is a dry run, puts in force. On any error the policy in force stays.
    pub async fn apply(&self, origin: Origin, orders: Orders) -> Result<ApplyReport, Failure> {
        let own = origin.is_own();
        let read = tokio::task::spawn_blocking(move || Offer::read(&origin)).await;
        let read = read.map_err(|error| Failure::Unavailable(error.to_string()))?;
        match read {
            Ok(offer) => {
                self.fence
                    .call(move |keeper| keeper.apply(offer, &orders))
                    .await?
            }
            Err(error) => {
                let error = self.explained(error);
                if !orders.dry_run {
                    tracing::error!("the policy in force stays: {error}");
                    let reason = error.clone();
                    let noted = own && !orders.tentative;
                    self.fence
                        .call(move |keeper| keeper.refuse_policy(noted, reason))
                        .await?;
                }
                Err(Failure::Refused(error))
            }
        }
    }

    /// What cannot be read may be readable to all but a daemon that is confined.
    fn explained(&self, error: String) -> String {
        if !self.confined || !error.contains(UNREADABLE) {
            return error;
        }
        format!(
            "{error}\n{CONFINED} that its settings and its own policy name: put the file \
             there, or name its folder in `read` under [hardening] of the host settings and start the \
             daemon anew"
        )
    }

    /// Keeps the policy on trial.
    pub async fn confirm(&self, by: By) -> Result<super::documents::ConfirmReport, Failure> {
        self.fence.call(move |keeper| keeper.confirm(&by)).await?
    }

    /// Goes back to the policy before.
    pub async fn roll_back(&self, by: By) -> Result<RollbackReport, Failure> {
        self.fence.call(move |keeper| keeper.roll_back(&by)).await?
    }

    /// Goes back to an entry of the history, with the lists of its sets as they are now.
    pub async fn roll_back_to(
        &self,
        number: u64,
        orders: Orders,
    ) -> Result<RollbackReport, Failure> {
        let asked = self.fence.call(move |keeper| keeper.history_entry(number));
        let kept = asked.await??;
        let read = tokio::task::spawn_blocking(move || {
            let policy = Remembered {
                text: kept.text,
                source: kept.entry.source,
                base: kept.entry.base,
                own: kept.entry.own,
                applied: kept.entry.time,
            };
            policy.offer()
        });
        let read = read
            .await
            .map_err(|error| Failure::Unavailable(error.to_string()))?;
        let offer = read.map_err(|error| {
            Failure::Refused(format!(
                "entry {number} of the history cannot be read any more: {error}"
            ))
        })?;
        self.fence
            .call(move |keeper| keeper.roll_back_to(number, offer, &orders))
            .await?
    }
}
