//! Basic authentication against bcrypt hashes. Such a hash takes tens of milliseconds to check, which is its point; what was
//! found right is remembered, so that a scraper pays it once.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio_rustls::rustls::crypto::ring::default_provider;

use super::settings::PasswordHash;

/// Right passwords that are remembered; few hosts have more than a scraper and some people.
const REMEMBERED: usize = 100;
/// Checks at a time, so that somebody who guesses cannot have every processor.
const AT_ONCE: usize = 1;
/// How long a check may wait for others.
const WAIT: Duration = Duration::from_secs(5);
/// Longest header that is looked at.
const LONGEST: usize = 1_024;

/// Who may ask, and by which password.
#[derive(Debug)]
pub struct Users {
    hashes: BTreeMap<String, PasswordHash>,
    /// Salted digests of names with passwords that were right.
    right: Mutex<HashSet<[u8; 32]>>,
    salt: [u8; 32],
    turn: Semaphore,
}

/// What came of a look at somebody's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Known,
    Unknown,
    /// Too many others are being looked at.
    Busy,
}

impl Users {
    pub fn new(hashes: BTreeMap<String, PasswordHash>) -> anyhow::Result<Self> {
        let mut salt = [0; 32];
        default_provider()
            .secure_random
            .fill(&mut salt)
            .map_err(|_| anyhow!("the kernel gives no random numbers"))?;
        Ok(Self {
            hashes,
            right: Mutex::default(),
            salt,
            turn: Semaphore::new(AT_ONCE),
        })
    }

    /// Whether anybody must say who they are.
    pub fn are_asked(&self) -> bool {
        !self.hashes.is_empty()
    }

    /// Judges an `Authorization` header.
    pub async fn judge(&self, header: Option<&HeaderValue>) -> Answer {
        let Some((name, password)) = header.and_then(read) else {
            return Answer::Unknown;
        };
        let digest = self.digest(&name, &password);
        if self.remembers(&digest) {
            return Answer::Known;
        }
        let Ok(turn) = tokio::time::timeout(WAIT, self.turn.acquire()).await else {
            return Answer::Busy;
        };
        // The semaphore is never closed.
        let Ok(_turn) = turn else {
            return Answer::Busy;
        };
        let known = self.hashes.get(&name);
        // A name that is not known takes as long as one that is, so that names cannot be found out.
        let Some(hash) = known.or_else(|| self.hashes.values().next()).cloned() else {
            return Answer::Unknown;
        };
        let is_known = known.is_some();
        let matches = tokio::task::spawn_blocking(move || {
            bcrypt::verify(password, hash.as_str()).unwrap_or(false)
        })
        .await
        .context("a password was not checked");
        match matches {
            Ok(true) if is_known => {
                self.remember(digest);
                Answer::Known
            }
            _ => Answer::Unknown,
        }
    }

    /// A password is not kept: only this, which is of no use to another process.
    fn digest(&self, name: &str, password: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.salt);
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update(password);
        hasher.finalize().into()
    }

    fn remembers(&self, digest: &[u8; 32]) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.contains(digest)
    }

    fn remember(&self, digest: [u8; 32]) {
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= REMEMBERED {
            right.clear();
        }
        right.insert(digest);
    }
}

/// Name and password of a `Basic` header (RFC 7617).
fn read(header: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let text = header.to_str().ok().filter(|text| text.len() <= LONGEST)?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut plain = STANDARD.decode(encoded.trim()).ok()?;
    let colon = plain.iter().position(|&byte| byte == b':')?;
    let password = plain.split_off(colon + 1);
    plain.pop();
    Some((String::from_utf8(plain).ok()?, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let hash = bcrypt::hash("s3cret", 4).expect("hashed");
        let hash = hash.parse().expect("a hash");
        Users::new(BTreeMap::from([("scraper".to_owned(), hash)])).expect("made")
    }

    fn header(plain: &str) -> HeaderValue {
        let value = format!("Basic {}", STANDARD.encode(plain));
        HeaderValue::from_str(&value).expect("a header")
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_name_is_let_in() {
        let users = users();
        // Twice, because the second time some answers are remembered.
        for _ in 0..2 {
            for (plain, answer) in [
                ("scraper:s3cret", Answer::Known),
                ("scraper:wrong", Answer::Unknown),
                ("scraper:", Answer::Unknown),
                ("nobody:s3cret", Answer::Unknown),
                (":s3cret", Answer::Unknown),
                ("scrapers3cret", Answer::Unknown),
                ("scraper:s3cret:", Answer::Unknown),
            ] {
                assert_eq!(users.judge(Some(&header(plain))).await, answer, "{plain}");
            }
        }
        assert_eq!(users.judge(None).await, Answer::Unknown);
    }

    #[tokio::test]
    async fn a_header_that_makes_no_sense_is_nobody_s() {
        let users = users();
        for text in [
            "",
            "Basic",
            "Basic ",
            "Basic !!!",
            "Bearer c2NyYXBlcjpzM2NyZXQ=",
            "Basic c2NyYXBlcjpzM2NyZXQ= x",
            &format!("Basic {}", "c2NyYXBlcjpzM2NyZXQ=".repeat(100)),
        ] {
            let header = HeaderValue::from_str(text).expect("a header");
            assert_eq!(users.judge(Some(&header)).await, Answer::Unknown, "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_remembered_holds_no_password() {
        let users = users();
        users.judge(Some(&header("scraper:s3cret"))).await;
        let shown = format!("{users:?}");
        assert!(
            !shown.contains("s3cret") && !shown.contains("$2"),
            "{shown}"
        );
        assert_eq!(users.right.lock().expect("unlocked").len(), 1);
        users.judge(Some(&header("scraper:other"))).await;
        assert_eq!(users.right.lock().expect("unlocked").len(), 1);
    }
}
