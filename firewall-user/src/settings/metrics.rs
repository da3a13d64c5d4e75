//! `[metrics]`: where the listener is, and what must be shown to it. To the network it speaks only with a lock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::SettingsError;
use crate::export::{ClientAuth, PasswordHash, TlsSettings, TlsVersion, WebSettings};

/// The address unless the settings say otherwise.
pub(super) const DEFAULT_LISTEN: &str = "127.0.0.1:9477";

/// The headers that may be chosen, as exporters have it.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
];

/// The table as written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsDocument {
    /// An address and port, or `"off"`.
    listen: Option<Spanned<String>>,
    page: Option<bool>,
    #[serde(default)]
    hosts: Vec<Spanned<String>>,
    tls_server_config: Option<Spanned<TlsDocument>>,
    #[serde(default)]
    basic_auth_users: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    http_server_config: HttpDocument,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsDocument {
    cert_file: PathBuf,
    key_file: PathBuf,
    #[serde(default)]
    client_auth_type: ClientAuth,
    client_ca_file: Option<PathBuf>,
    #[serde(default = "oldest")]
    min_version: TlsVersion,
    #[serde(default = "newest")]
    max_version: TlsVersion,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpDocument {
    #[serde(default)]
    headers: BTreeMap<String, Spanned<String>>,
}

fn oldest() -> TlsVersion {
    TlsVersion::Tls12
}

fn newest() -> TlsVersion {
    TlsVersion::Tls13
}

/// Checks the table; `None` if nothing is to be served. Relative paths start at `folder`.
pub(super) fn check(
    document: MetricsDocument,
    folder: &Path,
    at: impl Fn(Range<usize>, String) -> SettingsError,
) -> Result<Option<WebSettings>, SettingsError> {
    let Some((listen, span)) = address(document.listen, &at)? else {
        return Ok(None);
    };
    let settings = WebSettings {
        listen,
        page: document.page.unwrap_or(true),
        hosts: hosts(document.hosts, &at)?,
        tls: document
            .tls_server_config
            .map(|tls| check_tls(tls, folder, &at))
            .transpose()?,
        users: users(document.basic_auth_users, &at)?,
        headers: headers(document.http_server_config.headers, &at)?,
    };
    let locked = settings.tls.is_some() && settings.knows_everybody();
    if !listen.ip().is_loopback() && !locked {
        let missing = match (settings.tls.is_some(), settings.knows_everybody()) {
            (false, true) => {
                "passwords would be readable on the way: add [metrics.tls_server_config]"
            }
            (true, _) => {
                "everybody could ask: add [metrics.basic_auth_users], or client_auth_type = \
                 \"RequireAndVerifyClientCert\" with a client_ca_file"
            }
            (false, false) => {
                "it needs TLS ([metrics.tls_server_config]) and credentials \
                 ([metrics.basic_auth_users] or client certificates)"
            }
        };
        return Err(at(
            span,
            format!(
                "{listen} is not on loopback (127.0.0.1, [::1]), so the network can ask there, and {missing}"
            ),
        ));
    }
    Ok(Some(settings))
}

fn address(
    listen: Option<Spanned<String>>,
    at: impl Fn(Range<usize>, String) -> SettingsError,
) -> Result<Option<(SocketAddr, Range<usize>)>, SettingsError> {
    let (text, span) = match listen {
        Some(listen) => {
            let span = listen.span();
            (listen.into_inner(), span)
        }
        None => (DEFAULT_LISTEN.to_owned(), 0..0),
    };
    if text == "off" {
        return Ok(None);
    }
    let address = text.parse().map_err(|_| {
        at(
            span.clone(),
            format!(
                "`{text}` is no address and port: write e.g. \"{DEFAULT_LISTEN}\", \"[::1]:9477\" or \"off\""
            ),
        )
    })?;
    Ok(Some((address, span)))
}

fn hosts(
    hosts: Vec<Spanned<String>>,
    at: impl Fn(Range<usize>, String) -> SettingsError,
) -> Result<Vec<String>, SettingsError> {
    let plain = |name: &str| {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
        !name.is_empty() && name.chars().all(fits)
    };
    hosts
        .into_iter()
        .map(|host| match plain(host.get_ref()) {
            true => Ok(host.into_inner().to_ascii_lowercase()),
            false => Err(at(
                host.span(),
                format!(
                    "`{}` is no name of a host: write it without scheme and port, such as \"shop.example\"",
                    host.get_ref()
                ),
            )),
        })
        .collect()
}

fn check_tls(
    tls: Spanned<TlsDocument>,
    folder: &Path,
    at: impl Fn(Range<usize>, String) -> SettingsError,
) -> Result<TlsSettings, SettingsError> {
    let span = tls.span();
    let tls = tls.into_inner();
    if tls.min_version > tls.max_version {
        return Err(at(
            span,
            "`min_version` is newer than `max_version`".to_owned(),
        ));
    }
    match (tls.client_auth_type, &tls.client_ca_file) {
        (ClientAuth::None, Some(_)) => {
            return Err(at(
                span,
                "`client_ca_file` is of no use without client_auth_type = \"RequireAndVerifyClientCert\" \
                 (or \"VerifyClientCertIfGiven\")"
                    .to_owned(),
            ));
        }
        (ClientAuth::IfGiven | ClientAuth::Required, None) => {
            return Err(at(
                span,
                "`client_auth_type` asks for certificates: say in `client_ca_file` who may have signed them"
                    .to_owned(),
            ));
        }
        _ => {}
    }
    Ok(TlsSettings {
        cert_file: folder.join(tls.cert_file),
        key_file: folder.join(tls.key_file),
        client_auth: tls.client_auth_type,
        client_ca_file: tls.client_ca_file.map(|file| folder.join(file)),
        min_version: tls.min_version,
        max_version: tls.max_version,
    })
}

fn users(
    users: BTreeMap<String, Spanned<String>>,
    at: impl Fn(Range<usize>, String) -> SettingsError,
) -> Result<BTreeMap<String, PasswordHash>, SettingsError> {
    users
        .into_iter()
        .map(|(name, hash)| {
            if name.is_empty() || name.contains(':') {
                return Err(at(
                    hash.span(),
                    "the name of a user is not empty and has no colon".to_owned(),
                ));
            }
            match hash.get_ref().parse() {
                Ok(hash) => Ok((name, hash)),
                Err(error) => Err(at(hash.span(), error)),
            }
        })
        .collect()
}

fn headers(
    headers: BTreeMap<String, Spanned<String>>,
    at: impl Fn(Range<usize>, String) -> SettingsError,
) -> Result<BTreeMap<String, String>, SettingsError> {
    headers
        .into_iter()
        .map(|(name, value)| {
            if !HEADERS.contains(&name.as_str()) {
                return Err(at(
                    value.span(),
                    format!("`{name}` is not for you to set; {} are", HEADERS.join(", ")),
                ));
            }
            if !value
                .get_ref()
                .bytes()
                .all(|byte| (0x20..0x7f).contains(&byte))
            {
                return Err(at(
                    value.span(),
                    "the value of a header is ASCII on one line".to_owned(),
                ));
            }
            Ok((name, value.into_inner()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    const HASH: &str = "$2y$10$abcdefghijklmnopqrstuu23JPZtHcGhwXSF41f93o/7vBdDut3Xu";
    const TLS: &str =
        "[metrics.tls_server_config]\ncert_file = \"tls/cert.pem\"\nkey_file = \"/run/key.pem\"\n";

    fn parse(tables: &str) -> Result<Option<WebSettings>, String> {
        let text = format!("interfaces = [\"eth0\"]\n{tables}");
        Settings::parse(Path::new("/etc/palisade/palisade.toml"), &text)
            .map(|settings| settings.metrics)
            .map_err(|error| error.to_string())
    }

    fn refusal(tables: &str) -> String {
        match parse(tables) {
            Ok(taken) => panic!("{tables}: {taken:?}"),
            Err(error) => error,
        }
    }

    fn users() -> String {
        format!("[metrics.basic_auth_users]\nscraper = \"{HASH}\"\n")
    }

    #[test]
    fn the_network_is_spoken_to_only_with_tls_and_credentials() {
        for listen in ["0.0.0.0:9477", "203.0.113.1:9477", "[::]:9477"] {
            let head = format!("[metrics]\nlisten = \"{listen}\"\n");
            let alone = refusal(&head);
            assert!(alone.contains(":3:10:"), "{alone}");
            assert!(
                alone.contains("TLS") && alone.contains("credentials"),
                "{alone}"
            );
            let readable = refusal(&format!("{head}{}", users()));
            assert!(readable.contains("tls_server_config"), "{readable}");
            for open in [
                "",
                "client_auth_type = \"VerifyClientCertIfGiven\"\nclient_ca_file = \"ca.pem\"\n",
            ] {
                let open = refusal(&format!("{head}{TLS}{open}"));
                assert!(open.contains("everybody could ask"), "{open}");
            }
            let by_password = parse(&format!("{head}{TLS}{}", users()));
            assert!(by_password.is_ok(), "{by_password:?}");
            let by_certificate = parse(&format!(
                "{head}{TLS}client_auth_type = \"RequireAndVerifyClientCert\"\nclient_ca_file = \"ca.pem\"\n"
            ));
            assert!(by_certificate.is_ok(), "{by_certificate:?}");
        }
    }

    #[test]
    fn everything_can_be_said_and_files_are_found_beside_the_settings() {
        let settings = parse(&format!(
            "[metrics]\nlisten = \"0.0.0.0:443\"\npage = false\nhosts = [\"Edge.example\"]\n\
             [metrics.http_server_config.headers]\nStrict-Transport-Security = \"max-age=3600\"\n{TLS}\
             min_version = \"TLS13\"\nclient_auth_type = \"RequireAndVerifyClientCert\"\nclient_ca_file = \"ca.pem\"\n{}",
            users()
        ))
        .expect("taken")
        .expect("served");
        assert!(!settings.page);
        assert_eq!(settings.hosts, ["edge.example"]);
        assert_eq!(
            settings.headers["Strict-Transport-Security"],
            "max-age=3600"
        );
        let tls = settings.tls.as_ref().expect("TLS");
        assert_eq!(tls.cert_file, Path::new("/etc/palisade/tls/cert.pem"));
        assert_eq!(tls.key_file, Path::new("/run/key.pem"));
        assert_eq!(
            tls.client_ca_file.as_deref(),
            Some(Path::new("/etc/palisade/ca.pem"))
        );
        assert_eq!(
            (tls.min_version, tls.max_version),
            (TlsVersion::Tls13, TlsVersion::Tls13)
        );
        assert_eq!(settings.users["scraper"].as_str(), HASH);
        let shown = format!("{settings:?}");
        assert!(!shown.contains("$2y"), "{shown}");
        assert!(
            parse("[metrics]\nlisten = \"off\"\n")
                .expect("taken")
                .is_none()
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_where_it_stands() {
        for (tables, place, says) in [
            (
                format!("{TLS}client_auth_type = \"RequireAnyClientCert\"\n"),
                ":5:",
                "RequireAndVerifyClientCert",
            ),
            (
                format!("{TLS}client_auth_type = \"RequireAndVerifyClientCert\"\n"),
                ":2:",
                "client_ca_file",
            ),
            (
                format!("{TLS}client_ca_file = \"ca.pem\"\n"),
                ":2:",
                "client_auth_type",
            ),
            (format!("{TLS}min_version = \"TLS10\"\n"), ":5:", "TLS13"),
            (
                format!("{TLS}min_version = \"TLS13\"\nmax_version = \"TLS12\"\n"),
                ":2:",
                "newer",
            ),
            (
                "[metrics.tls_server_config]\ncert_file = \"a\"\n".to_owned(),
                ":2:",
                "key_file",
            ),
            (format!("{TLS}cipher_suites = []\n"), ":5:", "cipher_suites"),
            (
                "[metrics]\nhosts = [\"https://edge/\"]\n".to_owned(),
                ":3:",
                "without scheme",
            ),
            (
                "[metrics.http_server_config.headers]\nServer = \"x\"\n".to_owned(),
                ":3:",
                "not for you",
            ),
            (
                "[metrics.basic_auth_users]\n\"a:b\" = \"x\"\n".to_owned(),
                ":3:",
                "colon",
            ),
        ] {
            let message = refusal(&tables);
            assert!(message.contains(place), "{tables}: {message}");
            assert!(message.contains(says), "{tables}: {message}");
        }
    }

    #[test]
    fn a_password_in_the_place_of_its_hash_is_not_shown_by_the_error() {
        for tables in [
            "[metrics.basic_auth_users]\nscraper = \"hunter2\"\n",
            "[metrics.basic_auth_users]\nscraper = \"hunter2\n",
            "[metrics.basic_auth_users]\nscraper = hunter2\n",
            "[metrics]\nbasic_auth_users = { scraper = \"hunter2\" }\n",
            "[metrics]\nbasic_auth_users.scraper = \"hunter2\"\n",
            "[metrics]\nbasic_auth_users = \"hunter2\"\n",
            "[metrics.basic_auth_users]\nscraper = [\"hunter2\"]\n",
            "[metrics.basic_auth_users]\nscraper = \"$2y$31$hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunte\"\n",
        ] {
            let message = refusal(tables);
            assert!(message.contains(":3:"), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
