//! The host settings, `/etc/palisade/palisade.toml`: what a host has of its own (interfaces,
//! folders, listeners), while the policy can be the same on a hundred hosts.

mod error;
mod interface;
mod metrics;
mod roles;
mod version;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

pub use error::SettingsError;

use crate::daemon::{EvidenceSettings, Roles};
use crate::datapath::{DatapathSettings, InterfaceSettings};
use crate::detect;
use crate::export::WebSettings;
use crate::export::notify::{self, NotifyDocument, NotifySettings};
use crate::respond::{CookieMode, RespondSettings, SignatureMode};
use crate::sandbox::Hardening;
use interface::InterfaceEntry;
use metrics::MetricsDocument;

/// The settings, checked; every path is absolute.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file they were read from.
    pub file: PathBuf,
    pub interfaces: Vec<InterfaceSettings>,
    pub policy: PathBuf,
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    pub pin_dir: PathBuf,
    /// Where the host's name servers are configured: no policy may cut them by accident.
    pub resolv_conf: PathBuf,
    /// Where metrics and the page are served; `None` if that is switched off.
    pub metrics: Option<WebSettings>,
    pub detect: detect::Config,
    pub respond: RespondSettings,
    pub evidence: EvidenceSettings,
    pub events: EventSettings,
    pub roles: Arc<Roles>,
    pub hardening: Hardening,
    pub notify: Vec<NotifySettings>,
}

/// `[events]`: the sampled packets that the daemon keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventSettings {
    /// How many of the latest samples are kept in memory.
    pub keep: usize,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self { keep: 10_000 }
    }
}

/// Most samples that may be kept: 160 MB of them.
const MOST_EVENTS: usize = 1_000_000;

/// Where name servers are configured unless the settings say otherwise.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The file as written, before its values are looked at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    #[expect(dead_code, reason = "looked at before the rest is")]
    version: Option<Spanned<u32>>,
    interfaces: Spanned<Vec<Spanned<InterfaceEntry>>>,
    #[serde(default = "default_policy")]
    policy: PathBuf,
    #[serde(default = "default_state_dir")]
    state_dir: PathBuf,
    #[serde(default = "default_socket")]
    socket: PathBuf,
    #[serde(default = "default_pin_dir")]
    pin_dir: PathBuf,
    #[serde(default = "default_resolv_conf")]
    resolv_conf: PathBuf,
    #[serde(default)]
    metrics: MetricsDocument,
    #[serde(default)]
    detect: detect::Config,
    #[serde(default)]
    respond: RespondSettings,
    #[serde(default)]
    evidence: EvidenceSettings,
    #[serde(default)]
    events: Option<Spanned<EventSettings>>,
    #[serde(default)]
    roles: roles::RolesDocument,
    #[serde(default)]
    hardening: Hardening,
    #[serde(default)]
    notify: Vec<NotifyDocument>,
}

fn default_policy() -> PathBuf {
    PathBuf::from("policy.toml")
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/palisade")
}

fn default_socket() -> PathBuf {
    PathBuf::from("/run/palisade/control.sock")
}

fn default_pin_dir() -> PathBuf {
    PathBuf::from("/sys/fs/bpf/palisade")
}

fn default_resolv_conf() -> PathBuf {
    PathBuf::from(RESOLV_CONF)
}

impl Settings {
    /// Reads and checks a settings file.
    pub fn load(file: &Path) -> Result<Self, SettingsError> {
        let text =
            fs::read_to_string(file).map_err(|error| SettingsError::unreadable(file, &error))?;
        Self::parse(file, &text)
    }

    /// Checks the text of a settings file; `file` is for messages and relative paths.
    pub fn parse(file: &Path, text: &str) -> Result<Self, SettingsError> {
        version::check(file, text)?;
        let document: Document =
            toml::from_str(text).map_err(|error| SettingsError::from_toml(file, text, &error))?;
        let at = |span: Range<usize>, message: String| SettingsError::at(file, text, span, message);
        // Absolute, so that what is shown to people can be found from anywhere.
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let folder = absolute.parent().unwrap_or(Path::new("/"));
        let Hardening { sandbox, read } = document.hardening;
        let events = match document.events {
            Some(events) if events.get_ref().keep > MOST_EVENTS => {
                return Err(at(
                    events.span(),
                    format!("`keep` may be {MOST_EVENTS} at most"),
                ));
            }
            Some(events) => events.into_inner(),
            None => EventSettings::default(),
        };
        Ok(Self {
            file: absolute.clone(),
            interfaces: interface::check(document.interfaces, at)?,
            policy: folder.join(document.policy),
            state_dir: folder.join(document.state_dir),
            socket: folder.join(document.socket),
            pin_dir: folder.join(document.pin_dir),
            resolv_conf: folder.join(document.resolv_conf),
            metrics: metrics::check(document.metrics, folder, at)?,
            detect: document.detect,
            respond: document.respond,
            evidence: document.evidence,
            events,
            roles: Arc::new(roles::check(document.roles, at)?),
            hardening: Hardening {
                sandbox,
                read: read.into_iter().map(|path| folder.join(path)).collect(),
            },
            notify: notify::check(document.notify, folder, at)?,
        })
    }

