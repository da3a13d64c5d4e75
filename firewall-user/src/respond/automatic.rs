//! `[respond]` of the host settings: what is done about an alert by itself. Nothing, unless the
//! operator asks for it.

use std::collections::BTreeMap;
use std::time::Duration;

use firewall_common::limit::Limit as KernelLimit;
use serde::{Deserialize, Deserializer};

use super::signature::{COLLATERAL, SignatureMode, collateral};
use super::{BanDuration, CookieMode, Ground};
use crate::detect::AlertKind;
use crate::policy::limit::{Limit, Per, Terms, Unit, parse_rate};

/// `[respond]` of the host settings.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RespondSettings {
    pub mode: RespondMode,
    /// How long an automatic ban or limit lasts, the first time.
    pub ban_for: BanDuration,
    /// It doubles each time; this is the longest.
    pub ban_at_most: BanDuration,
    /// After so long without an offence, one is forgotten.
    pub forget_after: BanDuration,
    /// What a source may send that is held to the automatic limit.
    pub limit: PacketRate,
    /// More new bans and limits than this within a minute, and answers are off for a while.
    #[serde(deserialize_with = "bans_per_minute")]
    pub bans_per_minute: u32,
    /// So large a share of the ordinary sources may be hit within an hour.
    #[serde(deserialize_with = "share")]
    pub ordinary_share: f64,
    /// So many sources of one /24 or /48 within ten minutes, and the prefix is answered; 0 is never.
    pub prefix_after: u32,
    /// Modes of kinds of alerts that are not to be answered as `mode` says.
    #[serde(deserialize_with = "kinds")]
    pub kinds: BTreeMap<AlertKind, RespondMode>,
    /// What an alert about a SYN flood leads to.
    pub syn_cookies: CookieMode,
    /// How long cookies go on after such an alert is over: a flood that pauses finds them.
    pub syn_cookies_hold: BanDuration,
    /// What is done with the signature of a flood.
    pub signature: SignatureMode,
    /// The share of ordinary traffic that a signature may hit and still be put in force by itself.
    #[serde(deserialize_with = "collateral")]
    pub signature_collateral: f64,
}

/// What an alert about a source leads to; the later, the stronger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RespondMode {
    /// People are told; nothing else.
    #[default]
    Observe,
    /// A trickle of the source's packets is let through.
    Limit,
    /// The source is banned.
    Ban,
}

/// A number of packets in a time, written as in a policy: `"10/s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketRate {
    terms: Terms,
    compiled: KernelLimit,
}

impl Default for RespondSettings {
    fn default() -> Self {
        const MINUTES: fn(u64) -> BanDuration =
            |minutes| BanDuration(Some(Duration::from_secs(minutes * 60)));
        Self {
            mode: RespondMode::Observe,
            ban_for: MINUTES(10),
            ban_at_most: MINUTES(24 * 60),
            forget_after: MINUTES(24 * 60),
            limit: PacketRate::default(),
            bans_per_minute: 60,
            ordinary_share: 0.02,
            prefix_after: 8,
            kinds: BTreeMap::new(),
            syn_cookies: CookieMode::Auto,
            syn_cookies_hold: BanDuration(Some(Duration::from_secs(60))),
            signature: SignatureMode::Suggest,
            signature_collateral: COLLATERAL,
        }
    }
}

impl RespondSettings {
    /// What alerts of a kind lead to.
    pub fn mode_of(&self, kind: AlertKind) -> RespondMode {
        self.kinds.get(&kind).copied().unwrap_or(self.mode)
    }

    /// How long the measure lasts that answers an offence, counted from 1.
    pub fn duration(&self, offence: u32) -> BanDuration {
        let Some(first) = self.ban_for.0 else {
            return self.ban_for;
        };
        let doubled =
            first.saturating_mul(1_u32.checked_shl(offence.max(1) - 1).unwrap_or(u32::MAX));
        BanDuration(Some(match self.ban_at_most.0 {
            // A first ban that is longer than the longest is what was asked for.
            Some(longest) => doubled.min(longest.max(first)),
            None => doubled,
        }))
    }
}

impl PacketRate {
    fn new(terms: Terms) -> Result<Self, String> {
        let compiled =
            KernelLimit::new(terms, Unit::Packets, Per::Rule).map_err(|unfit| unfit.to_string())?;
        Ok(Self { terms, compiled })
    }

    /// As the kernel takes it.
    pub fn compiled(&self) -> &KernelLimit {
        &self.compiled
    }
}

