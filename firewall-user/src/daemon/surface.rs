//! What of the host is exposed by the policy in force, for the page: what `palisade surface` lists, looked at by the daemon itself. A
//! confined daemon may not look into other processes, so listeners have no names of programs here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firewall_common::layout::INTERFACES;
use firewall_common::{Direction, Verdict};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Mutex;

use super::events::EventRing;
use super::failure::Failure;
use super::fence::Fence;
use crate::datapath::clock;
use crate::detect::Sighting;
use crate::guard::Ways;
use crate::host::{Host, Transport};
use crate::policy::{Environment, Mode, Policy};
use crate::surface::{Judge, Surface, Traffic, survey};

/// How long an answer holds: a look compiles the policy anew.
const FRESH: Duration = Duration::from_secs(60);
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
    latest: Arc<Mutex<Option<Look>>>,
}

#[derive(Debug)]
struct Look {
    time: Instant,
    report: Arc<SurfaceReport>,
}

impl Lookout {
    /// The surface, at most a minute old, and never by a policy that is gone.
    pub async fn surface(
        &self,
        fence: &Fence,
        events: &EventRing,
    ) -> Result<Arc<SurfaceReport>, Failure> {
        let mut latest = self.latest.lock().await;
        let generation = fence.call(|keeper| keeper.generation()).await?;
        if let Some(look) = &*latest
            && look.time.elapsed() < FRESH
            && look.report.generation == generation
        {
            return Ok(look.report.clone());
        }
        let grounds = fence.call(|keeper| keeper.grounds()).await??;
        let seen = events.latest(usize::MAX);
        let looking = tokio::task::spawn_blocking(move || look(grounds, &seen)).await;
        let report = looking.map_err(|error| Failure::Unavailable(error.to_string()))??;
        let report = Arc::new(report);
        *latest = Some(Look {
            time: Instant::now(),
            report: report.clone(),
        });
        Ok(report)
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
