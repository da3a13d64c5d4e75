//! One thread owns the fence. Its calls are system calls, an apply takes up to hundreds of
//! milliseconds, and order matters; so everything that reads or changes it queues here, off the reactor.

use std::thread::JoinHandle;

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};

use super::failure::Failure;
use super::keeper::Keeper;

/// Requests that may wait; more make the asker wait.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&mut Keeper) + Send>;

/// Hands work to the thread that owns the fence.
#[derive(Clone, Debug)]
pub struct Fence {
    jobs: mpsc::Sender<Job>,
}

impl Fence {
    /// Starts the thread; `build` runs there. Returns once it succeeded or failed.
    pub async fn start<T: Send + 'static>(
        build: impl FnOnce() -> anyhow::Result<(Keeper, T)> + Send + 'static,
    ) -> anyhow::Result<(Self, T, JoinHandle<()>)> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let (ready, started) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new()
            .name("fence".to_owned())
            .spawn(move || {
                // The event stream registers itself with the reactor when it is taken.
                let _entered = runtime.enter();
                let mut keeper = match build() {
                    Ok((keeper, rest)) => {
                        // Whoever waited has gone: so has the need for a fence thread.
                        if ready.send(Ok(rest)).is_err() {
                            return;
                        }
                        keeper
                    }
                    Err(error) => {
                        // As above: nobody is left to tell.
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                while let Some(job) = queue.blocking_recv() {
                    job(&mut keeper);
                }
            })
            .context("the fence thread cannot be started")?;
        let rest = started
            .await
            .context("the fence thread panicked while starting")??;
        Ok((Self { jobs }, rest, thread))
    }

    /// A fence whose thread has ended, as after a panic.
    #[cfg(test)]
    pub fn ended() -> Self {
        let (jobs, _) = mpsc::channel(1);
        Self { jobs }
    }

    /// Runs `job` on the fence thread and waits for its result.
    pub async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Keeper) -> R + Send + 'static,
    ) -> Result<R, Failure> {
        let (reply, result) = oneshot::channel();
        let gone = || Failure::Unavailable("the fence thread has ended".to_owned());
        self.jobs
            .send(Box::new(move |keeper| {
                // An asker that went away does not want the result.
                let _ = reply.send(job(keeper));
            }))
            .await
            .map_err(|_| gone())?;
        result.await.map_err(|_| gone())
    }

    /// Waits until the thread has ended.
    pub async fn ended_by_itself(&self) {
        self.jobs.closed().await;
    }
}
