//! The key `payload`: a pattern, or a list of which any may be there, as `"0:47455420"`,
//! `{ offset = 0, hex = "47455420" }` or `{ offset = 0, text = "GET " }`.

use toml::de::{DeTable, DeValue};

use super::reader::{At, Reader, Value, kind};
use crate::policy::model::Payload;
use crate::policy::payload::BadPayload;
use firewall_common::image::PATTERN_REACH;

pub(super) const PATTERN_KEYS: &[&str] = &["offset", "hex", "text"];
const WAYS: &str =
    "write \"0:47455420\" or { offset = 0, hex = \"47455420\" } or { offset = 0, text = \"GET \" }";

impl<'t> Reader<'t> {
    pub(super) fn payloads(&mut self, at: At<'_>, value: &Value<'t>) -> Vec<Payload> {
        let mut payloads = Vec::new();
        for element in self.some_of(at, value, "leave the key out to match every payload") {
            let payload = match element.get_ref() {
                DeValue::String(text) => self.pattern(at, element, text.parse()),
                DeValue::Table(table) => self.pattern_table(at, element, table),
                other => {
                    let message = format!("{at} takes patterns, not {}", kind(other));
                    self.error(element.span(), message, WAYS);
                    None
                }
            };
            payloads.extend(payload.filter(|payload| !payloads.contains(payload)));
        }
        payloads
    }

    fn pattern(
        &mut self,
        at: At<'_>,
        value: &Value<'t>,
        read: Result<Payload, BadPayload>,
    ) -> Option<Payload> {
        match read {
            Ok(payload) => Some(payload),
            Err(bad) => {
                let message = format!("{} for {at}", bad.message);
                self.error(value.span(), message, bad.help);
                None
            }
        }
    }

    fn pattern_table(
        &mut self,
        at: At<'_>,
        value: &Value<'t>,
        table: &DeTable<'t>,
    ) -> Option<Payload> {
        let within = format!("{at}");
        let mut offset = Some(0);
        let mut bytes: Option<(bool, &str)> = None;
        let mut known = true;
        for (key, value) in table {
            let at = At {
                key: key.get_ref(),
                within: &within,
            };
            match at.key {
                "offset" => offset = self.integer(at, value, 0..=i64::from(PATTERN_REACH)),
                "hex" | "text" if bytes.is_some() => {
                    let message = format!("{within} has both \"hex\" and \"text\"");
                    self.error(key.span(), message, WAYS);
                    known = false;
                }
                "hex" => bytes = Some((true, self.string(at, value, "\"47455420\"")?)),
                "text" => bytes = Some((false, self.string(at, value, "\"GET \"")?)),
                _ => {
                    self.unknown_key(key, &within, PATTERN_KEYS);
                    known = false;
                }
            }
        }
        let Some((hex, written)) = bytes else {
            if known {
                self.error(value.span(), format!("{at} has no bytes to look for"), WAYS);
            }
            return None;
        };
        // The offset was compared with its bounds, or faulted, above.
        let offset = offset? as u16;
        let read = if hex {
            Payload::from_hex(offset, written)
        } else {
            Payload::from_bytes(offset, written.as_bytes())
        };
        self.pattern(at, value, read).filter(|_| known)
    }
}
