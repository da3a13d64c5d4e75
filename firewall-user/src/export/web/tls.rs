//! The listener's certificate. It is read again when its files change: certificates that are renewed every few weeks
//! must not cost a restart, and a renewal that went wrong must not cost the listener.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, anyhow};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tracing::{error, info, warn};

use super::settings::{ClientAuth, TlsSettings, TlsVersion};

/// What a handshake needs, as its files were when they last made sense.
#[derive(Debug)]
pub struct Certificates {
    settings: TlsSettings,
    provider: Arc<CryptoProvider>,
    loaded: RwLock<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// Of the files when they were looked at, whether they were taken or not.
    stamps: Vec<Option<Stamp>>,
}

/// What differs once a file was written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Certificates {
    pub fn load(settings: TlsSettings) -> anyhow::Result<Self> {
        let provider = Arc::new(default_provider());
        // Before they are read: what is written meanwhile is read again.
        let stamps = stamps(&settings);
        let config = read(&settings, &provider)?;
        Ok(Self {
            loaded: RwLock::new(Loaded { config, stamps }),
            settings,
            provider,
        })
    }

    /// For the next handshake. Two or three looks at a file's age, some microseconds, when nothing changed.
    pub fn current(&self) -> Arc<ServerConfig> {
        let now = stamps(&self.settings);
        {
            let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
            if loaded.stamps == now {
                return loaded.config.clone();
            }
        }
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        // Another handshake may have been first.
        if loaded.stamps != now {
            loaded.stamps = now;
            match read(&self.settings, &self.provider) {
                Ok(config) => {
                    info!(file = %self.settings.cert_file.display(), "the listener's certificate was renewed");
                    loaded.config = config;
                }
                Err(error) => error!("the listener keeps its certificate: {error:#}"),
            }
        }
        loaded.config.clone()
    }
}

fn stamps(settings: &TlsSettings) -> Vec<Option<Stamp>> {
    let stamp = |file: &PathBuf| {
        let about = fs::metadata(file).ok()?;
        Some(Stamp {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    };
    settings.files().map(stamp).collect()
}

fn read(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = certificates(&settings.cert_file)?;
    let file = &settings.key_file;
    let key = PrivateKeyDer::from_pem_file(file)
        .map_err(|error| anyhow!("{}: no private key in PEM: {error}", file.display()))?;
    warn_of_readers(file);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions(settings))
        .context("these versions of TLS cannot be spoken")?;
    let builder = match verifier(settings, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).with_context(|| {
        format!(
            "{} and {} do not go together",
            settings.cert_file.display(),
            file.display()
        )
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn versions(settings: &TlsSettings) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match (settings.min_version, settings.max_version) {
        (TlsVersion::Tls13, _) => &BOTH[..1],
        (TlsVersion::Tls12, TlsVersion::Tls12) => &BOTH[1..],
        (TlsVersion::Tls12, TlsVersion::Tls13) => &BOTH,
    }
}

/// Who looks at a client's certificate, if anybody does.
fn verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> anyhow::Result<Option<Arc<dyn ClientCertVerifier>>> {
    let Some(file) = &settings.client_ca_file else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .with_context(|| format!("{}: a certificate of no use", file.display()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = match settings.client_auth {
        ClientAuth::IfGiven => builder.allow_unauthenticated(),
        ClientAuth::None | ClientAuth::Required => builder,
    };
    let verifier = builder
        .build()
        .with_context(|| format!("{} vouches for nobody", file.display()))?;
    Ok(Some(verifier))
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| anyhow!("{}: no certificates in PEM: {error}", file.display()))?;
    if found.is_empty() {
        return Err(anyhow!("{}: there is no certificate in it", file.display()));
    }
    Ok(found)
}

fn warn_of_readers(file: &Path) {
    if fs::metadata(file).is_ok_and(|about| about.mode() & 0o007 != 0) {
        warn!(file = %file.display(), "every user of this host can read the listener's private key: chmod 600");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a certificate for `name` and its key.
    fn issue(folder: &Path, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        // As renewals do it: the new file takes the old one's place.
        for (file, text) in [
            ("key.pem", made.signing_key.serialize_pem()),
            ("cert.pem", made.cert.pem()),
        ] {
            let new = folder.join("new");
            fs::write(&new, text).expect("written");
            fs::rename(&new, folder.join(file)).expect("renamed");
        }
    }

    fn settings(folder: &Path) -> TlsSettings {
        TlsSettings {
            cert_file: folder.join("cert.pem"),
            key_file: folder.join("key.pem"),
            client_auth: ClientAuth::None,
            client_ca_file: None,
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
        }
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_a_wrong_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        issue(folder.path(), "one.example");
        let certificates = Certificates::load(settings(folder.path())).expect("loaded");
        let first = certificates.current();
        assert!(
            Arc::ptr_eq(&first, &certificates.current()),
            "nothing changed"
        );

        fs::write(folder.path().join("cert.pem"), "no certificate").expect("written");
        assert!(Arc::ptr_eq(&first, &certificates.current()), "kept");
        fs::remove_file(folder.path().join("key.pem")).expect("removed");
        assert!(Arc::ptr_eq(&first, &certificates.current()), "kept");

        issue(folder.path(), "two.example");
        let second = certificates.current();
        assert!(!Arc::ptr_eq(&first, &second), "taken");
    }

    #[test]
    fn what_is_wrong_with_the_files_is_told_without_their_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = settings(folder.path());
        let refusal = |settings: &TlsSettings| {
            format!(
                "{:#}",
                Certificates::load(settings.clone()).expect_err("refused")
            )
        };
        assert!(refusal(&settings).contains("cert.pem"));
        issue(folder.path(), "one.example");
        let other = tempfile::tempdir().expect("a folder");
        issue(other.path(), "one.example");
        let mixed = TlsSettings {
            key_file: other.path().join("key.pem"),
            ..settings.clone()
        };
        assert!(
            refusal(&mixed).contains("do not go together"),
            "{}",
            refusal(&mixed)
        );
        let swapped = TlsSettings {
            cert_file: settings.key_file.clone(),
            ..settings.clone()
        };
        assert!(
            refusal(&swapped).contains("no certificate"),
            "{}",
            refusal(&swapped)
        );
        let without_roots = TlsSettings {
            client_auth: ClientAuth::Required,
            client_ca_file: Some(settings.key_file.clone()),
            ..settings
        };
        assert!(refusal(&without_roots).contains("no certificate"));
    }
}
