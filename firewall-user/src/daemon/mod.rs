//! The daemon: puts the fence up, watches it, answers over the control socket, and leaves the fence
//! standing when it goes.

pub mod documents;

mod alerts;
mod chronicle;
mod confine;
mod control;
mod cookies;
mod events;
mod failure;
mod fence;
mod history;
mod incidents;
mod keeper;
mod ledger;
mod lock;
mod logs;
mod memory;
mod offer;
mod privilege;
mod pulse;
mod ranges;
mod rates;
mod reload;
mod rounds;
mod service;
mod signing;
mod sockets;
mod stack;
mod stopped;
pub mod stopwatch;
mod surface;
mod traffic;
mod warden;
mod watch;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tracing::{error, info, warn};

pub use chronicle::EvidenceSettings;
pub use logs::LogFormat;
pub(crate) use privilege::missing as missing_privileges;
pub use pulse::Pulse;
pub use stopped::{check, take_down};
pub use watch::{protocol as watch_protocol, reason as watch_reason};

use crate::audit::{AuditLog, Author, Channel, Entry, Outcome};
use crate::export;
use crate::export::notify::{Notifiers, Way};
use crate::guard::lookout;
use crate::sandbox::Confinement;
use crate::settings::Settings;
use crate::state::{Health, Store};
use control::Control;
pub use control::{LARGEST_BODY, Members, REASON, Roles};
use events::EventRing;
use fence::Fence;
use history::By;
use keeper::Keeper;
use offer::{Offer, Origin};
pub use reload::CONFINED;
use reload::{Orders, Reloader};
use traffic::History;

/// Runs in the foreground until told to stop.
pub fn run(config: &Path, format: LogFormat) -> anyhow::Result<()> {
    let settings = Arc::new(Settings::load(config)?);
    logs::start(format)?;
    privilege::check()?;
    if settings.hardening.sandbox {
        lookout::start(&settings.resolv_conf)?;
    }
    let ways = Notifiers::open_ways(&settings.notify);
    let _locks = lock::Locks::take(&settings.state_dir, &settings.pin_dir)?;
    let offered = Offer::read(&Origin::Own(settings.policy.clone()));
    // While this is the only thread: the runtime's inherit it.
    let (confinement, _sandbox) = confine::confine(&settings, &offered)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let result = runtime.block_on(guard(settings, offered, confinement, ways));
    // Whatever still runs on other threads must not keep the process.
    runtime.shutdown_background();
    result
}

/// Puts the fence up, and runs until a signal.
async fn guard(
    settings: Arc<Settings>,
    offered: Result<Offer, String>,
    confinement: Confinement,
    ways: Vec<Way>,
) -> anyhow::Result<()> {
    // Taken before anything is announced, so that an early SIGHUP cannot kill.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let health = Health::default();
    let audit = Arc::new(AuditLog::open(&settings.state_dir)?.telling(health.clone()));
    let store = Store::open(&settings.state_dir, health)?;
    // A second daemon on this socket is told so before it touches the fence.
    control::claim(&settings.socket)?;
    let confined = confinement.enabled;
    let building = settings.clone();
    let pulse = Arc::new(Pulse::default());
    let beating = pulse.clone();
    let ring = EventRing::new(settings.events.keep);
    let filling = ring.clone();
    let (keeping, auditing) = (store.clone(), audit.clone());
    let (fence, warden, thread) = Fence::start(move || {
        let keeper = Keeper::start(
            building,
            confinement,
            offered,
            beating,
            filling,
            keeping,
            auditing,
        )?;
        let warden = keeper.warden().clone();
        Ok((keeper, warden))
    })
    .await?;
    // Whoever can connect finds the fence up.
    let listener = control::bind(&settings.socket, settings.roles.are_set())?;

    let notifiers = notify(&settings, ways, &fence).await?;
    tokio::spawn(rounds::tick(fence.clone(), pulse.clone()));
    let reloader = Arc::new(Mutex::new(Reloader::new(fence.clone(), confined)));
    let control = Control {
        fence: fence.clone(),
        warden: warden.clone(),
        events: ring,
        reloader: reloader.clone(),
        traffic: History::default(),
        lookout: surface::Lookout::default(),
        policy: settings.policy.clone(),
        roles: settings.roles.clone(),
        notifiers,
        audit: audit.clone(),
        store: store.clone(),
    };
    tokio::spawn(control.traffic.clone().keep(fence.clone()));
    if let Some(web) = settings.metrics.clone() {
        let viewer = control::viewer(control.clone());
        tokio::spawn(export::serve(web, fence.clone(), pulse.clone(), viewer));
    }
    let router = control::router(control);
    let served = tokio::spawn(async move {
        axum::serve(
            listener,
            router.into_make_service_with_connect_info::<control::Peer>(),
        )
        .await
    });
    info!(socket = %settings.socket.display(), "ready");
    service::ready();

    let result = loop {
        tokio::select! {
            _ = hangup.recv() => reload(&reloader, &settings, &audit).await,
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            () = fence.ended_by_itself() => {
                break Err(anyhow!("the fence thread panicked; the fence itself stands as it was"));
            }
        }
    };
    service::stopping();
    served.abort();
    remove_socket(&settings.socket);
    warden.save();
    // A fence thread that has ended has nothing to keep.
    let _ = fence.call(Keeper::save_counts).await;
    let closing = tokio::task::spawn_blocking(move || store.close());
    // A thread that panicked has told so.
    let _ = closing.await;
    info!("stopping; the fence stays up");
    drop((fence, reloader));
    // The thread ends once every task has let go of it; those still running go with the runtime.
    drop(thread);
    result
}

/// Has those told who want to know, from the first alert on.
async fn notify(
    settings: &Arc<Settings>,
    ways: Vec<Way>,
    fence: &Fence,
) -> anyhow::Result<Notifiers> {
    let reading = settings.clone();
    let prepare = move || Notifiers::prepare(&reading.notify, ways, &reading.state_dir);
    let notifiers = tokio::task::spawn_blocking(prepare).await?;
    let told = notifiers.clone();
    let changes = fence.call(move |keeper| {
        keeper.report_on(told);
        keeper.alerts().follow()
    });
    notifiers.start(&changes.await?);
    Ok(notifiers)
}

/// Reads the daemon's own policy file again.
async fn reload(reloader: &Mutex<Reloader>, settings: &Settings, audit: &AuditLog) {
    service::reloading();
    let origin = Origin::Own(settings.policy.clone());
    // What went wrong is in the log and in the status: the fence stays as it was.
    let orders = Orders::by(By::signal());
    let applied = reloader.lock().await.apply(origin, orders).await;
    if let Err(failure) = &applied {
        error!("reload failed: {failure}");
    }
    audit.append(Entry {
        who: Author::default(),
        from: Channel::Signal,
        action: "policy.apply".to_owned(),
        target: Some(settings.policy.display().to_string()),
        reason: None,
        detail: applied
            .as_ref()
            .map_or(Value::Null, |report| documents::changes(&report.changes)),
        outcome: applied.map_or_else(
            |failure| Outcome::Refused(failure.to_string()),
            |_| Outcome::Done,
        ),
    });
    service::ready();
}

fn remove_socket(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        warn!(socket = %path.display(), "the control socket could not be removed: {error}");
    }
}

impl export::Readable for Fence {
    async fn read(&self) -> anyhow::Result<export::Reading> {
        Ok(self.call(|keeper| keeper.reading()).await??)
    }
}
