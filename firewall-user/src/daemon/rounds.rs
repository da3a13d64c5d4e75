//! What goes on by itself while the daemon runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use super::fence::Fence;
use super::keeper::Keeper;
use super::pulse::Pulse;
use super::service;

/// How often the counts are read.
const ROUND: Duration = Duration::from_millis(250);

/// Reads the counts and runs the detector, until the fence thread ends.
pub async fn tick(fence: Fence, pulse: Arc<Pulse>) {
    let mut rounds = interval(ROUND);
    // After an apply that took long, one round is enough.
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let round = fence.call(Keeper::tick);
        match round.await {
            Ok(Ok(())) => {
                pulse.beat();
                service::alive();
            }
            Ok(Err(error)) => error!("a round failed: {error:#}"),
            Err(_) => return,
        }
    }
}
