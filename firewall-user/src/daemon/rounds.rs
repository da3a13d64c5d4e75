//! What goes on by itself while the daemon runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::error;

use super::events::EventRing;
use super::fence::Fence;
use super::pulse::Pulse;
use super::service;
use crate::datapath::Events;

/// How often the counts are read.
const ROUND: Duration = Duration::from_secs(1);
/// A pause after an error, so that it does not fill the log.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads the counts and runs the detector, until the fence thread ends.
pub async fn tick(fence: Fence, pulse: Arc<Pulse>) {
    let mut rounds = interval(ROUND);
    // After an apply that took long, one round is enough.
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let round = fence.call(|keeper| keeper.tick().map(|()| keeper.attached()));
        match round.await {
            Ok(Ok(attached)) => {
                pulse.beat(attached);
                service::alive();
            }
            Ok(Err(error)) => error!("the counts cannot be read: {error:#}"),
            Err(_) => return,
        }
    }
}

/// Keeps the latest sampled packets.
pub async fn collect_events(mut events: Events, ring: EventRing) {
    loop {
        match events.next().await {
            Ok(event) => ring.push(event),
            Err(error) => {
                error!("sampled packets cannot be read: {error:#}");
                sleep(PAUSE).await;
            }
        }
    }
}
