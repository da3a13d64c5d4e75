//! The service as systemd sees it.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use palisade_tests::need_tools;
use palisade_tests::process::finish;

/// What `systemd-analyze security` may say at most, in tenths.
const MOST_EXPOSED: &str = "20";

#[test]
fn systemd_finds_the_service_exposed_to_no_more_than_two_of_ten() -> Result<()> {
    need_tools(&["systemd-analyze"])?;
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/palisade.service");
    let finished = finish(
        Command::new("systemd-analyze")
            .args(["security", "--no-pager", "--offline=true"])
            .arg(format!("--threshold={MOST_EXPOSED}"))
            .arg(&unit),
    )?;
    ensure!(finished.success(), "{finished}");
    ensure!(
        finished.stdout.contains("Overall exposure level"),
        "{finished}"
    );
    // What it does not know it leaves out of the account.
    for word in ["Unknown", "ignoring", "Failed"] {
        ensure!(!finished.stderr.contains(word), "{finished}");
    }
    Ok(())
}
