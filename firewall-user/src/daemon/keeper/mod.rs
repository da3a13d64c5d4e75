//! What the fence thread keeps: the datapath with everything whose order matters to it - the policy
//! in force, the detector. Synchronous, and the only place that changes the fence.

mod answer;
mod begin;
mod cookies;
mod counts;
mod devices;
mod guard;
mod history;
mod report;
mod review;
mod services;
mod signatures;
mod tick;
mod trial;
mod viewer;
mod watch;
mod why;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::Value;
use tracing::{info, warn};

use super::alerts::AlertLog;
use super::chronicle::Chronicle;
use super::cookies::Cookies;
use super::documents::{ApplyReport, DetachReport};
use super::events::EventRing;
use super::failure::Failure;
use super::history::{By, History, How};
use super::incidents::IncidentLog;
use super::ledger::Ledger;
use super::memory::{Memory, Remembered};
use super::offer::Offer;
use super::pulse::Pulse;
use super::ranges::RangeFile;
use super::rates::Rates;
use super::reload::Orders;
use super::signing::Signing;
use super::sockets::SocketWatch;
use super::stopwatch::Stopwatch;
use super::warden::Warden;
use crate::audit::AuditLog;
use crate::datapath::{Applied, Datapath, clock};
use crate::detect::signature::{Limits, Watch};
use crate::detect::{Detector, Glance, ServiceCounts};
use crate::export::notify::Notifiers;
use crate::guard::Threat;
use crate::policy::{Changes, Policy};
use crate::respond::{Regulars, SignatureMode};
use crate::sandbox::Confinement;
use crate::settings::Settings;
use crate::state::Store;
use begin::Up;
use counts::Chores;
use signatures::Flooded;
use trial::Behind;

/// The fence and what belongs to it.
#[derive(Debug)]
pub struct Keeper {
    settings: Arc<Settings>,
    /// What this process has given up.
    confinement: Confinement,
    started: Timestamp,
    datapath: Datapath,
    policy: Policy,
    /// Where the policy in force came from.
    source: String,
    applied: Timestamp,
    /// Why the daemon's own policy file is not in force as it was read last; `None` if it is.
    policy_error: Option<String>,
    /// What the policy in force cut of what the host lives by when it was put in force.
    cuts: Vec<Threat>,
    /// What is in force again when the policy on trial fails.
    behind: Option<Behind>,
    memory: Memory,
    history: History,
    store: Store,
    audit: Arc<AuditLog>,
    warden: Arc<Warden>,
    cookies: Cookies,
    pulse: Arc<Pulse>,
    /// Where people find the latest sampled packets.
    events: EventRing,
    detector: Detector,
    /// Looks at connections to this host's services.
    sockets: SocketWatch,
    /// What the detector learned, on disk.
    ranges: RangeFile,
    alerts: AlertLog,
    incidents: IncidentLog,
    regulars: Regulars,
    chronicle: Chronicle,
    rates: Rates,
    /// How long rounds took, and the look at the table of sources in each.
    rounds: Stopwatch,
    looks: Stopwatch,
    ledger: Ledger,
    chores: Chores,
    glance: Glance,
    /// Looks for the signatures of floods.
    watch: Watch,
    signing: Signing,
    /// What alerts keep of their signatures.
    told: BTreeMap<u64, Value>,
    flooded: Flooded,
    /// The use of each service, and when it was read.
    services: (Instant, Vec<ServiceCounts>),
    /// When the attachments were looked at last.
    looked: Instant,
    /// When it was said last that no interface has a device.
    reminded: Instant,
    /// Who is told of alerts, for reports.
    notifiers: Notifiers,
}

