//! What is laid over the table: help, one row alone, and the questions before something is done.

use ipnet::IpNet;
use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::Theme;
use crate::cli::top::rows::Mood;
use crate::cli::top::view::{BanForm, View};

const KEYS: &[(&str, &str)] = &[
    (
        "1-5, tab, left, right",
        "sources, services, rules, incidents, bans",
    ),
    (
        "up, down, j, k",
        "choose a row; it is followed when it moves",
    ),
    ("page up/down, home, end", "the same, farther"),
    ("enter", "all of the chosen row"),
    ("s, S", "sort by the next or the previous column (*)"),
    ("r", "the other way round"),
    ("/", "filter: rows with this text; esc ends it"),
    ("space", "freeze what is shown, or go on"),
    ("b", "ban the chosen source: asks for how long"),
    ("u", "lift the ban of the chosen row, once confirmed"),
    ("?", "this help"),
    ("q, Ctrl-C", "end"),
];

pub fn help(frame: &mut Frame<'_>, theme: Theme) {
    let lines = KEYS.iter().map(|(keys, what)| {
        Line::from(vec![
            Span::styled(format!("{keys:<24}"), theme.heading()),
            Span::raw(*what),
        ])
    });
    show(frame, "keys", lines.collect(), theme);
}

pub fn detail(frame: &mut Frame<'_>, view: &View, theme: Theme) {
    let Some(row) = view.detail() else {
        return;
    };
    let columns = view.tab.columns().iter().zip(&row.cells);
    let cells = columns.map(|(column, cell)| {
        Line::from(vec![
            Span::styled(format!("{:<11}", column.title), theme.heading()),
            Span::raw(cell.text.clone()),
        ])
    });
    let more = row.more.iter().map(|more| Line::raw(more.clone()));
    let lines = cells.chain([Line::raw("")]).chain(more).collect();
    show(frame, "any key goes back", lines, theme);
}

pub fn ban(frame: &mut Frame<'_>, form: &BanForm, theme: Theme) {
    let field = |name: &str, text: &str, is_written: bool| {
        let mut spans = vec![
            Span::styled(format!("{name:<8}"), theme.heading()),
            Span::raw(text.to_owned()),
        ];
        if is_written {
            spans.push(Span::styled(" ", theme.chosen()));
        }
        Line::from(spans)
    };
    let mut lines = vec![
        Line::raw(format!(
            "Ban {}: all its packets are dropped at once.",
            form.prefix
        )),
        Line::raw(""),
        field("for", &form.duration, !form.in_reason),
        field("reason", &form.reason, form.in_reason),
        Line::raw(""),
    ];
    match &form.error {
        Some(error) => lines.push(Line::styled(error.clone(), theme.of(Mood::Bad))),
        None => lines.push(Line::styled(
            "30s, 10m, 1h, 7d or forever; tab goes to the reason",
            Style::new().add_modifier(Modifier::DIM),
        )),
    }
    lines.push(Line::raw("enter bans, esc does not"));
    show(frame, "ban", lines, theme);
}

pub fn unban(frame: &mut Frame<'_>, prefix: &IpNet, theme: Theme) {
    let lines = vec![
        Line::raw(format!("Lift the ban of {prefix}?")),
        Line::raw(""),
        Line::raw("y lifts it, any other key does not"),
    ];
    show(frame, "unban", lines, theme);
}

/// A box in the middle, as large as its text and the screen allow.
fn show(frame: &mut Frame<'_>, title: &str, lines: Vec<Line<'_>>, theme: Theme) {
    let area = frame.area();
    let widest = lines.iter().map(Line::width).max().unwrap_or(0);
    let width = (widest as u16 + 4).max(30).min(area.width);
    // Long lines are wrapped and take several.
    let inner = usize::from(width.saturating_sub(4)).max(1);
    let height: usize = lines
        .iter()
        .map(|line| line.width().div_ceil(inner).max(1))
        .sum();
    let area = middle(area, width, height as u16 + 2);
    let block = Block::bordered()
        .title(format!(" {title} "))
        .border_style(theme.heading())
        .padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Clear, area);
    let text = Paragraph::new(lines)
        .wrap(Wrap { trim: false })
        .block(block);
    frame.render_widget(text, area);
}

fn middle(area: Rect, width: u16, height: u16) -> Rect {
    let [across] = Layout::horizontal([Constraint::Length(width)])
        .flex(Flex::Center)
        .areas(area);
    let [down] = Layout::vertical([Constraint::Length(height)])
        .flex(Flex::Center)
        .areas(across);
    down
}
