//! Guessing passwords with hydra.

use std::fs;

use anyhow::Result;

use super::{Attack, Running};
use crate::evaluation::live::stage::{HOST_V4, HOST_V6, Stage};

const BASE: Attack = Attack {
    name: "",
    what: "",
    kinds: &["brute_force"],
    also: &[],
    needs: &["hydra"],
    packets: "src host 198.51.100.201",
    seconds: 25,
    quick: false,
    start: |_| Ok(Running::default()),
};

pub const ALL: &[Attack] = &[
    Attack {
        name: "ssh-logins",
        what: "hydra -t 16 ssh, its default; sshd lets a connection try six passwords, one each 2 s",
        start: |stage| hydra(stage, "-t 16", &format!("ssh://{HOST_V4}")),
        ..BASE
    },
    Attack {
        name: "ftp-logins",
        what: "hydra -t 16 ftp",
        quick: true,
        start: |stage| hydra(stage, "-t 16", &format!("ftp://{HOST_V4}")),
        ..BASE
    },
    Attack {
        name: "http-logins",
        what: "hydra -t 16 http-get /private/, one request to a connection",
        // A password check is a request, and hydra makes hundreds a second.
        also: &["request_flood"],
        start: |stage| hydra(stage, "-t 16", &format!("http-get://{HOST_V4}/private/")),
        ..BASE
    },
    Attack {
        name: "ssh-logins-v6",
        what: "hydra -6 -t 16 ssh",
        packets: "src host 2001:db8:bad::66",
        start: |stage| hydra(stage, "-6 -t 16", &format!("ssh://[{HOST_V6}]")),
        ..BASE
    },
];

fn hydra(stage: &Stage, options: &str, target: &str) -> Result<Running> {
    let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
    let file = folder.path().join("passwords");
    let passwords = (0..20_000).map(|number| format!("password{number}\n"));
    fs::write(&file, passwords.collect::<String>())?;
    let mut command = stage.world.outside.household("hydra");
    command
        .args(["-I", "-l", "admin", "-P"])
        .arg(&file)
        .args(options.split(' '))
        .arg(target)
        // It keeps its state where it is started.
        .current_dir(folder.path());
    let mut running = Running::command(command)?;
    running._folder = Some(folder);
    Ok(running)
}
