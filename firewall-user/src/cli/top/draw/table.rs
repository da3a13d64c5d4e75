//! The table of a tab: as many columns as fit, the chosen row in sight.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::Theme;
use crate::cli::top::tabs::{Column, Tab};
use crate::cli::top::view::View;

/// Between two columns.
const GAP: u16 = 1;

pub fn draw(frame: &mut Frame<'_>, area: Rect, view: &mut View, theme: Theme) {
    let rows = view.rows();
    let columns = view.tab.columns();
    let visible = fitting(columns, area.width);
    let sorted_by = view.look().sorted_by;
    let header = visible.iter().map(|&index| {
        let column = &columns[index];
        let mark = if sorted_by == Some(index) { "*" } else { "" };
        cell(format!("{mark}{}", column.title), column)
    });
    let header = Row::new(header).style(theme.heading().add_modifier(Modifier::UNDERLINED));
    let widths = visible.iter().enumerate().map(|(place, &index)| {
        let column = &columns[index];
        if place + 1 == visible.len() && !column.is_number {
            Constraint::Min(column.width)
        } else {
            Constraint::Length(column.width)
        }
    });
    let chosen = view.chosen(&rows);
    let height = usize::from(area.height.saturating_sub(1)).max(1);
    let offset = in_sight(view.look().offset, chosen.unwrap_or(0), height, rows.len());
    view.look_mut().offset = offset;
    // What is out of sight need not be laid out.
    let drawn = rows.iter().skip(offset).take(height).map(|row| {
        let cells = visible
            .iter()
            .map(|&index| cell(row.cells[index].text.clone(), &columns[index]));
        Row::new(cells).style(theme.of(row.mood))
    });
    let table = Table::new(drawn, widths)
        .header(header)
        .column_spacing(GAP)
        .row_highlight_style(theme.chosen());
    let mut state = TableState::default().with_selected(chosen.map(|chosen| chosen - offset));
    frame.render_stateful_widget(table, area, &mut state);
    if rows.is_empty() {
        nothing(frame, area, view);
    }
}

/// Says why the table is empty.
fn nothing(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let below = Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1).min(1),
        ..area
    };
    let text = if view.look().filter.is_empty() {
        match view.tab {
            Tab::Sources => "nobody has sent anything yet",
            Tab::Services => "no rule lets anything in",
            Tab::Rules => "there are no rules",
            Tab::Incidents => "there were no incidents",
            Tab::Bans => "nobody is banned",
        }
    } else {
        "nothing fits the filter; esc ends it"
    };
    let faint = Style::new().add_modifier(Modifier::DIM);
    frame.render_widget(Paragraph::new(Line::styled(text, faint)), below);
}

fn cell(text: String, column: &Column) -> Cell<'static> {
    let line = Line::raw(text);
    Cell::from(if column.is_number {
        line.right_aligned()
    } else {
        line
    })
}

/// The columns that fit side by side: those of the highest rank, and of these the last, go first.
fn fitting(columns: &[Column], width: u16) -> Vec<usize> {
    let mut visible: Vec<usize> = (0..columns.len()).collect();
    let needs = |visible: &[usize]| -> u16 {
        let widths: u16 = visible.iter().map(|&index| columns[index].width).sum();
        widths + GAP * (visible.len() as u16).saturating_sub(1)
    };
    while visible.len() > 1 && needs(&visible) > width {
        let least = visible
            .iter()
            .enumerate()
            .skip(1)
            .max_by_key(|(_, index)| columns[**index].rank)
            .map(|(place, _)| place);
        let Some(place) = least else {
            break;
        };
        visible.remove(place);
    }
    visible
}

/// The first row to draw, so that the chosen one is in sight and none is left out needlessly.
fn in_sight(offset: usize, chosen: usize, height: usize, rows: usize) -> usize {
    offset
        .min(chosen)
        .max((chosen + 1).saturating_sub(height))
        .min(rows.saturating_sub(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_least_goes_first_and_the_first_column_stays() {
        let titles = |width| -> Vec<&str> {
            let columns = Tab::Sources.columns();
            let visible = fitting(columns, width);
            visible
                .into_iter()
                .map(|index| columns[index].title)
                .collect()
        };
        assert_eq!(titles(200).len(), Tab::Sources.columns().len());
        assert_eq!(
            titles(80),
            [
                "SOURCE", "PKT/S", "BYTES/S", "SYN/S", "REQ/S", "DROPS", "STATE"
            ]
        );
        assert_eq!(titles(44), ["SOURCE", "PKT/S", "STATE"]);
        assert_eq!(titles(3), ["SOURCE"]);
    }

    #[test]
    fn the_chosen_row_is_always_in_sight() {
        assert_eq!(in_sight(0, 0, 10, 100), 0);
        assert_eq!(in_sight(0, 25, 10, 100), 16);
        assert_eq!(in_sight(50, 25, 10, 100), 25);
        assert_eq!(in_sight(95, 99, 10, 100), 90);
        assert_eq!(in_sight(5, 2, 10, 3), 0);
    }
}