    /// The part that the datapath needs.
    pub fn datapath(&self) -> DatapathSettings {
        DatapathSettings {
            interfaces: self.interfaces.clone(),
            pin_dir: self.pin_dir.clone(),
            state_dir: self.state_dir.clone(),
            cookies: self.respond.syn_cookies != CookieMode::Off,
            signatures: self.respond.signature == SignatureMode::Enforce,
            kernel_sources: self.detect.kernel_sources,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::AttachMode;
    use crate::respond::{BanDuration, RespondMode};

    fn parse(text: &str) -> Result<Settings, SettingsError> {
        Settings::parse(Path::new("/etc/palisade/palisade.toml"), text)
    }

    fn refusal(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn an_interface_is_all_that_must_be_said() {
        let settings = parse("interfaces = [\"eth0\"]").expect("taken");
        assert_eq!(settings.interfaces[0].name, "eth0");
        assert_eq!(settings.interfaces[0].mode, AttachMode::Auto);
        assert_eq!(settings.policy, Path::new("/etc/palisade/policy.toml"));
        assert_eq!(settings.state_dir, Path::new("/var/lib/palisade"));
        assert_eq!(settings.socket, Path::new("/run/palisade/control.sock"));
        assert_eq!(settings.pin_dir, Path::new("/sys/fs/bpf/palisade"));
        let metrics = settings.metrics.expect("served");
        assert_eq!(Ok(metrics.listen), metrics::DEFAULT_LISTEN.parse());
        assert!(metrics.page && !metrics.knows_everybody());
        assert_eq!(settings.respond, RespondSettings::default());
    }

    #[test]
    fn the_table_of_sources_has_the_size_that_is_asked_for() {
        let size = |text: &str| parse(text).expect("taken").datapath().kernel_sources;
        let interface = "interfaces = [\"eth0\"]\n";
        assert_eq!(size(interface), crate::datapath::KERNEL_SOURCES);
        let more = format!("{interface}[detect]\nkernel_sources = 200000\n");
        assert_eq!(size(&more), 1 << 18);
    }

    #[test]
    fn everything_can_be_said() {
        let settings = parse(
            r#"
            interfaces = ["eth0", { name = "eth1", mode = "generic" }]
            policy     = "/srv/policy.toml"
            state_dir  = "state"
            socket     = "run/control.sock"
            pin_dir    = "/sys/fs/bpf/two"
            [metrics]
            listen = "[::1]:9000"
            [respond]
            mode = "ban"
            ban_for = "1h"
            [events]
            keep = 100
            "#,
        )
        .expect("taken");
        assert_eq!(settings.interfaces[1].mode, AttachMode::Generic);
        assert_eq!(settings.policy, Path::new("/srv/policy.toml"));
        assert_eq!(settings.state_dir, Path::new("/etc/palisade/state"));
        let metrics = settings.metrics.expect("served");
        assert_eq!(Ok(metrics.listen), "[::1]:9000".parse());
        assert_eq!(settings.respond.mode, RespondMode::Ban);
        assert_eq!(
            settings.respond.ban_for,
            "1h".parse::<BanDuration>().expect("a length")
        );
        assert_eq!(settings.events.keep, 100);
    }

    #[test]
    fn the_documented_example_is_taken() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/palisade.toml");
        let settings = Settings::load(&example).expect("taken");
        assert!(!settings.interfaces.is_empty());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_nearest_known_key() {
        let message = refusal("interfaces = [\"eth0\"]\nstatedir = \"/tmp\"\n");
        assert!(
            message.starts_with("/etc/palisade/palisade.toml:2:1: unknown key `statedir`"),
            "{message}"
        );
        assert!(message.contains("did you mean `state_dir`?"), "{message}");
        assert!(message.contains("statedir = \"/tmp\""), "{message}");

        let message = refusal("interfaces = [\"eth0\"]\n[metrics]\n  lisen = \"127.0.0.1:1\"\n");
        assert!(message.contains(":3:3:"), "{message}");
        assert!(message.contains("did you mean `listen`?"), "{message}");
    }

    #[test]
    fn an_unknown_interface_mode_names_the_known_ones() {
        let message = refusal("interfaces = [{ name = \"eth0\", mode = \"natve\" }]\n");
        assert!(message.contains(":1:"), "{message}");
        assert!(message.contains("did you mean `native`?"), "{message}");
    }

    #[test]
    fn values_that_make_no_sense_are_refused_where_they_stand() {
        for (text, place, says) in [
            ("interfaces = []", ":1:14:", "at least one"),
            ("interfaces = [\"eth0\", \"eth0\"]", ":1:23:", "twice"),
            ("interfaces = [\"\"]", ":1:15:", "interface name"),
            ("interfaces = [\"a/b\"]", ":1:15:", "interface name"),
            (
                "interfaces = [\"interface-with-long-name\"]",
                ":1:15:",
                "interface name",
            ),
            ("interfaces = \"eth0\"", ":1:14:", "sequence"),
            ("interfaces = [7]", ":1:15:", "interface"),
            (
                "interfaces = [\"e\"]\n[respond]\nban_for = \"soon\"",
                ":3:11:",
                "10m",
            ),
            (
                "interfaces = [\"e\"]\n[metrics]\nlisten = \"9477\"",
                ":3:10:",
                "address and port",
            ),
            (
                "interfaces = [\"e\"]\n[events]\nkeep = 99999999",
                ":2:1:",
                "at most",
            ),
            ("interfaces = [\"e\"", ":1:18:", "array"),
        ] {
            let message = refusal(text);
            assert!(message.contains(place), "{text}: {message}");
            assert!(message.contains(says), "{text}: {message}");
        }
    }

    #[test]
    fn a_file_without_interfaces_says_what_is_missing() {
        let message = refusal("policy = \"policy.toml\"\n");
        assert!(message.contains("`interfaces`"), "{message}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Settings::load(Path::new("/nonexistent/palisade.toml")).expect_err("missing");
        assert!(error.to_string().contains("/nonexistent/palisade.toml"));
    }
}
