//! A tagged path where the kernel has no VLAN devices: frames are carried between two interfaces
//! by hand, gaining an 802.1Q tag one way and losing it the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::frames::FrameSocket;
use crate::namespace::Namespace;

/// How long a relay may sleep before it sees that it should stop.
const BREATH: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// Carries frames for as long as it lives.
#[derive(Debug)]
pub struct TagRelay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl TagRelay {
    /// Starts to carry frames between an untagged interface and a tagged one.
    pub fn start(
        untagged: (&Namespace, &str),
        tagged: (&Namespace, &str),
        vlan: u16,
    ) -> Result<Self> {
        let plain = open(untagged)?;
        let trunk = open(tagged)?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                let mut waiting = [
                    PollFd::new(&plain, PollFlags::IN),
                    PollFd::new(&trunk, PollFlags::IN),
                ];
                poll(&mut waiting, Some(&BREATH))?;
                put_tags_on(&plain, &trunk, vlan)?;
                take_tags_off(&trunk, &plain, vlan)?;
            }
            Ok(())
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for TagRelay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && let Ok(Err(error)) = thread.join()
        {
            eprintln!("the tag relay stopped early: {error:#}");
        }
    }
}

fn open((namespace, interface): (&Namespace, &str)) -> Result<FrameSocket> {
    let interface = interface.to_owned();
    namespace.inside(move || FrameSocket::open(&interface))
}

fn put_tags_on(plain: &FrameSocket, trunk: &FrameSocket, vlan: u16) -> Result<()> {
    let mut frame = [0u8; 4096];
    // The tag's four bytes go between the addresses and what follows them.
    while let Some(received) = plain.receive(&mut frame[4..])? {
        if received.vlan.is_some() || received.length < 14 {
            continue;
        }
        frame.copy_within(4..16, 0);
        frame[12..14].copy_from_slice(&0x8100u16.to_be_bytes());
        frame[14..16].copy_from_slice(&vlan.to_be_bytes());
        trunk.send(&frame[..received.length + 4])?;
    }
    Ok(())
}

fn take_tags_off(trunk: &FrameSocket, plain: &FrameSocket, vlan: u16) -> Result<()> {
    let mut frame = [0u8; 4096];
    while let Some(received) = trunk.receive(&mut frame)? {
        if received.vlan == Some(vlan) {
            plain.send(&frame[..received.length])?;
        }
    }
    Ok(())
}
