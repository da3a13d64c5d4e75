//! What goes on by itself while the daemon runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::error;

use super::events::EventRing;
use super::fence::Fence;
use super::keeper::Keeper;
use super::pulse::Pulse;
use super::service;
use crate::datapath::Events;

/// How often the counts are read.
const ROUND: Duration = Duration::from_millis(250);
/// A pause after an error, so that it does not fill the log.
const PAUSE: Duration = Duration::from_secs(1);

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

/// Keeps the latest sampled packets, from whichever stream was opened last.
pub async fn collect_events(mut streams: mpsc::UnboundedReceiver<Events>, ring: EventRing) {
    let Some(mut events) = streams.recv().await else {
        return;
    };
    loop {
        tokio::select! {
            newer = streams.recv() => match newer {
                Some(newer) => events = newer,
                None => return,
            },
            event = events.next() => match event {
                Ok(event) => ring.push(event),
                Err(error) => {
                    error!("sampled packets cannot be read: {error:#}");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}
