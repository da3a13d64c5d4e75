//! `[roles]`: which users and groups of the host may ask what of the daemon.

use std::ops::Range;

use nix::unistd::{Group, User};
use serde::Deserialize;
use toml::Spanned;

use super::SettingsError;
use crate::daemon::{Members, Roles};

/// The table as written: names of users, and names of groups behind an `@`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RolesDocument {
    admin: Vec<Spanned<String>>,
    operator: Vec<Spanned<String>>,
    viewer: Vec<Spanned<String>>,
}

/// Looks the names up.
pub(super) fn check(
    document: RolesDocument,
    at: impl Fn(Range<usize>, String) -> SettingsError,
) -> Result<Roles, SettingsError> {
    let members = |names: Vec<Spanned<String>>| -> Result<Members, SettingsError> {
        let mut members = Members::default();
        for name in names {
            let span = name.span();
            add(&mut members, name.get_ref()).map_err(|error| at(span, error))?;
        }
        Ok(members)
    };
    Ok(Roles {
        admin: members(document.admin)?,
        operator: members(document.operator)?,
        viewer: members(document.viewer)?,
    })
}

fn add(members: &mut Members, name: &str) -> Result<(), String> {
    match name.strip_prefix('@') {
        Some(group) => match Group::from_name(group) {
            Ok(Some(group)) => members.groups.push(group.gid.as_raw()),
            Ok(None) => return Err(format!("there is no group `{group}` on this host")),
            Err(error) => return Err(format!("the group `{group}` cannot be looked up: {error}")),
        },
        None => match User::from_name(name) {
            Ok(Some(user)) => members.users.push(user.uid.as_raw()),
            Ok(None) => {
                return Err(format!(
                    "there is no user `{name}` on this host; a group is written `@{name}`"
                ));
            }
            Err(error) => return Err(format!("the user `{name}` cannot be looked up: {error}")),
        },
    }
    Ok(())
}
