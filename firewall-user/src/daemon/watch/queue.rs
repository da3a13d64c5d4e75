//! What a reader has not read yet, as the body of an answer that goes on.
//!
//! The body is asked for more only while the connection takes more, and is dropped when the peer is gone:
//! so a slow reader's samples wait here and nowhere else, and one that left is forgotten.

use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc;

use super::{Lost, Watched};
use crate::daemon::documents::{LostBy, LostDocument, WatchLine, WatchedPacket};

/// Bytes that are handed on at once, at least if there are so many.
const CHUNK: usize = 32 << 10;

/// The reading end.
#[derive(Debug)]
pub struct Watching {
    samples: mpsc::Receiver<Arc<Watched>>,
    lost: Arc<Lost>,
    /// Show the first bytes, too.
    frames: bool,
}

impl Watching {
    pub(super) fn new(
        samples: mpsc::Receiver<Arc<Watched>>,
        lost: Arc<Lost>,
        frames: bool,
    ) -> Self {
        Self {
            samples,
            lost,
            frames,
        }
    }

    fn packet(&self, watched: &Watched) -> WatchLine {
        WatchLine::Packet(Box::new(WatchedPacket {
            event: watched.event.clone(),
            frame: self.frames.then(|| hexadecimal(watched.sighting.frame())),
        }))
    }

    /// What was lost since it was told last.
    fn lost(&self) -> impl Iterator<Item = WatchLine> + use<> {
        let take = |count: &std::sync::atomic::AtomicU64| count.swap(0, Ordering::Relaxed);
        let by_reader = LostDocument {
            by: LostBy::Reader,
            samples: Some(take(&self.lost.samples)),
            packets: take(&self.lost.packets),
        };
        let in_kernel = LostDocument {
            by: LostBy::Kernel,
            samples: None,
            packets: take(&self.lost.in_kernel),
        };
        [by_reader, in_kernel]
            .into_iter()
            .filter(|lost| lost.packets > 0)
            .map(WatchLine::Lost)
    }
}

impl Body for Watching {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let mut lines = Vec::new();
        let mut ended = false;
        while lines.len() < CHUNK {
            match this.samples.poll_recv(context) {
                Poll::Ready(Some(watched)) => push(&mut lines, &this.packet(&watched)),
                Poll::Ready(None) => {
                    ended = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        for lost in this.lost() {
            push(&mut lines, &lost);
        }
        if !lines.is_empty() {
            Poll::Ready(Some(Ok(Frame::data(lines.into()))))
        } else if ended {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

fn push(lines: &mut Vec<u8>, line: &WatchLine) {
    let before = lines.len();
    // Writing to memory cannot fail, and the documents have no map with other keys than text.
    if serde_json::to_writer(&mut *lines, line).is_err() {
        lines.truncate(before);
        return;
    }
    lines.push(b'\n');
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
