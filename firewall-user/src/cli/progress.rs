//! How far long work has come: a bar on standard error, for people on a terminal only.
//!
//! A bar's end is what is known of the work, such as a file's size; where nothing is known there is no bar but
//! the time that has passed. What is done soon shows nothing.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Global;
use crate::policy::{Finding, Policy, PolicyErrors, Reading, render};
use crate::terminal::can_be_drawn_on;

/// Work that takes no longer shows nothing.
const PATIENCE: Duration = Duration::from_millis(300);
/// How often the time that has passed is brought up to date.
const TICK: Duration = Duration::from_millis(200);
const KNOWN: &str = "{msg} [{bar:30}] {bytes} of {total_bytes}, {eta} left";
const UNKNOWN: &str = "{msg} {bytes}, {elapsed}";
const WAITING: &str = "{msg} {elapsed}";

/// Who is to see progress.
#[derive(Clone, Copy, Debug)]
pub struct Audience {
    watches: bool,
}

impl Audience {
    /// Nobody, unless standard error is a terminal and the output is for people.
    pub fn new(global: &Global) -> Self {
        Self {
            watches: can_be_drawn_on(&io::stderr()) && !global.json,
        }
    }

    /// Work that goes through so many bytes, if that is known.
    pub fn bytes(self, what: &str, total: Option<u64>) -> Progress {
        let template = if total.is_some() { KNOWN } else { UNKNOWN };
        self.progress(what, total, template)
    }

    /// Work of which nothing is known but that it goes on. It shows by itself.
    pub fn waiting(self, what: &str) -> Progress {
        let mut progress = self.progress(what, None, WAITING);
        if let Some(bar) = progress.bar.clone() {
            let (done, is_done) = channel::<()>();
            // A bar that has ended meanwhile draws nothing more.
            thread::spawn(move || {
                if is_done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.enable_steady_tick(TICK);
                }
            });
            progress.done = Some(done);
        }
        progress
    }

    fn progress(self, what: &str, total: Option<u64>, template: &str) -> Progress {
        // A template of ours is one.
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.watches.then(|| {
            ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden())
                .with_style(style.progress_chars("=> "))
                .with_message(what.to_owned())
        });
        Progress {
            bar,
            begun: Instant::now(),
            shown: Cell::new(false),
            done: None,
        }
    }

    /// Reads a policy, saying how far the files of its sets are read.
    pub fn load(self, file: &Path) -> Result<(Policy, Vec<Finding>), PolicyErrors> {
        let now: RefCell<Option<Progress>> = RefCell::new(None);
        let last: RefCell<PathBuf> = RefCell::default();
        Policy::load_told(file, &|reading: Reading<'_>| {
            let mut now = now.borrow_mut();
            if reading.done >= reading.total {
                // What follows looks at all of them.
                *now = Some(self.waiting("checking"));
                last.borrow_mut().clear();
                return;
            }
            if *last.borrow() != reading.file {
                *last.borrow_mut() = reading.file.to_owned();
                *now = Some(self.bytes(&name(reading.file), Some(reading.total)));
            }
            if let Some(progress) = &*now {
                progress.at(reading.done);
            }
        })
    }

    /// The same; what is wrong with it is told.
    pub fn policy(self, file: &Path) -> Option<Policy> {
        match self.load(file) {
            Ok((policy, _)) => Some(policy),
            Err(refused) => {
                render::show(&refused.errors, refused.more);
                None
            }
        }
    }

    /// A file, or what else `source` reads from, with how much of it has been read.
    pub fn watch<R: Read>(self, file: &Path, source: R) -> Watched<R> {
        let about = fs::metadata(file).ok();
        let size = about.filter(fs::Metadata::is_file).map(|about| about.len());
        Watched {
            source,
            done: 0,
            progress: self.bytes(&name(file), size),
        }
    }
}

/// A file's own name, fit for a terminal.
fn name(file: &Path) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str());
    name.to_string_lossy().escape_debug().to_string()
}

/// Work under way. What was drawn is gone when it is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    begun: Instant,
    shown: Cell<bool>,
    /// Gone when the work is done: who waits to show it knows by that.
    done: Option<Sender<()>>,
}

impl Progress {
    /// So many bytes are done.
    pub fn at(&self, done: u64) {
        let Some(bar) = &self.bar else {
            return;
        };
        if !self.shown.get() && self.begun.elapsed() >= PATIENCE {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            self.shown.set(true);
        }
        bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done = None;
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A reader that says how far it is.
#[derive(Debug)]
pub struct Watched<R> {
    source: R,
    done: u64,
    progress: Progress,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(bytes)?;
        self.done += count as u64;
        self.progress.at(self.done);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;

    fn drawn(progress: &Progress, done: u64) -> String {
        let terminal = InMemoryTerm::new(4, 100);
        let bar = progress.bar.as_ref().expect("somebody watches");
        bar.set_draw_target(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        bar.set_position(done);
        bar.force_draw();
        terminal.contents()
    }

    #[test]
    fn a_bar_ends_where_the_work_does_and_without_an_end_there_is_none() {
        let audience = Audience { watches: true };
        let known = audience.bytes("hostile.netset", Some(4 << 20));
        let text = drawn(&known, 1 << 20);
        assert!(text.starts_with("hostile.netset [=======>"), "{text}");
        assert!(text.contains("] 1.00 MiB of 4.00 MiB, "), "{text}");
        let unknown = audience.bytes("-", None);
        let text = drawn(&unknown, 1 << 20);
        assert!(text.starts_with("- 1.00 MiB, "), "{text}");
    }

    #[test]
    fn what_is_read_is_what_is_counted_and_nobody_else_sees_a_bar() {
        let audience = Audience { watches: false };
        let mut watched = audience.watch(Path::new("x.pcap"), &[7_u8; 100][..]);
        let mut all = Vec::new();
        watched.read_to_end(&mut all).expect("memory");
        assert_eq!((all.len(), watched.done), (100, 100));
        assert!(watched.progress.bar.is_none());
    }
}
