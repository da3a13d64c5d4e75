//! At which services SYNs are answered with cookies: those that people order, and those that a
//! flood is about, as long as it lasts and a little longer. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};

use firewall_common::Direction;
use firewall_common::packet::protocol;
use serde::{Deserialize, Serialize};

use super::RespondMode;
use crate::detect::Time;
use crate::policy::{Action, DefaultAction, Mode, Policy};

/// `syn_cookies` of `[respond]`: what an alert about a SYN flood leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CookieMode {
    /// Cookies, unless `mode` only observes.
    #[default]
    Auto,
    /// Cookies, whatever `mode` is.
    Alert,
    /// No cookies, not by hand either: the kernel programs do without.
    Off,
}

impl CookieMode {
    /// Whether alerts lead to cookies.
    pub fn answers_alerts(self, mode: RespondMode) -> bool {
        match self {
            Self::Auto => mode != RespondMode::Observe,
            Self::Alert => true,
            Self::Off => false,
        }
    }

    /// The name as the settings write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Alert => "alert",
            Self::Off => "off",
        }
    }
}

/// What people order for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CookieOrder {
    /// Cookies until another order.
    On,
    /// No cookies, whatever an alert says.
    Off,
}

/// Why a service is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Armed {
    /// Somebody ordered it.
    Ordered,
    /// An alert fires.
    Alert,
    /// One fired; it stays armed until then.
    Held(Time),
}

/// Which services are to be armed. A service is the name of a rule, or the number of a port where
/// the default lets it in.
#[derive(Clone, Debug, Default)]
pub struct CookieBook {
    orders: BTreeMap<String, CookieOrder>,
    /// Alerts that fire.
    alerts: BTreeSet<u64>,
    /// Until when; `None` while an alert fires.
    flooded: BTreeMap<String, Option<Time>>,
    /// How long a service stays armed after the alert is over.
    hold: Time,
}

impl CookieBook {
    pub fn new(orders: BTreeMap<String, CookieOrder>, hold: Time) -> Self {
        Self {
            orders,
            hold,
            ..Self::default()
        }
    }

    pub fn orders(&self) -> &BTreeMap<String, CookieOrder> {
        &self.orders
    }

    /// Notes an order; `None` takes it back, and what alerts brought about with it.
    pub fn order(&mut self, service: &str, order: Option<CookieOrder>) {
        match order {
            Some(order) => {
                self.orders.insert(service.to_owned(), order);
            }
            None => {
                self.orders.remove(service);
            }
        }
        if order != Some(CookieOrder::On) && self.alerts.is_empty() {
            self.flooded.remove(service);
        }
    }

    /// An alert fires, or goes on: these services are flooded.
    pub fn flood(&mut self, alert: u64, services: impl IntoIterator<Item = String>) {
        self.alerts.insert(alert);
        self.flooded
            .extend(services.into_iter().map(|service| (service, None)));
    }

    /// Whether an alert fires.
    pub fn is_flooded(&self) -> bool {
        !self.alerts.is_empty()
    }

    /// A daemon before this one armed these services.
    pub fn inherit(&mut self, services: impl IntoIterator<Item = String>, now: Time) {
        let until = now.saturating_add(self.hold);
        self.flooded
            .extend(services.into_iter().map(|service| (service, Some(until))));
    }

    /// An alert is over; whether it was the last one that fired.
    pub fn over(&mut self, alert: u64, now: Time) -> bool {
        if !self.alerts.remove(&alert) || !self.alerts.is_empty() {
            return false;
        }
        for until in self.flooded.values_mut() {
            until.get_or_insert(now.saturating_add(self.hold));
        }
        !self.flooded.is_empty()
    }

    /// Forgets what has been held for long enough.
    pub fn expire(&mut self, now: Time) {
        // A clock that was set back must not hold for longer.
        let hold = self.hold;
        self.flooded
            .retain(|_, until| until.is_none_or(|until| now < until && until - now <= hold));
    }

    /// The services that are to be armed, and why.
    pub fn armed(&self) -> BTreeMap<&str, Armed> {
        let flooded = self.flooded.iter().map(|(service, until)| {
            let why = until.map_or(Armed::Alert, Armed::Held);
            (service.as_str(), why)
        });
        let mut armed: BTreeMap<&str, Armed> = flooded.collect();
        for (service, order) in &self.orders {
            match order {
                CookieOrder::On => armed.insert(service, Armed::Ordered),
                CookieOrder::Off => armed.remove(service.as_str()),
            };
        }
        armed
    }
}

