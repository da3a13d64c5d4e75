//! Processes that do one thing which a confined daemon cannot: forked before it confines itself, asked over a
//! socket, and gone with it.
#![expect(unsafe_code, reason = "a process is forked and sees to its own end")]

use std::ffi::CStr;
use std::os::unix::net::UnixStream;

use anyhow::Context;

/// Starts a helper and gives the way to it. `live` is its life: what it returns ends it.
///
/// There must be no other thread yet, and nothing open that must not live on in another process, such as
/// locks. The name has 15 bytes at most.
pub fn spawn(
    name: &'static CStr,
    live: impl FnOnce(UnixStream) -> anyhow::Result<()>,
) -> anyhow::Result<UnixStream> {
    let (near, far) = UnixStream::pair().context("no way to a process of its own")?;
    let daemon = rustix::process::getpid();
    // SAFETY: the process has no other thread, so the child may go on as any program.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()).context("no process of its own"),
        0 => {
            drop(near);
            // SAFETY: plain system calls without pointers to anything but a constant.
            unsafe {
                libc::prctl(libc::PR_SET_NAME, name.as_ptr());
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // It goes with the daemon, not before it.
                for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                    libc::signal(signal, libc::SIG_IGN);
                }
            }
            // It may have died before it could be followed.
            let orphaned = rustix::process::getppid() != Some(daemon);
            let failed = !orphaned && live(far).is_err();
            // Not through whatever else the daemon would do at its end.
            // SAFETY: ends this process.
            unsafe { libc::_exit(i32::from(failed)) }
        }
        _ => Ok(near),
    }
}
