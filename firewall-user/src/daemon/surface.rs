//! What of the host is exposed by the policy in force, for the page: what `palisade surface` lists, looked at by the daemon itself. A
//! confined daemon may not look into other processes, so listeners have no names of programs here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use firewall_common::layout::INTERFACES;
use firewall_common::{Direction, Verdict};
use jiff::Timestamp;
use serde::Serialize;
use tracing::warn;

use super::events::EventRing;
use super::failure::Failure;
use super::fence::Fence;
use crate::datapath::clock;
use crate::detect::Sighting;
use crate::guard::Ways;
use crate::host::{Host, Transport};
use crate::policy::{Environment, Mode, Policy};
use crate::surface::{Judge, Surface, Traffic, survey};

/// How long an answer holds at least: a look compiles the policy anew.
const FRESH: Duration = Duration::from_secs(60);
/// And how many times as long as it took: thousands of rules against each port take seconds.
const REST: u32 = 100;
/// How long whoever asks waits for a look.
const WAIT: Duration = Duration::from_secs(2);
/// How long nothing must have come to a listener for it to be called unused.
const QUIET_SECONDS: u64 = 86_400;

/// `GET /v1/surface`.
#[derive(Debug, Serialize)]
pub struct SurfaceReport {
    pub generation: u64,
    /// Seconds for which samples of packets have been taken.
    pub watched_seconds: u64,
    #[serde(flatten)]
    pub surface: Surface,
}

/// What the fence thread knows that a look needs.
#[derive(Debug)]
pub struct Grounds {
    pub generation: u64,
    pub policy: Policy,
    pub interfaces: Vec<String>,
    pub rules: HashMap<String, u64>,
    pub watched_seconds: u64,
}

/// The latest look, shared by all who ask.
#[derive(Clone, Debug, Default)]
pub struct Lookout {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    latest: Option<Look>,
    looking: bool,
}

#[derive(Debug)]
struct Look {
    /// Until when it holds.
    until: Instant,
    generation: u64,
    /// `None` if the host could not be looked at.
    report: Option<Arc<SurfaceReport>>,
}

impl Lookout {
    /// The surface, at most a minute old on most hosts. A look goes on when nobody waits for it any more, there is one at a time, and
    /// however long it takes, it takes no more than a hundredth of a processor; `None` while the first one goes on.
    pub async fn surface(
        &self,
        fence: &Fence,
        events: &EventRing,
    ) -> Result<Option<Arc<SurfaceReport>>, Failure> {
        let generation = fence.call(|keeper| keeper.generation()).await?;
        if self.begin(generation) {
            let (lookout, fence, events) = (self.clone(), fence.clone(), events.clone());
            tokio::spawn(async move { lookout.look(&fence, &events).await });
        }
        let asked = Instant::now();
        loop {
            {
                let state = self.state();
                if !state.looking || asked.elapsed() > WAIT {
                    let known = state.latest.as_ref();
                    return Ok(known.and_then(|look| look.report.clone()));
                }
            }
            tokio::time::sleep(WAIT / 50).await;
        }
    }

    /// Whether it is time for another look, which whoever asks then takes.
    fn begin(&self, generation: u64) -> bool {
        let mut state = self.state();
        let holds = state
            .latest
            .as_ref()
            .is_some_and(|look| look.until > Instant::now() && look.generation == generation);
        if state.looking || holds {
            return false;
        }
        state.looking = true;
        true
    }

    async fn look(&self, fence: &Fence, events: &EventRing) {
        let started = Instant::now();
        let mut generation = 0;
        let looked = async {
            let grounds = fence.call(|keeper| keeper.grounds()).await??;
            generation = grounds.generation;
            let seen = events.latest(usize::MAX);
            let looked = tokio::task::spawn_blocking(move || look(grounds, &seen)).await;
            Ok::<_, Failure>(looked.map_err(anyhow::Error::from)??)
        }
        .await;
        if let Err(error) = &looked {
            warn!("what of this host is exposed cannot be told: {error}");
        }
        let mut state = self.state();
        state.looking = false;
        state.latest = Some(Look {
            until: Instant::now() + FRESH.max(started.elapsed() * REST),
            generation,
            report: looked.ok().map(Arc::new),
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(grounds: Grounds, seen: &[Sighting]) -> anyhow::Result<SurfaceReport> {
    let Grounds {
        generation,
        mut policy,
        mut interfaces,
        rules,
        watched_seconds,
    } = grounds;
    policy.defaults.mode = Mode::Enforce;
    interfaces.truncate(INTERFACES as usize);
    let compiled = policy.compile(&Environment {
        interfaces: interfaces.clone(),
        clock_offset: clock::offset(),
        now: Some(Timestamp::now()),
        ..Environment::default()
    })?;
    let host = Host::look(std::path::Path::new(crate::settings::RESOLV_CONF))?;
    let mut judge = Judge::new(&policy, compiled, clock::monotonic());
    let traffic = Traffic {
        rules,
        ports: ports(seen),
        watched_seconds,
    };
    let ways = Ways::of_this_host(&interfaces);
    let surface = survey(
        &mut judge,
        &policy,
        &host,
        &ways,
        Some(&traffic),
        QUIET_SECONDS,
    );
    Ok(SurfaceReport {
        generation,
        watched_seconds,
        surface,
    })
}

/// When a packet to each port was let in last, as far as samples tell.
fn ports(seen: &[Sighting]) -> HashMap<(Transport, u16), Timestamp> {
    let mut ports = HashMap::new();
    for sighting in seen {
        let transports = [Transport::Tcp, Transport::Udp];
        let transport = transports
            .into_iter()
            .find(|transport| transport.number() == sighting.packet.protocol);
        let Some(transport) = transport else { continue };
        if sighting.direction != Direction::Inbound || sighting.verdict != Verdict::Pass {
            continue;
        }
        let time = Timestamp::from_nanosecond(sighting.time.into()).unwrap_or_default();
        let latest = ports
            .entry((transport, sighting.packet.destination_port))
            .or_insert(time);
        *latest = time.max(*latest);
    }
    ports
}
