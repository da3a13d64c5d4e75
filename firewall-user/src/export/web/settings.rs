//! How the listener is reached and by whom. Names are those of the web configuration of Prometheus' exporters
//! (`tls_server_config`, `basic_auth_users`, `http_server_config`), so that nobody learns them twice.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use bcrypt::HashParts;
use serde::Deserialize;

/// `[metrics]`, checked.
#[derive(Clone, Debug)]
pub struct WebSettings {
    pub listen: SocketAddr,
    /// Whether the page and what it reads are served beside the metrics.
    pub page: bool,
    /// Names under which the listener may be asked without credentials, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    pub tls: Option<TlsSettings>,
    /// Who may ask; everybody if it is empty.
    pub users: BTreeMap<String, PasswordHash>,
    /// Headers of every answer, over the listener's own.
    pub headers: BTreeMap<String, String>,
}

impl WebSettings {
    /// Whether everybody who asks is known: by a password or by a certificate.
    pub fn knows_everybody(&self) -> bool {
        let by_certificate = self
            .tls
            .as_ref()
            .is_some_and(|tls| tls.client_auth == ClientAuth::Required);
        !self.users.is_empty() || by_certificate
    }
}

/// `[metrics.tls_server_config]`; every path is absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The listener's certificate with those that vouch for it, in PEM.
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub client_auth: ClientAuth,
    /// Who may vouch for a client.
    pub client_ca_file: Option<PathBuf>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
}

impl TlsSettings {
    /// Every file that is read, now and when it changes.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.cert_file, &self.key_file]
            .into_iter()
            .chain(&self.client_ca_file)
    }
}

/// What is asked of a client's certificate. The names that check nothing are not taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ClientAuth {
    #[default]
    #[serde(rename = "NoClientCert")]
    None,
    #[serde(rename = "VerifyClientCertIfGiven")]
    IfGiven,
    #[serde(rename = "RequireAndVerifyClientCert")]
    Required,
}

/// Older versions are broken and not spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum TlsVersion {
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

/// The bcrypt hash of a password. It is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

/// A check at this cost takes seconds: more would let anybody keep a processor busy.
const DEAREST: u32 = 15;

impl PasswordHash {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PasswordHash {
    type Err = String;

    /// The message never holds the text: it may be a password that somebody forgot to hash.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: HashParts = text.parse().map_err(|_| {
            "this is no bcrypt hash, as `htpasswd -nBC 10 NAME` prints it behind the colon: $2y$10$..."
                .to_owned()
        })?;
        if parts.get_cost() > DEAREST {
            return Err(format!(
                "the cost of this bcrypt hash is {}: {DEAREST} at most, 10 is usual",
                parts.get_cost()
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("hidden")
    }
}