/// The services that let TCP connections in, with their ports: rules, in the policy's order.
pub fn tcp_services(policy: &Policy) -> impl Iterator<Item = (&str, Vec<(u16, u16)>)> {
    let lets_in = policy.rules.iter().filter(|rule| {
        rule.action == Action::Accept
            && rule.direction == Direction::Inbound
            && rule.mode == Mode::Enforce
            && (rule.protocols.is_empty() || rule.protocols.contains(&protocol::TCP))
    });
    lets_in.map(|rule| {
        let ports = if rule.ports.is_empty() {
            vec![(0, u16::MAX)]
        } else {
            rule.ports.clone()
        };
        (rule.name.as_str(), ports)
    })
}

/// The ports of a service: of the rule of this name, or the port of this number where the default lets
/// everything in.
pub fn ports_of(policy: &Policy, service: &str) -> Option<Vec<(u16, u16)>> {
    let named = tcp_services(policy).find(|(name, _)| *name == service);
    if let Some((_, ports)) = named {
        return Some(ports);
    }
    let port = service.parse().ok()?;
    (policy.defaults.inbound == DefaultAction::Accept).then(|| vec![(port, port)])
}

/// From this share of all SYNs on, a flood is about a service.
const SHARE: f64 = 0.05;
/// How far back SYNs are looked at.
const SPAN: Time = 3_000_000_000;

/// The SYNs that each service let in lately.
#[derive(Clone, Debug, Default)]
pub struct SynTally {
    recent: std::collections::VecDeque<(Time, BTreeMap<String, u64>)>,
    /// Cumulative counts of the latest round.
    before: BTreeMap<String, u64>,
}

impl SynTally {
    /// Takes the cumulative counts of services, and what came in since without a rule, by port.
    pub fn add<'n>(
        &mut self,
        now: Time,
        counts: impl IntoIterator<Item = (&'n str, u64)>,
        ports: impl IntoIterator<Item = (u16, u64)>,
    ) {
        let mut fresh: BTreeMap<String, u64> = BTreeMap::new();
        let mut after = BTreeMap::new();
        for (service, count) in counts {
            // A count that went back was reset, and one that is new says nothing yet.
            let before = self.before.get(service).copied().unwrap_or(count);
            let more = count.saturating_sub(before);
            if more > 0 {
                fresh.insert(service.to_owned(), more);
            }
            after.insert(service.to_owned(), count);
        }
        for (port, more) in ports {
            *fresh.entry(port.to_string()).or_default() += more;
        }
        self.before = after;
        self.recent.push_back((now, fresh));
        while let Some((time, _)) = self.recent.front()
            && (now.saturating_sub(*time) > SPAN || *time > now)
        {
            self.recent.pop_front();
        }
    }

