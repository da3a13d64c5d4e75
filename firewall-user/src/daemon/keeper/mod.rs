//! What the fence thread keeps: the datapath with everything whose order matters to it - the policy
//! in force, the detector. Synchronous, and the only place that changes the fence.

mod counts;
mod report;
mod tick;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::alerts::AlertLog;
use super::documents::{ApplyReport, DetachReport};
use super::failure::Failure;
use super::ledger::Ledger;
use super::offer::Offer;
use super::pulse::Pulse;
use super::rates::Rates;
use super::warden::Warden;
use crate::datapath::{Applied, Datapath, Events};
use crate::detect::Detector;
use crate::policy::Policy;
use crate::respond::BanFile;
use crate::settings::Settings;
use counts::Chores;

/// The fence and what belongs to it.
#[derive(Debug)]
pub struct Keeper {
    settings: Arc<Settings>,
    started: Timestamp,
    datapath: Datapath,
    policy: Policy,
    /// Where the policy in force came from.
    source: String,
    applied: Timestamp,
    /// Why the latest policy offered was not taken; `None` if it was.
    policy_error: Option<String>,
    warden: Arc<Warden>,
    pulse: Arc<Pulse>,
    /// Takes each event stream that the datapath opens.
    streams: mpsc::UnboundedSender<Events>,
    detector: Detector,
    alerts: AlertLog,
    rates: Rates,
    ledger: Ledger,
    chores: Chores,
    /// When the attachments were looked at last.
    looked: Instant,
}

/// How often the attachments are looked at.
const LOOK: Duration = Duration::from_secs(1);

impl Keeper {
    /// Puts the fence up, or takes it over, and the bans with it.
    pub fn start(
        settings: Arc<Settings>,
        offer: Offer,
        pulse: Arc<Pulse>,
        streams: mpsc::UnboundedSender<Events>,
    ) -> anyhow::Result<Self> {
        let (datapath, applied) = Datapath::start(settings.datapath(), &offer.policy)?;
        for attachment in datapath.attachments() {
            info!(
                interface = attachment.interface,
                mode = report::mode_name(attachment.mode),
                egress = attachment.egress,
                taken_over = attachment.taken_over,
                "protecting"
            );
        }
        log_applied(&applied, &offer);
        let warden = Warden::restore(
            datapath.ban_table(),
            BanFile::in_state_dir(&settings.state_dir),
            offer.policy.never_block.clone(),
        )?;
        let now = Timestamp::now();
        let ledger = Ledger::load(&settings.state_dir)?;
        let mut keeper = Self {
            detector: Detector::new(settings.detect.clone()),
            settings,
            started: now,
            datapath,
            policy: offer.policy,
            source: offer.source,
            applied: now,
            policy_error: None,
            warden: Arc::new(warden),
            pulse,
            streams,
            alerts: AlertLog::default(),
            rates: Rates::default(),
            ledger,
            chores: Chores::default(),
            looked: Instant::now(),
        };
        keeper.settle_counts();
        keeper.hand_on_events();
        keeper.pulse.attached(keeper.attached());
        Ok(keeper)
    }

    /// Puts an offered policy in force, or says what that would be.
    pub fn apply(&mut self, offer: Offer, dry_run: bool) -> Result<ApplyReport, Failure> {
        let mut report = ApplyReport {
            dry_run,
            source: offer.source.clone(),
            generation: self.datapath.generation(),
            rules: offer.policy.rules.len(),
            sets: offer.policy.sets.len(),
            warnings: offer.warnings.clone(),
            compile_seconds: 0.0,
            load_seconds: 0.0,
            swap_seconds: 0.0,
            bans_lifted: Vec::new(),
        };
        if dry_run {
            let compile = self
                .datapath
                .rehearse(&offer.policy)
                .map_err(|error| Failure::Refused(format!("{error:#}")))?;
            report.compile_seconds = compile.as_secs_f64();
            return Ok(report);
        }
        let applied = match self.datapath.apply(&offer.policy) {
            Ok(applied) => applied,
            Err(error) => {
                let error = error.context("the policy in force stays");
                self.policy_error = Some(format!("{error:#}"));
                return Err(Failure::Failed(error));
            }
        };
        self.pulse.attached(self.attached());
        log_applied(&applied, &offer);
        report.generation = applied.generation;
        report.compile_seconds = applied.compile.as_secs_f64();
        report.load_seconds = applied.load.as_secs_f64();
        report.swap_seconds = applied.swap.as_secs_f64();
        self.policy = offer.policy;
        self.source = offer.source;
        self.applied = Timestamp::now();
        self.policy_error = None;
        self.compiled_now();
        report.bans_lifted = self.warden.protect(self.policy.never_block.clone())?;
        self.restore_state(&applied)?;
        Ok(report)
    }

