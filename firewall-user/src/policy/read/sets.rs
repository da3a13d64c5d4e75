//! The `[sets]` table.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::MAX_SETS;
use super::reader::{At, Reader, Value, kind};
use super::set_file::read_set_file_told;
use crate::policy::address::parse_prefix;
use crate::policy::model::Set;
use crate::policy::names::{NAME_HELP, check_set_name};

pub(super) const SET_KEYS: &[&str] = &["file"];
/// Ways to write a set that the language has and this version does not.
const UNSUPPORTED_SETS: &[&str] = &["country", "countries", "asn", "feed", "url"];
const WAYS: &str = "write [\"198.51.100.0/24\"] or { file = \"name.netset\" }";

impl<'t> Reader<'t> {
    pub(super) fn sets(&mut self, at: At<'_>, value: &Value<'t>) -> Vec<Set> {
        let Some(table) = self.table(at, value, "write [sets] on a line of its own") else {
            return Vec::new();
        };
        let mut sets = Vec::with_capacity(table.len());
        for (key, value) in table {
            let name: &str = key.get_ref();
            if sets.len() == MAX_SETS {
                let message = format!("there are {} sets", table.len());
                self.error(
                    key.span(),
                    message,
                    format!("at most {MAX_SETS} sets fit in a policy"),
                );
                break;
            }
            if let Err(fault) = check_set_name(name) {
                let message = format!("the set name \"{}\" {fault}", name.escape_debug());
                self.error(key.span(), message, NAME_HELP);
            }
            // A faulty set is kept, empty, so that rules that name it are not faulted as well.
            sets.push(self.set(name, value));
        }
        sets
    }

    fn set(&mut self, name: &str, value: &Value<'t>) -> Set {
        let mut set = Set {
            name: name.to_owned(),
            prefixes: Vec::new(),
            file: None,
        };
        match value.get_ref() {
            DeValue::Array(elements) => {
                set.prefixes.reserve(elements.len());
                for element in elements {
                    let Some(text) = element.get_ref().as_str() else {
                        let kind = kind(element.get_ref());
                        let message =
                            format!("an address in set \"{name}\" must be a string, not {kind}");
                        self.error(element.span(), message, "write it in quotes");
                        continue;
                    };
                    match parse_prefix(text) {
                        Ok(prefix) => set.prefixes.push(prefix),
                        Err(bad) => {
                            let message = format!("{} in set \"{name}\"", bad.message);
                            self.error(element.span(), message, bad.help);
                        }
                    }
                }
            }
            DeValue::Table(table) => self.set_by_table(table, value, &mut set),
            other => {
                let kind = kind(other);
                let message = format!("set \"{name}\" must be a list or a table, not {kind}");
                self.error(value.span(), message, WAYS);
            }
        }
        set
    }

    fn set_by_table(&mut self, table: &DeTable<'t>, value: &Value<'t>, set: &mut Set) {
        let within = format!("set \"{}\"", set.name);
        let mut understood = false;
        for (key, value) in table {
            let at = At {
                key: key.get_ref(),
                within: &within,
            };
            if at.key == "file" {
                understood = true;
                if let Some(file) = self.string(at, value, "\"name.netset\"") {
                    self.set_file(at, file, value, set);
                }
            } else if UNSUPPORTED_SETS.contains(&at.key) {
                understood = true;
                self.error(
                    key.span(),
                    format!("{at} is not supported by this version"),
                    "list the prefixes, or write them to a file",
                );
            } else {
                understood = true;
                self.unknown_key(key, &within, SET_KEYS);
            }
        }
        if !understood {
            self.error(value.span(), format!("{within} has no content"), WAYS);
        }
    }

    fn set_file(&mut self, at: At<'_>, file: &str, value: &Value<'t>, set: &mut Set) {
        if file.is_empty() || file.contains('\0') {
            self.error(value.span(), format!("{at} is no file name"), WAYS);
            return;
        }
        let path = self.base.join(Path::new(file));
        if !self.lists {
            set.file = Some(path);
            return;
        }
        match read_set_file_told(&path, self.told) {
            Ok(mut read) => {
                set.prefixes = std::mem::take(&mut read.prefixes);
                self.findings.more += read.more;
                for bad in read.bad {
                    self.findings.push(bad);
                }
            }
            Err(reason) => {
                let message = format!("{at}: {}: {reason}", path.display());
                self.error(
                    value.span(),
                    message,
                    "the path starts from the folder of the policy",
                );
            }
        }
        set.file = Some(path);
    }
}
