//! Turns the view into a screen of any size.

mod overlay;
mod table;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use super::history::{STEP, Series};
use super::numbers::{count, short};
use super::rows::Mood;
use super::tabs::Tab;
use super::view::{Message, Mode, View};
use crate::daemon::documents::Status;

/// Below this nothing useful can be shown.
const LEAST: (u16, u16) = (40, 8);
/// From this height on the series are two lines high, and from that on they are there at all.
const TALL: u16 = 20;
const SHORT: u16 = 12;
/// Columns before a series.
const LABEL: u16 = 22;

/// The looks of things; without colours, weight alone tells them apart.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    pub colour: bool,
}

impl Theme {
    fn coloured(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    fn bad(self) -> Style {
        self.coloured(Color::Red)
    }

    fn heading(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    fn notable(self) -> Style {
        self.coloured(Color::Yellow)
    }

    fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn of(self, mood: Mood) -> Style {
        match mood {
            Mood::Plain => Style::new(),
            Mood::Faint => Style::new().add_modifier(Modifier::DIM),
            Mood::Notable => self.notable(),
            Mood::Bad => self.bad().add_modifier(Modifier::BOLD),
        }
    }
}

/// Draws the whole screen.
pub fn draw(frame: &mut Frame<'_>, view: &mut View, theme: Theme) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("at least {} x {} are needed", LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let series_height = match area.height {
        TALL.. => 2,
        SHORT.. => 1,
        _ => 0,
    };
    let [title, passed, dropped, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(series_height),
        Constraint::Length(series_height),
        Constraint::Length(1),
        Constraint::Min(2),
        Constraint::Length(1),
    ])
    .areas(area);
    if let Some(snapshot) = view.snapshot() {
        frame.render_widget(title_line(&snapshot.documents.status, view, theme), title);
    }
    series(frame, passed, "passed", &view.history.passed, theme.good());
    series(
        frame,
        dropped,
        "dropped",
        &view.history.dropped,
        theme.bad(),
    );
    frame.render_widget(tab_line(view, theme), tabs);
    table::draw(frame, body, view, theme);
    frame.render_widget(foot_line(view, theme), foot);
    match &view.mode {
        Mode::Table | Mode::Filter => {}
        Mode::Help => overlay::help(frame, theme),
        Mode::Detail => overlay::detail(frame, view, theme),
        Mode::Ban(form) => overlay::ban(frame, form, theme),
        Mode::Unban(prefix) => overlay::unban(frame, prefix, theme),
    }
}

fn title_line(status: &Status, view: &View, theme: Theme) -> Line<'static> {
    let policy = &status.policy;
    let interfaces: Vec<&str> = status
        .interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    let mut spans = vec![
        Span::styled("palisade", theme.heading()),
        Span::raw(format!(
            " {}  generation {}, {}  sources {}  alerts {}  bans {}",
            interfaces.join(" "),
            policy.generation,
            policy.mode,
            count(status.sources_tracked as u64),
            status.alerts_active,
            status.bans.manual + status.bans.automatic,
        )),
    ];
    let mut notable = |text: String| {
        spans.push(Span::styled(
            format!("  {text}"),
            theme.notable().add_modifier(Modifier::BOLD),
        ));
    };
    if let Some(trial) = &policy.trial {
        notable(format!("ON TRIAL {}s", trial.remaining_seconds));
    }
    if status.interfaces.is_empty() {
        notable("NO FENCE".to_owned());
    }
    if view.is_frozen() {
        notable("FROZEN".to_owned());
    }
    Line::from(spans)
}

/// A label with the rate now, and the series at the right.
fn series(frame: &mut Frame<'_>, area: Rect, what: &str, series: &Series, style: Style) {
    if area.height == 0 {
        return;
    }
    let [label, graph] =
        Layout::horizontal([Constraint::Length(LABEL), Constraint::Min(1)]).areas(area);
    let points = series.points(usize::from(graph.width));
    let most = points.iter().copied().max().unwrap_or(0);
    let mut lines = vec![Line::from(vec![
        Span::styled(format!("{what:<8}"), style),
        Span::raw(format!("{:>7}/s", short(series.now))),
    ])];
    if area.height > 1 {
        let minutes = f64::from(graph.width) * STEP / 60.0;
        lines.push(Line::styled(
            format!("  {minutes:.0} min, most {}", count(most)),
            Style::new().add_modifier(Modifier::DIM),
        ));
    }
    frame.render_widget(Paragraph::new(lines), label);
    // The latest stands at the right edge.
    let missing = usize::from(graph.width).saturating_sub(points.len());
    let padded: Vec<u64> = std::iter::repeat_n(0, missing).chain(points).collect();
    let line = Sparkline::default()
        .data(padded)
        .max(most.max(1))
        .style(style);
    frame.render_widget(line, graph);
}

fn tab_line(view: &View, theme: Theme) -> Line<'static> {
    let mut spans = Vec::new();
    for (index, tab) in Tab::ALL.into_iter().enumerate() {
        let text = format!(" {} {} ", index + 1, tab.title());
        let style = if tab == view.tab {
            theme.chosen()
        } else {
            Style::new()
        };
        spans.push(Span::styled(text, style));
    }
    let filter = &view.look().filter;
    if !filter.is_empty() && view.mode != Mode::Filter {
        spans.push(Span::styled(format!("  /{filter}"), theme.notable()));
    }
    Line::from(spans)
}

fn foot_line(view: &View, theme: Theme) -> Line<'static> {
    if view.mode == Mode::Filter {
        return Line::from(vec![
            Span::styled("filter: ", theme.heading()),
            Span::raw(view.look().filter.clone()),
            Span::styled(" ", theme.chosen()),
        ]);
    }
    if let Some(why) = &view.silence {
        return Line::styled(first_line(why), theme.of(Mood::Bad));
    }
    match &view.message {
        Some(Message::Done(text)) => Line::styled(first_line(text), theme.good()),
        Some(Message::Failed(text)) => Line::styled(first_line(text), theme.of(Mood::Bad)),
        None => Line::styled(
            "? help  / filter  s sort  space freeze  b ban  u unban  enter more  q quit",
            Style::new().add_modifier(Modifier::DIM),
        ),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
