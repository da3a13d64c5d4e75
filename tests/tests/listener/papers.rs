//! An authority with what it has signed: a server's certificate for the protected host, and a client's.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use palisade_tests::topology::{INSIDE_V4, INSIDE_V6};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tempfile::TempDir;

/// Certificates and keys in a folder, in PEM.
pub struct Papers {
    folder: TempDir,
}

impl Papers {
    /// Those of a new authority.
    pub fn issue(authority: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
        let mut params = named(authority);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let ca = params.self_signed(&key)?;
        fs::write(folder.path().join("ca.pem"), ca.pem())?;
        let issuer = Issuer::new(params, key);

        let mut server = named("edge");
        server.subject_alt_names = vec![
            SanType::IpAddress(INSIDE_V4.into()),
            SanType::IpAddress(INSIDE_V6.into()),
        ];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut client = named("scraper");
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        for (name, params) in [("server", server), ("client", client)] {
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &issuer)?;
            fs::write(folder.path().join(format!("{name}.pem")), certificate.pem())?;
            fs::write(
                folder.path().join(format!("{name}.key")),
                key.serialize_pem(),
            )?;
        }
        Ok(Self { folder })
    }

    /// Puts another authority's server certificate in the place of this one's, as renewals do.
    pub fn replace_by(&self, other: &Self) -> Result<()> {
        for (old, new) in [(self.key(), other.key()), (self.cert(), other.cert())] {
            let beside = old.with_extension("new");
            fs::copy(new, &beside)?;
            fs::rename(beside, old)?;
        }
        Ok(())
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn cert(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }

    pub fn client_cert(&self) -> PathBuf {
        self.folder.path().join("client.pem")
    }

    pub fn client_key(&self) -> PathBuf {
        self.folder.path().join("client.key")
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
