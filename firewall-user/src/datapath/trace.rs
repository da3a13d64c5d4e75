//! Development tracing (the feature `trace`): hands what the kernel programs say to the daemon's
//! log, at level debug.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use aya::Ebpf;
use aya::maps::Map;
use aya_log::EbpfLogger;

use super::pins::Shape;

/// The ring that aya-log's macros write to. All generations share one.
pub(super) const MAP: &str = "AYA_LOGS";
pub(super) const SHAPE: Shape = Shape {
    key: 0,
    value: 0,
    entries: 1 << 17,
};

const PAUSE: Duration = Duration::from_millis(50);

/// Identifier of the ring that is being read.
static READ: Mutex<Option<u32>> = Mutex::new(None);

/// Reads the ring of these programs from now on, unless it is being read already.
pub(super) fn listen(programs: &mut Ebpf) -> anyhow::Result<()> {
    let Some(Map::RingBuf(ring)) = programs.map(MAP) else {
        anyhow::bail!("the kernel programs were built without tracing");
    };
    let identifier = ring.info()?.id();
    let mut read = READ.lock().unwrap_or_else(|error| error.into_inner());
    if *read == Some(identifier) {
        return Ok(());
    }
    let mut logger = EbpfLogger::init(programs).context("the ring of the kernel programs")?;
    thread::Builder::new()
        .name("trace".to_owned())
        .spawn(move || {
            // A fence that was taken down and put up again has another ring.
            while *READ.lock().unwrap_or_else(|error| error.into_inner()) == Some(identifier) {
                logger.flush();
                thread::sleep(PAUSE);
            }
        })?;
    *read = Some(identifier);
    Ok(())
}
