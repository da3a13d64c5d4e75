//! The ssh session that a command is run in, so that the daemon can guard it.

use crate::guard::Session;

/// The ssh session that this runs in, if it does: of this process, or, where `sudo` has cleaned the
/// environment, of one that it was started by.
pub fn own_session() -> Option<String> {
    session_of_process().filter(|value| value.parse::<Session>().is_ok())
}

fn session_of_process() -> Option<String> {
    const NAME: &str = "SSH_CONNECTION";
    if let Ok(value) = std::env::var(NAME) {
        return Some(value);
    }
    let mut process = "self".to_owned();
    loop {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        process = parent.trim().to_owned();
        if process == "0" || process == "1" {
            return None;
        }
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let value = environment.split(|byte| *byte == 0).find_map(|variable| {
            let variable = str::from_utf8(variable).ok()?;
            variable.strip_prefix(NAME)?.strip_prefix('=')
        });
        if let Some(value) = value {
            return Some(value.to_owned());
        }
    }
}
