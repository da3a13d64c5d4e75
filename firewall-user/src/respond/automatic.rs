//! What is done about an alert by itself: nothing unless the host's settings ask for bans, and
//! never anything about a source that the policy protects.

use std::time::Duration;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::signature::{COLLATERAL, SignatureMode, collateral};
use super::{BanBook, BanDuration, BanRecord, CookieMode, Origin, check_ban};

/// `[respond]` of the host settings.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RespondSettings {
    pub mode: RespondMode,
    /// How long an automatic ban lasts from the latest alert.
    pub ban_for: BanDuration,
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

/// What an alert about a source leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RespondMode {
    /// People are told; nothing else.
    #[default]
    Observe,
    /// The source is banned.
    Ban,
}

/// What came of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// This ban is to be put in force.
    Ban(BanRecord),
    /// A ban would have followed, but for this.
    Spared(String),
    /// None is asked for.
    Nothing,
}

impl Default for RespondSettings {
    fn default() -> Self {
        Self {
            mode: RespondMode::Observe,
            ban_for: BanDuration(Some(Duration::from_secs(600))),
            syn_cookies: CookieMode::Auto,
            syn_cookies_hold: BanDuration(Some(Duration::from_secs(60))),
            signature: SignatureMode::Suggest,
            signature_collateral: COLLATERAL,
        }
    }
}

impl RespondSettings {
    /// The answer to an alert of `kind` about `source`.
    pub fn answer(
        &self,
        protected: &[IpNet],
        bans: &BanBook,
        source: IpNet,
        kind: &str,
        now: Timestamp,
    ) -> Response {
        if self.mode == RespondMode::Observe {
            return Response::Nothing;
        }
        let prefix = source.trunc();
        if let Err(refusal) = check_ban(protected, prefix) {
            return Response::Spared(refusal.to_string());
        }
        // An IPv6 source is a whole /64: a protected address inside may be the very one meant.
        if let Some(inside) = protected
            .iter()
            .find(|protected| prefix.contains(*protected))
        {
            return Response::Spared(format!("{prefix} holds the protected {inside}"));
        }
        if let Some(ban) = bans
            .get(&prefix)
            .filter(|ban| ban.origin == Origin::Manual)
            .or_else(|| bans.covering(&prefix))
        {
            return Response::Spared(format!("{} is banned already", ban.prefix));
        }
        let expires = match self.ban_for.0 {
            None => None,
            // A length that leaves the calendar is as good as no end.
            Some(duration) => SignedDuration::try_from(duration)
                .ok()
                .and_then(|duration| now.checked_add(duration).ok()),
        };
        Response::Ban(BanRecord {
            prefix,
            origin: Origin::Automatic,
            kind: Some(kind.to_owned()),
            reason: Some(format!("alert {kind}")),
            created: now,
            expires,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::book::tests::record;

    const BAN: RespondSettings = RespondSettings {
        mode: RespondMode::Ban,
        ban_for: BanDuration(Some(Duration::from_secs(600))),
        syn_cookies: CookieMode::Auto,
        syn_cookies_hold: BanDuration(Some(Duration::from_secs(60))),
        signature: SignatureMode::Suggest,
        signature_collateral: COLLATERAL,
    };

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn answer(settings: RespondSettings, bans: &BanBook, source: &str) -> Response {
        settings.answer(
            &[net("198.51.100.0/24"), net("2001:db8:1::5/128")],
            bans,
            net(source),
            "port_scan",
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn nothing_is_banned_unless_the_settings_ask_for_it() {
        let answer = answer(
            RespondSettings::default(),
            &BanBook::default(),
            "203.0.113.7/32",
        );
        assert_eq!(answer, Response::Nothing);
    }

    #[test]
    fn a_scanner_is_banned_for_the_time_that_was_set() {
        let Response::Ban(ban) = answer(BAN, &BanBook::default(), "203.0.113.7/32") else {
            panic!("no ban");
        };
        assert_eq!(ban.prefix, net("203.0.113.7/32"));
        assert_eq!(ban.origin, Origin::Automatic);
        assert_eq!(ban.kind.as_deref(), Some("port_scan"));
        assert_eq!(ban.expires, Timestamp::from_second(600).ok());
    }

    #[test]
    fn protected_sources_are_spared_and_so_is_a_subnet_that_holds_one() {
        for source in ["198.51.100.9/32", "2001:db8:1::/64"] {
            assert!(
                matches!(
                    answer(BAN, &BanBook::default(), source),
                    Response::Spared(_)
                ),
                "{source}"
            );
        }
    }

    #[test]
    fn a_ban_that_a_person_set_is_not_replaced() {
        let bans: BanBook = [
            record("203.0.113.7/32", None),
            record("203.0.112.0/24", None),
        ]
        .into_iter()
        .collect();
        for source in ["203.0.113.7/32", "203.0.112.4/32"] {
            assert!(
                matches!(answer(BAN, &bans, source), Response::Spared(_)),
                "{source}"
            );
        }
    }
}
