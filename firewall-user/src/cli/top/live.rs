//! The view on a real terminal: keys and documents in, screens out, and the terminal given back as it was,
//! whatever ends the program.

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};

use super::draw::{Theme, draw};
use super::feed::{Feed, News};
use super::view::{Command, Message, View};
use crate::cli::client::Client;
use crate::daemon::documents::SourceOrder;
use crate::terminal::colours_wanted;

/// How long a key is waited for before it is looked whether there is news.
const GLANCE: Duration = Duration::from_millis(50);

/// Shows the view until the user has enough.
pub fn run(client: Client, by: SourceOrder) -> anyhow::Result<ExitCode> {
    // Whoever has no daemon, or may not ask it, is told so on a terminal as it was.
    let started = Instant::now();
    let mut feed = Feed::new(client, by);
    let first = feed.documents()?;
    let mut view = View::new(by);
    view.take(0.0, first);
    let (news, heard) = channel();
    let (orders, given) = channel();
    end_on_signals(news.clone())?;
    thread::spawn(move || feed.run(&given, &news));
    let theme = Theme {
        colour: colours_wanted(),
    };
    // Also sees to it that a panic gives the terminal back.
    let mut terminal = ratatui::try_init().context("the terminal cannot be set up")?;
    let result = watch(&mut terminal, &mut view, theme, started, &heard, &orders);
    ratatui::try_restore().context("the terminal cannot be given back")?;
    result.map(|()| ExitCode::SUCCESS)
}

fn watch(
    terminal: &mut DefaultTerminal,
    view: &mut View,
    theme: Theme,
    started: Instant,
    heard: &Receiver<News>,
    orders: &Sender<Command>,
) -> anyhow::Result<()> {
    let mut changed = true;
    while !view.is_over {
        if std::mem::take(&mut changed) {
            terminal.draw(|frame| draw(frame, view, theme))?;
        }
        if event::poll(GLANCE)? {
            // A terminal that was resized is drawn anew, too.
            changed = true;
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && let Some(order) = view.key(key)
            {
                orders.send(order).map_err(|_| ended())?;
            }
        }
        while let Ok(news) = heard.try_recv() {
            changed = true;
            match news {
                News::Read(at, documents) => {
                    let at = at.saturating_duration_since(started).as_secs_f64();
                    view.take(at, *documents);
                }
                News::Silence(why) => view.silence = Some(why),
                News::Told(Ok(what)) => view.message = Some(Message::Done(what)),
                News::Told(Err(why)) => view.message = Some(Message::Failed(why)),
                News::End => view.is_over = true,
            }
        }
    }
    Ok(())
}

fn ended() -> anyhow::Error {
    anyhow!("the thread that asks the daemon has ended")
}

/// Has the view end when the program is told to: keys do not send signals while it is shown, but others may.
fn end_on_signals(news: Sender<News>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    // In place before the terminal is touched.
    let (mut terminate, mut hangup, mut interrupt) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        // Nobody listens any more: it has ended already.
        let _ = news.send(News::End);
    });
    Ok(())
}
