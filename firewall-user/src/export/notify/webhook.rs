//! A webhook: JSON of the receiver's shape, signed, so that it can tell our word from others'.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use hyper::header::{HeaderName, HeaderValue};
use sha2::Sha256;

use super::Delivery;
use super::http::Peer;
use super::notice::{Notice, hex};
use super::secret::Secret;
use super::template::Template;

/// The headers of a signed request.
const TIMESTAMP: HeaderName = HeaderName::from_static("x-palisade-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-palisade-signature");
/// The same for every attempt to tell one thing.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const EVENT: HeaderName = HeaderName::from_static("x-palisade-event");

#[derive(Debug)]
pub struct Webhook {
    pub peer: Peer,
    pub template: Option<Template>,
    pub secret: Option<Secret>,
}

impl Webhook {
    pub async fn deliver(&self, notice: &Notice) -> Delivery {
        let body = match &self.template {
            Some(template) => template.render(notice),
            None => serde_json::to_vec(notice).map_err(|error| error.to_string()),
        };
        let body = match body {
            Ok(body) => body,
            Err(why) => return Delivery::Refused(format!("it cannot be written down: {why}")),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let headers = self.headers(notice, now.map_or(0, |now| now.as_secs()), &body);
        self.peer.post(headers, body).await
    }

    fn headers(&self, notice: &Notice, now: u64, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = vec![(EVENT, HeaderValue::from_static(notice.event.name()))];
        // Hexadecimal digits are fit for a header; a file that was tampered with loses its key.
        if let Ok(key) = HeaderValue::from_str(&notice.key) {
            headers.push((KEY, key));
        }
        if let Some(secret) = &self.secret {
            headers.push((TIMESTAMP, HeaderValue::from(now)));
            if let Ok(value) = HeaderValue::from_str(&sign(secret, now, body)) {
                headers.push((SIGNATURE, value));
            }
        }
        headers
    }
}

/// `v1=` and the HMAC-SHA256 of timestamp, full stop and body in hexadecimal. The timestamp is in it so that
/// nobody can send an old request again.
fn sign(secret: &Secret, timestamp: u64, body: &[u8]) -> String {
    // HMAC takes keys of any length, so there is always a signature.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.bytes()) else {
        return String::new();
    };
    mac.update(format!("{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1={}", hex(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_openssl_says() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac sesame
        assert_eq!(
            sign(
                &Secret::from("sesame".to_owned()),
                1_700_000_000,
                b"{\"a\":1}"
            ),
            "v1=961ee441db69fca5ccc174d9488a77f3c0397cd3ce633bd80dbc6e3320242468"
        );
    }
}