impl Default for PacketRate {
    fn default() -> Self {
        let terms = Terms {
            rate: 10,
            seconds: 1,
            burst: 10,
        };
        // Ten packets a second are within every bound of a limit.
        Self::new(terms).unwrap_or_else(|error| unreachable!("{error}"))
    }
}

impl std::fmt::Display for PacketRate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let limit = Limit {
            terms: self.terms,
            unit: Unit::Packets,
            per: Per::Rule,
        };
        formatter.write_str(&limit.rate())
    }
}

impl<'de> Deserialize<'de> for PacketRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |what: &str| {
            serde::de::Error::custom(format!(
                "`{text}` {what}: write packets in a time, as \"10/s\""
            ))
        };
        let rate = parse_rate(&text).map_err(|what| wrong(&what))?;
        if rate.in_bytes {
            return Err(wrong("is in bytes"));
        }
        Self::new(Terms {
            rate: rate.amount,
            seconds: rate.seconds,
            burst: Limit::usual_burst(rate, Unit::Packets),
        })
        .map_err(|what| wrong(&what))
    }
}

/// Most new bans in a minute that can be allowed.
const MOST_BANS: u32 = 1_000;

fn bans_per_minute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    if (1..=MOST_BANS).contains(&number) {
        Ok(number)
    } else {
        Err(serde::de::Error::custom(format!(
            "{number} must be 1 to {MOST_BANS}; mode = \"observe\" bans nobody"
        )))
    }
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(serde::de::Error::custom(format!(
            "{share} must be a share from 0 to 1, as 0.02 for 2 %"
        )))
    }
}

fn kinds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<AlertKind, RespondMode>, D::Error> {
    let kinds = BTreeMap::<AlertKind, RespondMode>::deserialize(deserializer)?;
    for (kind, mode) in &kinds {
        Ground::of(*kind)
            .check(*kind, *mode)
            .map_err(serde::de::Error::custom)?;
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RespondSettings, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_answered_unless_the_operator_says_so() {
        let settings = read("").unwrap();
        assert_eq!(settings, RespondSettings::default());
        for kind in AlertKind::ALL {
            assert_eq!(settings.mode_of(kind), RespondMode::Observe);
        }
    }

    #[test]
    fn kinds_can_be_answered_each_in_its_way() {
        let settings = read(
            "mode = 'limit'\nlimit = '120/m'\n[kinds]\nport_scan = 'ban'\nbrute_force = 'observe'",
        )
        .unwrap();
        assert_eq!(settings.mode_of(AlertKind::PortScan), RespondMode::Ban);
        assert_eq!(
            settings.mode_of(AlertKind::BruteForce),
            RespondMode::Observe
        );
        assert_eq!(settings.mode_of(AlertKind::SlowClients), RespondMode::Limit);
        assert_eq!(settings.limit.to_string(), "120/m");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would_be_right() {
        for (text, reason) in [
            ("mode = 'bann'", "unknown variant `bann`"),
            ("limit = 'fast'", "write packets in a time, as \"10/s\""),
            ("limit = '1MB/s'", "is in bytes"),
            ("limit = '0/s'", "lets nothing through"),
            ("bans_per_minute = 0", "1 to 1000"),
            ("ordinary_share = 5", "as 0.02 for 2 %"),
            ("[kinds]\nport_scam = 'ban'", "unknown variant `port_scam`"),
            ("[kinds]\nudp_flood = 'ban'", "can be forged"),
            ("[kinds]\nsyn_flood = 'ban'", "can be forged"),
            ("[kinds]\nbeaconing = 'limit'", "no source"),
            ("[kinds]\nresponse_withheld = 'ban'", "no source"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        read("[kinds]\nudp_flood = 'limit'\nbeaconing = 'observe'").unwrap();
    }

    #[test]
    fn a_ban_doubles_with_each_offence_up_to_the_longest() {
        let settings = read("ban_for = '10m'\nban_at_most = '1h'").unwrap();
        let lengths: Vec<String> = [1, 2, 3, 4, 5, 40, u32::MAX]
            .into_iter()
            .map(|offence| settings.duration(offence).to_string())
            .collect();
        assert_eq!(lengths, ["10m", "20m", "40m", "1h", "1h", "1h", "1h"]);
        let settings = read("ban_for = '2d'").unwrap();
        assert_eq!(settings.duration(3).to_string(), "2d");
        let settings = read("ban_for = 'forever'").unwrap();
        assert_eq!(settings.duration(3), BanDuration(None));
    }
}
