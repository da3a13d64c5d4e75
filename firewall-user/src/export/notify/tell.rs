//! How alerts get from the log of alerts to a peer. One task takes them in and writes them to the queue, another
//! takes them from there and stays with each until the peer has it. A peer that is told states needs one task and
//! no queue: what it has to be told is what is the case.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::error;

use super::Delivery;
use super::alertmanager::{Alertmanager, Held};
use super::backoff::Backoff;
use super::channel::Channel;
use super::notice::{Event, Notice};
use super::notifier::{Notifier, lock, now};
use crate::detect::Alert;

const TOO_SLOW: &str = "alerts came faster than they could be taken in";
const NO_ROOM: &str = "too many wait";
/// Alerts of the same moment are told together.
const MOMENT: Duration = Duration::from_millis(100);

pub fn start(notifier: &Arc<Notifier>, changes: Receiver<Alert>) {
    if matches!(&notifier.channel, Ok(Channel::Alertmanager(_))) {
        tokio::spawn(states(notifier.clone(), changes));
        return;
    }
    // Without a way, what happens waits until somebody has mended it.
    tokio::spawn(collect(notifier.clone(), changes));
    if notifier.channel.is_ok() {
        tokio::spawn(send(notifier.clone()));
    }
}

/// Queues what is of interest.
async fn collect(notifier: Arc<Notifier>, mut changes: Receiver<Alert>) {
    let ended = lock(&notifier.open).end(now());
    for alert in ended {
        put(&notifier, Event::Resolved, alert).await;
    }
    loop {
        match changes.recv().await {
            Ok(alert) => {
                let open = || lock(&notifier.open).take(&alert);
                let is_over = alert.ended.is_some();
                let event = (is_over || notifier.filter.wants(&alert))
                    .then(open)
                    .flatten();
                if let Some(event) = event {
                    put(&notifier, event, alert).await;
                }
            }
            Err(RecvError::Lagged(missed)) => notifier.dropped(missed, TOO_SLOW),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Writes one to the queue, off the reactor: a disk may stall.
async fn put(notifier: &Arc<Notifier>, event: Event, alert: Alert) {
    let told = notifier.filter.tells(event);
    let notice = Notice::new(event, &notifier.instance, now(), alert);
    let queueing = notifier.clone();
    let queued = tokio::task::spawn_blocking(move || {
        if event != Event::Changed {
            queueing.keep_open();
        }
        told.then(|| lock(&queueing.queue).push(notice))
    });
    match queued.await {
        Ok(Some(pushed)) => {
            notifier.dropped(pushed.dropped, NO_ROOM);
            if let Some(error) = pushed.unwritten {
                error!(
                    notifier = notifier.name,
                    "a notification waits in memory only: {error}"
                );
            }
            notifier.wake.notify_one();
        }
        Ok(None) => {}
        Err(error) => error!(notifier = notifier.name, "a notification is lost: {error}"),
    }
}

/// Tells what is queued, one after the other.
async fn send(notifier: Arc<Notifier>) {
    let Ok(channel) = &notifier.channel else {
        return;
    };
    let mut backoff = Backoff::new(notifier.retry_at_most);
    loop {
        let front = lock(&notifier.queue).front().cloned();
        let Some(notice) = front else {
            notifier.wake.notified().await;
            continue;
        };
        let delivery = channel.deliver(&notice).await;
        notifier.note(&delivery, 1);
        if let Delivery::Again { after, .. } = delivery {
            let wait = backoff.next();
            sleep(after.map_or(wait, |after| after.max(wait))).await;
            continue;
        }
        backoff.reset();
        let popping = notifier.clone();
        let popped = tokio::task::spawn_blocking(move || lock(&popping.queue).pop(&notice.key));
        if popped.await.is_err() {
            return;
        }
    }
}

/// Tells what is the case whenever that changes, and now and then.
async fn states(notifier: Arc<Notifier>, mut changes: Receiver<Alert>) {
    let Ok(Channel::Alertmanager(peer)) = &notifier.channel else {
        return;
    };
    let mut held = Held::default();
    let mut backoff = Backoff::new(notifier.retry_at_most);
    // When it is told next; never, while there is nothing to tell.
    let mut due: Option<Instant> = None;
    let mut waits = false;
    loop {
        let change = match due {
            None => Some(changes.recv().await),
            Some(due) => timeout_at(due, changes.recv()).await.ok(),
        };
        match change {
            Some(Ok(alert)) => {
                if take(&notifier, &mut held, alert) && !waits {
                    let soon = Instant::now() + MOMENT;
                    due = Some(due.map_or(soon, |due| due.min(soon)));
                }
                continue;
            }
            Some(Err(RecvError::Lagged(missed))) => {
                notifier.dropped(missed, TOO_SLOW);
                continue;
            }
            Some(Err(RecvError::Closed)) => return,
            None => {}
        }
        let wait = tell(&notifier, peer, &mut held, &mut backoff).await;
        waits = held.untold > 0;
        due = wait.map(|wait| Instant::now() + wait);
    }
}

fn take(notifier: &Notifier, held: &mut Held, alert: Alert) -> bool {
    if !notifier.filter.wants(&alert) {
        return false;
    }
    notifier.dropped(held.take(alert, now()), NO_ROOM);
    notifier.untold.store(held.untold, Ordering::Relaxed);
    true
}

/// Tells all at once; how long until it is told again, if it is.
async fn tell(
    notifier: &Notifier,
    peer: &Alertmanager,
    held: &mut Held,
    backoff: &mut Backoff,
) -> Option<Duration> {
    let number = held.untold as u64;
    let delivery = peer.tell(held, now()).await;
    notifier.note(&delivery, number);
    if let Delivery::Again { after, .. } = &delivery {
        let wait = backoff.next();
        return Some(after.map_or(wait, |after| after.max(wait)));
    }
    backoff.reset();
    held.told();
    notifier.untold.store(0, Ordering::Relaxed);
    held.is_active().then_some(peer.resend)
}
