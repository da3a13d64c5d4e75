//! The fence as a whole: start, change, read, take down.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use aya::maps::MapError;
use firewall_common::cookies::CookieCounts;
use firewall_common::decide::signature;
use firewall_common::layout::{
    Connection, Counter, FlowKey, Health, TOTALS, TRAFFIC_KINDS, total_index,
};
use firewall_common::{Direction, Reason, Verdict};
use ipnet::IpNet;

use super::events::Events;
use super::ground::Ground;
use super::held::Held;
use super::maps::Maps;
use super::pins::Pins;
use super::state::State;
use super::swap::{Swap, prepare};
use super::{
    ActiveBan, Applied, Attachment, BanTable, DatapathSettings, MapUse, Ports, Prepared, RuleHits,
    SignatureSlots, Total, Waiting, attach, clock, driver_counts,
};
use crate::detect::{HostCounts, ServiceCounts, Sighting, SourceSample};
use crate::engine::builtin_name;
use crate::policy::{Compiled, Counters, Policy};

/// Sampled packets that are taken in one go; the others wait in the ring buffer.
const MOST_SIGHTINGS: usize = 1 << 14;

/// The fence itself. Dropping it leaves everything attached: links and maps are pinned.
#[derive(Debug)]
pub struct Datapath {
    pub(super) settings: DatapathSettings,
    pub(super) pins: Pins,
    pub(super) state: State,
    counters: Counters,
    pub(super) attachments: Vec<Attachment>,
    /// Those that get their fence once they have a device.
    pub(super) waiting: Vec<Waiting>,
    pub(super) maps: Maps,
    pub(super) events: Events,
    pub(super) held: Held,
}

impl Datapath {
    /// Opens or creates the pinned state and attaches `policy` to every interface, taking over what
    /// an earlier daemon left.
    pub fn start(settings: DatapathSettings, policy: &Policy) -> anyhow::Result<(Self, Applied)> {
        let ground = Ground::lay(&settings)?;
        let prepared = Self::prepare_start(&settings, policy)?;
        let (fence, applied, _) = Self::start_prepared(settings, policy, prepared, ground)?;
        Ok((fence, applied))
    }

    /// As [`Self::start`], with what [`Self::prepare_start`] made of the policy; it is given back.
    pub fn start_prepared(
        settings: DatapathSettings,
        policy: &Policy,
        prepared: Prepared,
        ground: Ground,
    ) -> anyhow::Result<(Self, Applied, Compiled)> {
        if settings.interfaces.is_empty() {
            bail!("no interface to protect: set interfaces = [\"eth0\"] or the like");
        }
        attach::check(&settings.interfaces)?;
        // One that is not there is fenced once it comes.
        Self::missing(&settings)?;
        let state = State::load(&settings.state_dir)?;
        let pins = ground.build_on()?;
        let mut swap = Swap {
            settings: &settings,
            pins: &pins,
            state,
            waiting: &[],
            stuck: false,
        };
        let applied = swap.apply(policy, &prepared, &[]);
        let state = swap.state;
        let (attachments, applied) = match applied {
            Ok(done) => done,
            Err(error) => {
                // Of a fence that never stood nothing stays in the kernel; one that stands keeps all.
                if let Err(error) = pins.remove_if_unused() {
                    tracing::warn!(%error, "pinned maps stay behind");
                }
                return Err(error);
            }
        };
        let mut fence = Self::open(settings, pins, state, attachments)?;
        fence.take_off_strangers()?;
        if let Err(error) = fence.pins.forget_other_layouts() {
            tracing::warn!("maps of another version stay behind: {error:#}");
        }
        Ok((fence, applied, prepared.compiled))
    }

    /// Opens the state of a fence that stands.
    pub(super) fn open(
        settings: DatapathSettings,
        pins: Pins,
        state: State,
        attachments: Vec<Attachment>,
    ) -> anyhow::Result<Self> {
        let (maps, events, held) = Held::open(&pins)?;
        let mut fence = Self {
            maps,
            events,
            held,
            counters: state.counters(),
            settings,
            pins,
            state,
            attachments,
            waiting: Vec::new(),
        };
        fence.wait_for_all();
        Ok(fence)
    }

