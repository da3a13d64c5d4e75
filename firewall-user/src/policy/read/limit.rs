//! The `limit` of a rule.

use toml::de::{DeTable, DeValue};

use super::reader::{At, Reader, Value, kind};
use crate::policy::limit::{
    Limit, Per, Rate, SOURCE, Terms, UNITS, Unfit, Unit, parse_amount, parse_per, parse_rate,
    unit_name,
};
use crate::policy::names::suggest;

/// Every key of a limit.
pub const LIMIT_KEYS: &[&str] = &["rate", "burst", "per", "unit"];
const EXAMPLE: &str =
    "limit = { rate = \"200/s\", burst = 400, per = \"source\", unit = \"requests\" }";
const RATE_HELP: &str =
    "write a number and a period, such as \"200/s\", \"12/m\", \"10/h\", \"10MB/s\" or \"1Gbit/s\"";
const PER_HELP: &str = "it is one of \"rule\", \"source\", \"service\", or prefix lengths such as \"/24\" (IPv4), \"/48\" (IPv6) \
     or \"/24 /48\" (both)";
const BURST_HELP: &str =
    "write how many may come at once, such as burst = 400, or of bytes burst = \"64kB\"";

impl<'t> Reader<'t> {
    pub(super) fn limit(&mut self, at: At<'_>, value: &Value<'t>) -> Option<Limit> {
        let table = self.table(at, value, &format!("write {EXAMPLE}"))?;
        let within = format!("the limit of {}", at.within);
        for (key, _) in table {
            if !LIMIT_KEYS.contains(&key.get_ref().as_ref()) {
                self.unknown_key(key, &within, LIMIT_KEYS);
            }
        }
        let at = |key| At {
            key,
            within: &within,
        };
        let Some(written) = table.get("rate") else {
            let message = format!("{within} has no \"rate\"");
            self.error(value.span(), message, format!("write {EXAMPLE}"));
            return None;
        };
        let rate = self.rate(at("rate"), written);
        let unit = self.unit(at("unit"), table, rate);
        let burst = match table.get("burst") {
            Some(value) => self.burst(at("burst"), value, unit),
            None => rate
                .zip(unit)
                .map(|(rate, unit)| Limit::usual_burst(rate, unit)),
        };
        let per = match table.get("per") {
            Some(value) => self.per(at("per"), value),
            None => Some(SOURCE),
        };
        let (rate, unit) = (rate?, unit?);
        let limit = Limit {
            terms: Terms {
                rate: rate.amount,
                seconds: rate.seconds,
                burst: burst?,
            },
            unit,
            per: per?,
        };
        match limit.compiled() {
            Ok(_) => Some(limit),
            Err(unfit) => {
                let (span, help) = match unfit {
                    Unfit::NoRate => (written.span(), "to let nothing through, write a drop rule"),
                    Unfit::TooFast => (
                        written.span(),
                        "at most 100000000/s, or 400Gbit/s of bytes, can be told from no limit",
                    ),
                    Unfit::TooSlow => (written.span(), "write at least 1B/s"),
                    Unfit::NoBurst => (value.span(), "a burst is at least 1"),
                    Unfit::TooDeep => (value.span(), "write a smaller burst or a higher rate"),
                };
                self.error(span, format!("{within} {unfit}"), help);
                None
            }
        }
    }

    fn rate(&mut self, at: At<'_>, value: &Value<'t>) -> Option<Rate> {
        let text = self.string(at, value, "\"200/s\"")?;
        match parse_rate(text) {
            Ok(rate) => Some(rate),
            Err(fault) => {
                let message = format!("\"{}\" for {at} {fault}", text.escape_debug());
                self.error(value.span(), message, RATE_HELP);
                None
            }
        }
    }

    fn unit(&mut self, at: At<'_>, table: &DeTable<'t>, rate: Option<Rate>) -> Option<Unit> {
        let in_bytes = rate.is_some_and(|rate| rate.in_bytes);
        let Some(value) = table.get("unit") else {
            return Some(if in_bytes { Unit::Bytes } else { Unit::Packets });
        };
        let unit = self.choice(at, value, UNITS)?;
        if in_bytes && unit != Unit::Bytes {
            let message = format!("{at} is {}, but the rate is of bytes", unit_name(unit));
            let help = "write unit = \"bytes\", or the rate as a plain number such as \"200/s\"";
            self.error(value.span(), message, help);
            return None;
        }
        Some(unit)
    }

    fn burst(&mut self, at: At<'_>, value: &Value<'t>, unit: Option<Unit>) -> Option<u64> {
        let read = match value.get_ref() {
            DeValue::Integer(number) => {
                let number = u64::from_str_radix(number.as_str(), number.radix());
                number
                    .map(|number| (number, false))
                    .map_err(|_| "is out of range".to_owned())
            }
            DeValue::String(text) => parse_amount(text),
            other => Err(format!("is {}", kind(other))),
        };
        let written = self.written(value.span());
        match read {
            Ok((_, true)) if unit.is_some_and(|unit| unit != Unit::Bytes) => {
                let message = format!("{written} for {at} is of bytes, but the limit is not");
                self.error(value.span(), message, "write it as a plain number");
                None
            }
            Ok((burst, _)) => Some(burst),
            Err(fault) => {
                self.error(
                    value.span(),
                    format!("{written} for {at} {fault}"),
                    BURST_HELP,
                );
                None
            }
        }
    }

    fn per(&mut self, at: At<'_>, value: &Value<'t>) -> Option<Per> {
        let text = self.string(at, value, "\"source\"")?;
        let per = parse_per(text);
        if per.is_none() {
            let words = ["rule", "source", "service"];
            let help = match suggest(text, &words) {
                near if near.starts_with("did") => near,
                _ => PER_HELP.to_owned(),
            };
            let message = format!("{at} cannot be \"{}\"", text.escape_debug());
            self.error(value.span(), message, help);
        }
        per
    }
}