impl Keeper {
    /// Puts the fence up, or takes it over, and the bans with it. `offered` is the daemon's own
    /// policy file as it was read.
    pub fn start(
        settings: Arc<Settings>,
        confinement: Confinement,
        offered: Result<Offer, String>,
        pulse: Arc<Pulse>,
        events: EventRing,
        store: Store,
        audit: Arc<AuditLog>,
    ) -> anyhow::Result<Self> {
        // Before anything is written: a damaged file is to be set aside as it was found.
        let ranges = RangeFile::begin(store.clone());
        let mut memory = Memory::load(store.clone(), &settings.state_dir);
        let Up {
            mut datapath,
            offer,
            applied,
            behind,
            error,
            cuts,
        } = begin::put_up(&settings, offered, &mut memory)?;
        for attachment in datapath.attachments() {
            info!(
                interface = attachment.interface,
                mode = report::mode_name(attachment.mode),
                egress = attachment.egress,
                taken_over = attachment.taken_over,
                "protecting"
            );
        }
        let warden = Warden::restore(
            datapath.ban_table(),
            store.clone(),
            offer.policy.never_block.clone(),
        )?;
        let cookies = Cookies::load(
            store.clone(),
            &settings.respond,
            &mut datapath,
            &offer.policy,
            tick::now(),
        )?;
        warden.set_limit(settings.respond.limit);
        let ledger = Ledger::load(store.clone());
        let (chronicle, told) =
            Chronicle::open(store.clone(), &settings.state_dir, settings.evidence)?;
        let incidents = IncidentLog::resume(told.incidents, settings.evidence.incident_bytes);
        let enforces = settings.respond.signature == SignatureMode::Enforce;
        let signing = Signing::resume(store.clone(), &mut datapath, enforces);
        let watch = Watch::new(Limits {
            collateral: settings.respond.signature_collateral,
        });
        let history = History::load(store.clone());
        let mut keeper = Self {
            detector: Detector::new(settings.detect.clone()),
            sockets: SocketWatch::start(),
            ranges,
            settings,
            confinement,
            started: Timestamp::now(),
            datapath,
            policy: offer.policy,
            source: offer.source,
            applied,
            policy_error: error,
            cuts,
            behind: behind.map(|offer| Behind {
                policy: offer.policy,
                source: offer.source,
                applied: memory
                    .in_force
                    .as_ref()
                    .map_or(applied, |policy| policy.applied),
                clock_offset: clock::offset(),
                cuts: Vec::new(),
            }),
            memory,
            history,
            store,
            audit,
            warden: Arc::new(warden),
            cookies,
            pulse,
            events,
            alerts: AlertLog::resume(told.alerts),
            incidents,
            regulars: Regulars::default(),
            chronicle,
            rates: Rates::default(),
            rounds: Stopwatch::default(),
            looks: Stopwatch::default(),
            ledger,
            chores: Chores::default(),
            glance: Glance::default(),
            watch,
            signing,
            told: BTreeMap::new(),
            flooded: Flooded::default(),
            services: (Instant::now(), Vec::new()),
            looked: Instant::now(),
            reminded: Instant::now(),
            notifiers: Notifiers::default(),
        };
        keeper.tell_of_waiting();
        keeper.enter_start();
        keeper.settle_counts();
        keeper.pulse.attached(keeper.attached());
        if keeper.datapath.is_confirmed() {
            // The daemon before was ended between the word and what follows from it.
            let by = By::daemon(Some("it was confirmed before the daemon ended".to_owned()));
            let confirmed = keeper.confirm(&by);
            confirmed.map_err(|failure| anyhow::anyhow!("{failure}"))?;
        }
        Ok(keeper)
    }