    /// Compiles a policy for this fence, and changes nothing.
    pub fn prepare(&self, policy: &Policy) -> anyhow::Result<Prepared> {
        prepare(policy, &self.settings.interfaces, self.counters.clone())
    }

    /// Compiles a policy as for a fence of these settings that was never up, and touches nothing.
    pub fn rehearse(settings: &DatapathSettings, policy: &Policy) -> anyhow::Result<Compiled> {
        Ok(prepare(policy, &settings.interfaces, Counters::default())?.compiled)
    }

    /// Compiles a policy for a fence of these settings before it is up.
    pub fn prepare_start(settings: &DatapathSettings, policy: &Policy) -> anyhow::Result<Prepared> {
        let counters = State::load(&settings.state_dir)?.counters();
        prepare(policy, &settings.interfaces, counters)
    }

    /// Whether a fence is pinned in this folder, with or without a daemon.
    pub fn stands(pin_dir: &Path) -> bool {
        Pins::any_link(pin_dir)
    }

    /// Swaps in a new policy on all interfaces, atomically per packet. Ends a trial, if there is one.
    pub fn apply(&mut self, policy: &Policy) -> anyhow::Result<Applied> {
        let prepared = self.prepare(policy)?;
        self.apply_prepared(policy, prepared)
    }

    /// As [`Self::apply`], with what [`Self::prepare`] made of the policy.
    pub fn apply_prepared(
        &mut self,
        policy: &Policy,
        prepared: Prepared,
    ) -> anyhow::Result<Applied> {
        self.swap(|swap, current| swap.apply(policy, &prepared, current))
    }

    /// As [`Self::apply`], on trial: unless [`Self::confirm`] comes within `duration`, the kernel
    /// goes back to the generation before, whatever has become of this process.
    pub fn apply_on_trial(
        &mut self,
        policy: &Policy,
        prepared: Prepared,
        duration: Duration,
    ) -> anyhow::Result<Applied> {
        if self.state.trial.is_some() {
            bail!("a policy is on trial already");
        }
        self.swap(|swap, current| swap.apply_on_trial(policy, prepared, duration, current))
    }