    /// Sees to it that the fence stands where it should: a device that was deleted and made anew has
    /// none until it is put up again.
    pub(super) fn look_after(&mut self) -> anyhow::Result<()> {
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        let lost = self.datapath.lost();
        self.pulse.attached(self.attached() - lost.len());
        if lost.is_empty() {
            return Ok(());
        }
        let interfaces = listed(&lost);
        error!(interfaces, "the fence is gone there; putting it up again");
        let applied = self
            .datapath
            .apply(&self.policy)
            .with_context(|| format!("{interfaces}: no fence"))?;
        self.restore_state(&applied)?;
        self.pulse.attached(self.attached());
        warn!(interfaces, "the fence stands again");
        Ok(())
    }

    /// Brings the bans back where the pinned state was made anew.
    fn restore_state(&mut self, applied: &Applied) -> anyhow::Result<()> {
        if applied.anew {
            self.warden.enforce_all()?;
            self.hand_on_events();
        }
        Ok(())
    }

    /// Has the stream of sampled packets read, if it was opened anew.
    fn hand_on_events(&mut self) {
        if let Some(events) = self.datapath.take_events() {
            // Without a reader samples are lost, nothing else.
            let _ = self.streams.send(events);
        }
    }

    /// Notes that an offered policy was wrong: the one in force stays.
    pub fn refuse_policy(&mut self, error: String) {
        self.policy_error = Some(error);
    }

    /// Takes the fence down from one interface, or all.
    pub fn detach(&mut self, interface: Option<&str>) -> Result<DetachReport, Failure> {
        let attached = |datapath: &Datapath| -> Vec<String> {
            let names = datapath.attachments().iter();
            names
                .map(|attachment| attachment.interface.clone())
                .collect()
        };
        if let Some(name) = interface
            && !attached(&self.datapath).iter().any(|other| other == name)
        {
            return Err(Failure::NotFound(format!(
                "interface `{name}` is not protected by this daemon (protected: {})",
                listed(&attached(&self.datapath))
            )));
        }
        let detached = self.datapath.detach(interface);
        self.pulse.attached(self.attached());
        let detached = detached.context("the fence could not be taken down")?;
        warn!(interfaces = listed(&detached), "the fence was taken down");
        Ok(DetachReport {
            detached,
            attached: attached(&self.datapath),
        })
    }

    /// How many interfaces are protected.
    pub fn attached(&self) -> usize {
        self.datapath.attachments().len()
    }

    pub fn alerts(&self) -> &AlertLog {
        &self.alerts
    }

    pub fn warden(&self) -> &Arc<Warden> {
        &self.warden
    }

    pub fn rates(&self) -> &Rates {
        &self.rates
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn log_applied(applied: &Applied, offer: &Offer) {
    for warning in &offer.warnings {
        warn!(policy = offer.source, "{warning}");
    }
    info!(
        generation = applied.generation,
        policy = offer.source,
        rules = offer.policy.rules.len(),
        compile_ms = applied.compile.as_secs_f64() * 1e3,
        load_ms = applied.load.as_secs_f64() * 1e3,
        swap_ms = applied.swap.as_secs_f64() * 1e3,
        "policy in force"
    );
}
