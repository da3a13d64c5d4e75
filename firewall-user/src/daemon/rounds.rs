//! What goes on by itself while the daemon runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use super::fence::Fence;
use super::keeper::Keeper;
use super::pulse::Pulse;
use super::service;

/// How often the counts are read.
const ROUND: Duration = Duration::from_millis(250);
/// How often it is looked whether they should be read sooner, ...
const GLANCE: Duration = Duration::from_millis(50);
/// ... and how soon that may be: a handshake under way is given this time before it counts as unfinished.
const SOONEST: Duration = Duration::from_millis(150);

/// Reads the counts and runs the detector, until the fence thread ends.
pub async fn tick(fence: Fence, pulse: Arc<Pulse>) {
    let mut glances = interval(GLANCE);
    let mut latest: Option<Instant> = None;
    // After an apply that took long, one round is enough.
    glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        glances.tick().await;
        let since = latest.map_or(ROUND, |latest| latest.elapsed());
        // Half a glance early is better than half a glance late.
        if since + GLANCE / 2 < ROUND {
            match fence.call(Keeper::glance).await {
                Ok(true) if since + GLANCE / 2 >= SOONEST => {}
                Ok(_) => continue,
                Err(_) => return,
            }
        }
        latest = Some(Instant::now());
        let round = fence.call(Keeper::tick);
        match round.await {
            Ok(Ok(())) => {
                pulse.beat();
                service::alive();
            }
            Ok(Err(error)) if is_read_only(&error) => {
                // A sandbox is bound to the folder that was there when it was made. The next start
                // makes folder and sandbox anew; this one could never put the fence up again.
                error!("the pins are gone and cannot be made anew from here: {error:#}");
                std::process::exit(1);
            }
            Ok(Err(error)) => error!("a round failed: {error:#}"),
            Err(_) => return,
        }
    }
}

fn is_read_only(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
}
