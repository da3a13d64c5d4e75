//! Which interfaces are protected: a name, or a table with a name and a mode.

use std::fmt;
use std::ops::Range;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::SettingsError;
use crate::datapath::{AttachMode, Egress, InterfaceSettings};

/// Longest interface name the kernel takes (IFNAMSIZ without the final zero).
const LONGEST_NAME: usize = 15;

/// `"eth0"` or `{ name = "eth0", mode = "native" }`.
pub(super) struct InterfaceEntry(InterfaceSettings);

impl<'de> Deserialize<'de> for InterfaceEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

/// Tells the two forms apart by hand: an untagged enum would lose what is wrong inside the table.
struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = InterfaceEntry;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an interface: \"eth0\" or { name = \"eth0\", mode = \"native\" }")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(InterfaceEntry(InterfaceSettings {
            name: name.to_owned(),
            mode: AttachMode::Auto,
            egress: Egress::Auto,
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let table = InterfaceTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(InterfaceEntry(InterfaceSettings {
            name: table.name,
            mode: table.mode.into(),
            egress: table.egress.into(),
        }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InterfaceTable {
    name: String,
    #[serde(default)]
    mode: ModeName,
    #[serde(default)]
    egress: EgressName,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ModeName {
    #[default]
    Auto,
    Native,
    Generic,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EgressName {
    #[default]
    Auto,
    Tcx,
    Clsact,
}

impl From<EgressName> for Egress {
    fn from(egress: EgressName) -> Self {
        match egress {
            EgressName::Auto => Self::Auto,
            EgressName::Tcx => Self::Tcx,
            EgressName::Clsact => Self::Clsact,
        }
    }
}

impl From<ModeName> for AttachMode {
    fn from(mode: ModeName) -> Self {
        match mode {
            ModeName::Auto => Self::Auto,
            ModeName::Native => Self::Native,
            ModeName::Generic => Self::Generic,
        }
    }
}

/// Checks the names; whether the interfaces exist is only known when attaching.
pub(super) fn check(
    entries: Spanned<Vec<Spanned<InterfaceEntry>>>,
    at: impl Fn(Range<usize>, String) -> SettingsError,
) -> Result<Vec<InterfaceSettings>, SettingsError> {
    let span = entries.span();
    let mut interfaces: Vec<InterfaceSettings> = Vec::new();
    for entry in entries.into_inner() {
        let span = entry.span();
        let InterfaceEntry(interface) = entry.into_inner();
        let name = &interface.name;
        let allowed = |letter: char| !letter.is_whitespace() && letter != '/' && letter != '\0';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(allowed) {
            return Err(at(
                span,
                format!(
                    "`{name}` is no interface name: 1 to {LONGEST_NAME} bytes without spaces and slashes"
                ),
            ));
        }
        if interfaces.iter().any(|other| other.name == *name) {
            return Err(at(span, format!("interface `{name}` is listed twice")));
        }
        interfaces.push(interface);
    }
    if interfaces.is_empty() {
        return Err(at(
            span,
            "at least one interface must be named: `ip -brief link` lists them".to_owned(),
        ));
    }
    Ok(interfaces)
}