    /// The services that a flood is about: all with a share of the SYNs worth mentioning.
    pub fn flooded(&self) -> Vec<String> {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for (service, more) in self.recent.iter().flat_map(|(_, fresh)| fresh) {
            *sums.entry(service).or_default() += more;
        }
        let all = sums.values().sum::<u64>() as f64;
        let much = sums
            .into_iter()
            .filter(|(_, sum)| *sum as f64 >= all * SHARE);
        much.map(|(service, _)| service.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Time = 1_000_000_000;

    fn services(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_flooded_service_is_armed_while_the_alert_fires_and_for_a_minute_more() {
        let mut book = CookieBook::new(BTreeMap::new(), 60 * SECOND);
        book.flood(7, services(&["shop"]));
        book.expire(1_000 * SECOND);
        assert_eq!(book.armed(), [("shop", Armed::Alert)].into());
        assert!(book.over(7, 2_000 * SECOND));
        book.expire(2_059 * SECOND);
        let held = Armed::Held(2_060 * SECOND);
        assert_eq!(book.armed(), [("shop", held)].into());
        book.expire(2_060 * SECOND);
        assert!(book.armed().is_empty());
    }

    #[test]
    fn it_stays_armed_until_the_last_of_several_alerts_is_over() {
        let mut book = CookieBook::new(BTreeMap::new(), 60 * SECOND);
        book.flood(7, services(&["shop"]));
        book.flood(8, services(&["mail"]));
        assert!(!book.over(7, SECOND));
        assert!(!book.over(99, SECOND));
        assert_eq!(book.armed().len(), 2);
        assert!(book.over(8, SECOND));
        // A flood that comes again within the time is not cut short by the first one's end.
        book.flood(9, services(&["shop"]));
        book.expire(100 * SECOND);
        assert_eq!(book.armed(), [("shop", Armed::Alert)].into());
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_hold_for_longer() {
        let mut book = CookieBook::new(BTreeMap::new(), 60 * SECOND);
        book.inherit(services(&["shop"]), 5_000 * SECOND);
        book.expire(10 * SECOND);
        assert!(book.armed().is_empty());
    }

    #[test]
    fn an_order_stands_whatever_alerts_say() {
        let mut book = CookieBook::new(BTreeMap::new(), 60 * SECOND);
        book.order("shop", Some(CookieOrder::Off));
        book.order("mail", Some(CookieOrder::On));
        book.flood(1, services(&["shop", "mail", "dns"]));
        let armed = book.armed();
        assert_eq!(
            armed,
            [("dns", Armed::Alert), ("mail", Armed::Ordered)].into()
        );
        book.order("shop", None);
        assert_eq!(book.armed().get("shop"), Some(&Armed::Alert));
    }

    #[test]
    fn to_hand_a_service_back_ends_what_was_only_held() {
        let mut book = CookieBook::new(BTreeMap::new(), 60 * SECOND);
        book.flood(1, services(&["shop"]));
        book.over(1, SECOND);
        book.order("shop", None);
        assert!(book.armed().is_empty());
    }

    #[test]
    fn a_flood_is_about_the_services_that_take_a_share_of_it() {
        let mut tally = SynTally::default();
        let total = |shop: u64, ssh: u64| [("shop", shop), ("ssh", ssh)];
        tally.add(SECOND, total(1_000_000, 50), []);
        assert!(tally.flooded().is_empty(), "what was before the start");
        tally.add(2 * SECOND, total(1_020_000, 60), [(8_080, 5_000)]);
        assert_eq!(tally.flooded(), ["8080", "shop"]);
        // It moves on, and what is long ago does not count.
        tally.add(8 * SECOND, total(1_020_010, 9_000), []);
        assert_eq!(tally.flooded(), ["ssh"]);
        // Counts that went back say nothing.
        tally.add(20 * SECOND, total(0, 0), []);
        assert!(tally.flooded().is_empty());
    }

    #[test]
    fn alerts_are_answered_where_the_host_does_more_than_observe_or_asks_for_it() {
        let answers = CookieMode::answers_alerts;
        assert!(!answers(CookieMode::Auto, RespondMode::Observe));
        assert!(answers(CookieMode::Auto, RespondMode::Ban));
        assert!(answers(CookieMode::Alert, RespondMode::Observe));
        assert!(!answers(CookieMode::Off, RespondMode::Ban));
    }

    #[test]
    fn services_are_rules_that_let_tcp_in_and_ports_where_the_default_does() {
        let parse = |default: &str| {
            let text = format!(
                "version = 1\n[defaults]\ninbound = \"{default}\"\n\
                 [[rule]]\nname = \"shop\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = [443, \"8000-8010\"]\n\
                 [[rule]]\nname = \"dns\"\naction = \"accept\"\nprotocol = \"udp\"\nport = 53\n\
                 [[rule]]\nname = \"no\"\naction = \"drop\"\nprotocol = \"tcp\"\nport = 25\n\
                 [[rule]]\nname = \"office\"\naction = \"accept\"\nfrom = [\"198.51.100.0/24\"]\n"
            );
            let (policy, _) =
                Policy::parse(&text, "policy.toml", std::path::Path::new(".")).expect("valid");
            policy
        };
        let policy = parse("drop");
        let names: Vec<_> = tcp_services(&policy).map(|(name, _)| name).collect();
        assert_eq!(names, ["shop", "office"]);
        let ports = ports_of(&policy, "shop").expect("a service");
        assert_eq!(ports, [(443, 443), (8_000, 8_010)]);
        assert_eq!(ports_of(&policy, "office"), Some(vec![(0, u16::MAX)]));
        assert_eq!(ports_of(&policy, "dns"), None);
        assert_eq!(ports_of(&policy, "22"), None);
        assert_eq!(ports_of(&parse("accept"), "22"), Some(vec![(22, 22)]));
    }
}
