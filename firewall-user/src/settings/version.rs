//! The version of the settings: looked at first, so that a file of a later version is told as such, and not by
//! the first key that is not known here.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::SettingsError;

/// The version of the keys that are read. A file without one has it, too: there was none before.
const VERSION: i64 = 1;

/// All that is read of the file at first; other keys may be anything.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    version: Option<Spanned<toml::Value>>,
}

/// Refuses a version that is not known.
pub(super) fn check(file: &Path, text: &str) -> Result<(), SettingsError> {
    let head: Head =
        toml::from_str(text).map_err(|error| SettingsError::from_toml(file, text, &error))?;
    let Some(version) = head.version else {
        return Ok(());
    };
    let message = match version.get_ref() {
        toml::Value::Integer(VERSION) => return Ok(()),
        toml::Value::Integer(later) if *later > VERSION => format!(
            "version {later} of the settings is for a later palisade: this one reads version {VERSION}"
        ),
        other => format!("`version` is {VERSION}, or left out, but is {other}"),
    };
    Err(SettingsError::at(file, text, version.span(), message))
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let parsed = Settings::parse(Path::new("palisade.toml"), text);
        parsed.map_err(|error| error.to_string())
    }

    #[test]
    fn the_version_may_be_left_out_and_a_later_one_is_told_as_such() {
        let settings = "interfaces = [\"eth0\"]\n";
        read(settings).expect("the first version");
        read(&format!("version = 1\n{settings}")).expect("the first version");
        for (text, says) in [
            // Keys of a later version are not the reason that is told.
            ("version = 2\nnew_key = true\n", "for a later palisade"),
            ("version = 0\n", "or left out"),
            ("version = \"1\"\n", "or left out"),
        ] {
            let error = read(&format!("{text}{settings}")).expect_err(text);
            assert!(error.contains(says) && error.contains(":1:"), "{error}");
        }
    }
}