    /// Puts an offered policy in force, or says what that would be.
    pub fn apply(&mut self, offer: Offer, orders: &Orders) -> Result<ApplyReport, Failure> {
        let mut report = ApplyReport {
            dry_run: orders.dry_run,
            source: offer.source.clone(),
            generation: self.datapath.generation(),
            rules: offer.policy.rules.len(),
            sets: offer.policy.sets.len(),
            warnings: offer.warnings.clone(),
            compile_seconds: 0.0,
            load_seconds: 0.0,
            swap_seconds: 0.0,
            bans_lifted: Vec::new(),
            trial: None,
            cuts: Vec::new(),
            guard_notes: Vec::new(),
            changes: Changes::between(&self.policy, &offer.policy),
        };
        // A deadline that has passed a moment ago must not stand in the way.
        self.look_after_trial()?;
        if let Some(why) = self.busy_with_trial().filter(|_| !orders.dry_run) {
            return Err(Failure::Refused(why));
        }
        if let Some(why) = self.edits_what_was_given_back(&offer, orders) {
            return Err(Failure::Refused(why));
        }
        let noted = offer.own && !orders.tentative && !orders.dry_run;
        let prepared = match self.datapath.prepare(&offer.policy) {
            Ok(prepared) => prepared,
            Err(error) => {
                let error = format!("{error:#}");
                self.refuse_policy(noted, error.clone());
                return Err(Failure::Refused(error));
            }
        };
        report.compile_seconds = prepared.took.as_secs_f64();
        let (advice, prepared) = self.examine(&offer.policy, prepared, orders.session)?;
        report.cuts = advice.cuts.clone();
        report.guard_notes = advice.notes.clone();
        if orders.dry_run {
            return Ok(report);
        }
        if let Err(refused) = self.insist(&advice, orders) {
            self.refuse_policy(noted, refused.to_string());
            return Err(refused);
        }
        let applied = match orders.confirm {
            None => self.datapath.apply_prepared(&offer.policy, prepared),
            Some(duration) => self
                .datapath
                .apply_on_trial(&offer.policy, prepared, duration),
        };
        let applied = match applied {
            Ok(applied) => applied,
            Err(error) => {
                let error = error.context("the policy in force stays");
                self.refuse_policy(noted, format!("{error:#}"));
                return Err(Failure::Failed(error));
            }
        };
        let cuts_before = std::mem::replace(&mut self.cuts, advice.cuts);
        self.pulse.attached(self.attached());
        log_applied(&applied, &offer);
        report.generation = applied.generation;
        report.compile_seconds = applied.compile.as_secs_f64();
        report.load_seconds = applied.load.as_secs_f64();
        report.swap_seconds = applied.swap.as_secs_f64();
        if offer.own {
            self.policy_error = None;
        }
        if orders.confirm.is_some() {
            self.on_trial(offer, cuts_before, None);
            report.trial = self.trial_status();
        } else {
            self.applied = Timestamp::now();
            self.memory.take(Remembered::new(&offer, self.applied));
            self.policy_error = None;
            self.policy = offer.policy;
            self.source = offer.source;
        }
        self.compiled_now();
        self.enter_history(How::Apply, orders.by.clone(), report.changes.clone());
        report.bans_lifted = self.warden.protect(self.policy.never_block.clone())?;
        self.restore_state(&applied)?;
        Ok(report)
    }

    /// Brings the bans back where the pinned state was made anew.
    fn restore_state(&mut self, applied: &Applied) -> anyhow::Result<()> {
        if applied.anew {
            self.warden.enforce_all()?;
            self.signing.put_again(&mut self.datapath);
        }
        Ok(())
    }

    /// Notes that an offered policy was wrong: the one in force stays. What is said of the daemon's
    /// own policy file does not change with another file that is refused.
    pub fn refuse_policy(&mut self, own: bool, error: String) {
        if own {
            self.policy_error = Some(error);
        }
    }

    /// Takes the fence down from one interface, or all.
    pub fn detach(&mut self, interface: Option<&str>) -> Result<DetachReport, Failure> {
        if let Some(name) = interface
            && !self.attached_names().iter().any(|other| other == name)
            && !self.waits_for(name)
        {
            return Err(Failure::NotFound(format!(
                "interface `{name}` is not protected by this daemon (protected: {})",
                listed(&self.attached_names())
            )));
        }
        if interface.is_none() {
            // What a later `apply` goes back to is not a policy that nobody confirmed.
            self.end_trial("the fence was taken down")?;
        } else if let Some(why) = self.busy_with_trial() {
            return Err(Failure::Refused(why));
        }
        let detached = self.datapath.detach(interface);
        self.pulse.attached(self.attached());
        let detached = detached.context("the fence could not be taken down")?;
        warn!(interfaces = listed(&detached), "the fence was taken down");
        Ok(DetachReport {
            detached,
            attached: self.attached_names(),
        })
    }

    fn attached_names(&self) -> Vec<String> {
        let attachments = self.datapath.attachments().iter();
        attachments
            .map(|attachment| attachment.interface.clone())
            .collect()
    }

    /// How many interfaces are protected.
    pub fn attached(&self) -> usize {
        self.datapath.attachments().len()
    }

    pub fn alerts(&self) -> &AlertLog {
        &self.alerts
    }

    pub fn incidents(&self) -> &IncidentLog {
        &self.incidents
    }

    pub fn warden(&self) -> &Arc<Warden> {
        &self.warden
    }

    /// Tells of these notifiers from now on.
    pub fn report_on(&mut self, notifiers: Notifiers) {
        self.notifiers = notifiers;
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