    fn swap(
        &mut self,
        change: impl FnOnce(&mut Swap<'_>, &[Attachment]) -> anyhow::Result<(Vec<Attachment>, Applied)>,
    ) -> anyhow::Result<Applied> {
        let stands = !self.attachments.is_empty() && Pins::any_link(&self.settings.pin_dir);
        let whole = stands && self.held.is_pinned(&self.pins);
        if !whole {
            // Taking the whole fence down removed the pin folder; or somebody else did, or parts of it.
            self.pins = Pins::open(&self.settings.pin_dir)?;
        }
        let mut swap = Swap {
            settings: &self.settings,
            pins: &self.pins,
            state: std::mem::take(&mut self.state),
            waiting: &self.waiting,
            stuck: false,
        };
        let result = change(&mut swap, &self.attachments);
        self.state = swap.state;
        let (attachments, applied) = result?;
        self.attachments = attachments;
        self.wait_for_all();
        self.counters = self.state.counters();
        // Pins may have gone while the programs were loaded.
        let anew = !whole || !self.held.is_pinned(&self.pins);
        if anew {
            self.open_anew()?;
        }
        Ok(Applied { anew, ..applied })
    }

    /// Takes the fence down from one interface, or all; the interfaces that it was taken from, and those
    /// that get none any more when they come.
    pub fn detach(&mut self, only: Option<&str>) -> anyhow::Result<Vec<String>> {
        if let Some(name) = only
            && !self.attachments.iter().any(|known| known.interface == name)
            && !self.waiting.iter().any(|known| known.interface == name)
        {
            bail!("interface {name} is not protected");
        }
        let mut detached = Vec::new();
        let mut failed = Ok(());
        for attachment in std::mem::take(&mut self.attachments) {
            let name = &attachment.interface;
            if only.is_some_and(|only| only != name) {
                self.attachments.push(attachment);
                continue;
            }
            match attach::take_off(name, &self.pins, self.state.attached.get(name)) {
                Ok(_) => {
                    self.state.attached.remove(name);
                    self.pins.forget_programs(name)?;
                    detached.push(name.clone());
                }
                // It is still there, and so are others that can be taken off.
                Err(error) => {
                    failed = Err(error.context(format!("interface {name}")));
                    self.attachments.push(attachment);
                }
            }
        }
        for waiting in std::mem::take(&mut self.waiting) {
            let name = &waiting.interface;
            if only.is_some_and(|only| only != name) {
                self.waiting.push(waiting);
                continue;
            }
            // What a device had that is gone, or was renamed.
            match attach::take_off(name, &self.pins, None)
                .and_then(|_| self.pins.forget_programs(name))
            {
                Ok(()) => detached.push(waiting.interface),
                Err(error) => {
                    failed = Err(error.context(format!("interface {name}")));
                    self.waiting.push(waiting);
                }
            }
        }
        self.state.note();
        failed?;
        self.remove_if_unused()?;
        Ok(detached)
    }

    /// Removes what is pinned, unless a fence stands or an interface that comes will need it.
    pub(super) fn remove_if_unused(&self) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            self.pins.remove_if_unused()?;
        }
        Ok(())
    }

    /// Interfaces that an earlier daemon protected and this one is not told to: the fence there
    /// would stand for ever without anybody to change it.
    fn take_off_strangers(&mut self) -> anyhow::Result<()> {
        let protects = |name: &String| {
            self.settings
                .interfaces
                .iter()
                .any(|interface| interface.name == *name)
        };
        let mut strangers = self.pins.linked()?;
        strangers.extend(self.state.attached.keys().cloned());
        strangers.retain(|name| !protects(name));
        for name in strangers {
            let before = self.state.attached.remove(&name);
            self.pins.forget_programs(&name)?;
            if attach::take_off(&name, &self.pins, before.as_ref())? {
                tracing::warn!(
                    interface = name,
                    "no longer in the settings: the fence was taken down there"
                );
            }
        }
        // That the disk is full is no reason to leave the host open.
        self.state.note();
        Ok(())
    }

    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    pub fn generation(&self) -> u64 {
        self.state.generation
    }

    /// Bans a prefix for `duration`; `None` is without end. Replaces the ban of the same prefix.
    pub fn ban(&self, prefix: IpNet, duration: Option<Duration>) -> anyhow::Result<()> {
        self.maps.bans().ban(prefix, duration)
    }

    /// Lifts a ban; whether there was one.
    pub fn unban(&self, prefix: IpNet) -> bool {
        self.maps.bans().unban(prefix)
    }

    /// Bans in force; removes those that have ended.
    pub fn bans(&self) -> Vec<ActiveBan> {
        self.maps.bans().bans()
    }

    /// A handle on the bans, for use beside this one.
    pub fn ban_table(&self) -> BanTable {
        self.maps.bans().clone()
    }

    /// Whether `address` is banned now, and by which prefix (the longest).
    pub fn banned_by(&self, address: IpAddr) -> Option<ActiveBan> {
        let bans = self.bans();
        let covering = bans.into_iter().filter(|ban| ban.prefix.contains(&address));
        covering.max_by_key(|ban| ban.prefix.prefix_len())
    }

    /// What the connection table holds under a key.
    pub fn connection(&self, key: &FlowKey) -> anyhow::Result<Option<Connection>> {
        match self.maps.connections()?.get(key, 0) {
            Ok(connection) => Ok(Some(connection)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).context("looking a connection up"),
        }
    }

    pub fn totals(&self) -> anyhow::Result<Vec<Total>> {
        let mut totals = Vec::with_capacity(TOTALS as usize);
        for (slot, interface) in self.settings.interfaces.iter().enumerate() {
            for direction in [Direction::Inbound, Direction::Outbound] {
                for verdict in [Verdict::Pass, Verdict::Drop] {
                    for reason in Reason::ALL {
                        let index = total_index(
                            slot as u32,
                            direction as u32,
                            verdict as u32,
                            reason as u32,
                        );
                        totals.push(Total {
                            interface: interface.name.clone(),
                            direction,
                            verdict,
                            reason,
                            counter: self.maps.verdict(index)?,
                        });
                    }
                }
            }
        }
        Ok(totals)
    }

    pub fn rule_hits(&self) -> Vec<RuleHits> {
        let builtin = (0..firewall_common::layout::FIRST_POLICY_COUNTER)
            .filter_map(|counter| Some((builtin_name(counter)?.to_owned(), counter)));
        let named = self
            .counters
            .iter()
            .map(|(name, counter)| (name.to_owned(), counter));
        builtin
            .chain(named)
            .map(|(rule, counter)| RuleHits {
                rule,
                counter: self.maps.rule_hits(counter),
                limited: self.maps.limited(counter),
            })
            .collect()
    }

    pub fn host_counts(&self) -> anyhow::Result<HostCounts> {
        let mut host = HostCounts::default();
        for total in self.totals()? {
            host.add(total.direction, total.verdict, total.counter);
        }
        [host.kinds, host.kinds_outbound] = self.maps.kinds()?;
        Ok(host)
    }

    /// The sources that sent something since the last call, and the time on their clock: see
    /// [`Snapshot::clock`](crate::detect::Snapshot::clock). Their bitmaps start anew.
    pub fn sources(&mut self) -> (u64, Vec<SourceSample>) {
        let now = clock::monotonic();
        let samples = self.maps.sources().active(now, clock::realtime());
        (now / 1_000_000, samples)
    }

    /// How many sources the table holds.
    pub fn sources_tracked(&self) -> u64 {
        self.maps.source_table().count().1
    }

    /// Has SYNs to these TCP ports answered with cookies, and to no others (see
    /// [`super::cookies_unsupported`]). `plain` leaves out the options that the stack would have to
    /// read back from a timestamp.
    pub fn arm_cookies(&mut self, ports: &Ports, plain: bool) {
        self.maps.cookies().arm(ports, plain);
    }

    /// The ports that are armed, maybe by an earlier daemon.
    pub fn cookies_armed(&mut self) -> Ports {
        self.maps.cookies().armed()
    }

    pub fn cookie_counts(&self) -> anyhow::Result<CookieCounts> {
        self.maps.cookie_counts()
    }

    /// Inbound packets by kind.
    pub fn inbound_kinds(&self) -> anyhow::Result<[u64; TRAFFIC_KINDS]> {
        self.maps.kinds_of(Direction::Inbound)
    }

    /// The places of signatures. What stands in them is looked at only if the settings allow it.
    pub fn signatures(&mut self) -> &mut SignatureSlots {
        self.maps.signatures()
    }

    /// Packets and bytes that fitted the signature in a place, since the counters began.
    pub fn signature_hits(&self, slot: usize) -> Counter {
        self.maps.rule_hits(signature::FIRST_COUNTER + slot as u32)
    }

    /// How many answers the drivers of all interfaces say they lost; 0 where they do not tell.
    pub fn cookies_lost(&self) -> u64 {
        let interfaces = self.settings.interfaces.iter();
        let lost = interfaces.map(|interface| driver_counts::lost_answers(&interface.name));
        lost.filter_map(Result::ok).sum()
    }

    pub fn health(&self) -> anyhow::Result<Health> {
        self.maps.health()
    }

    /// How full the kernel's tables are, and how many sources are told apart.
    pub fn map_use(&self) -> anyhow::Result<(Vec<MapUse>, u64)> {
        self.maps.map_use()
    }

    /// Sampled packets since the last call, in about the order in which they came.
    pub fn sightings(&mut self) -> Vec<Sighting> {
        self.events
            .take(MOST_SIGHTINGS, clock::monotonic(), clock::realtime())
    }

    /// What use is made of each service of `policy`, which is the one in force.
    pub fn services(&self, policy: &Policy) -> Vec<ServiceCounts> {
        let services = policy.services(&self.counters);
        services
            .map(|(name, rule)| {
                let (hits, uses) = (self.maps.rule_hits(rule), self.maps.rule_uses(rule));
                ServiceCounts::new(name, rule, hits, uses)
            })
            .collect()
    }

    /// The rule name of an event's or connection's counter.
    pub fn rule_name(&self, counter: u32) -> Option<String> {
        builtin_name(counter)
            .or_else(|| self.counters.name(counter))
            .map(str::to_owned)
    }

    /// The interface name of a slot.
    pub fn interface_name(&self, slot: u32) -> Option<String> {
        self.settings
            .interfaces
            .get(slot as usize)
            .map(|interface| interface.name.clone())
    }

    /// The folder for the datapath's own state.
    pub fn state_dir(&self) -> &Path {
        &self.settings.state_dir
    }
}
