//! What is looked at and how: the view's state. It takes snapshots and keys, and says what is to be asked
//! of the daemon; it knows neither terminal, clock nor socket.

use std::cmp::Ordering;

use ipnet::IpNet;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::history::History;
use super::rows::{Row, rows};
use super::snapshot::{Documents, Rates, Snapshot};
use super::tabs::{Tab, source_column, source_order};
use crate::daemon::documents::SourceOrder;
use crate::respond::BanDuration;

/// What the view shows.
#[derive(Debug)]
pub struct View {
    pub tab: Tab,
    pub mode: Mode,
    /// While it is set, what is shown stays as it is.
    frozen: Option<Snapshot>,
    latest: Option<Snapshot>,
    rates: Rates,
    pub history: History,
    tables: [Look; Tab::ALL.len()],
    /// What came of the latest order, or what is wrong.
    pub message: Option<Message>,
    /// Why the daemon gives no answer now.
    pub silence: Option<String>,
    pub is_over: bool,
}

/// How a table is looked at.
#[derive(Clone, Debug)]
pub struct Look {
    /// What a row must have somewhere to be shown.
    pub filter: String,
    pub sorted_by: Option<usize>,
    pub reversed: bool,
    /// The row that was chosen; without one, the first.
    chosen: Option<String>,
    index: usize,
    /// The first row that is drawn.
    pub offset: usize,
}

/// What the keys are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Table,
    Filter,
    Help,
    Detail,
    Ban(BanForm),
    Unban(IpNet),
}

/// A ban that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanForm {
    pub prefix: IpNet,
    pub duration: String,
    pub reason: String,
    /// Whether the reason is being written, not the length.
    pub in_reason: bool,
    pub error: Option<String>,
}

/// Something to tell, until the next key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Done(String),
    Failed(String),
}

/// What the daemon is to be asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Ban {
        prefix: IpNet,
        duration: BanDuration,
        reason: String,
    },
    Unban(IpNet),
    /// How the daemon chooses the sources that are shown.
    OrderBy(SourceOrder),
}

/// Rows that a page key goes.
const PAGE: isize = 10;
/// Longest text that can be typed.
const LONGEST_TEXT: usize = 200;
/// Why a ban was made, if nobody says.
const REASON: &str = "from palisade top";

impl View {
    pub fn new(by: SourceOrder) -> Self {
        let mut tables = Tab::ALL.map(|tab| Look {
            filter: String::new(),
            sorted_by: tab.first_order(),
            reversed: false,
            chosen: None,
            index: 0,
            offset: 0,
        });
        tables[Tab::Sources as usize].sorted_by = Some(source_column(by));
        Self {
            tab: Tab::Sources,
            mode: Mode::Table,
            frozen: None,
            latest: None,
            rates: Rates::default(),
            history: History::default(),
            tables,
            message: None,
            silence: None,
            is_over: false,
        }
    }

    /// Takes in documents that were read `at` so many seconds.
    pub fn take(&mut self, at: f64, documents: Documents) {
        self.silence = None;
        self.history.add(at, &documents.status.totals);
        self.latest = Some(self.rates.snapshot(at, documents));
    }

    /// What is shown.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.frozen.as_ref().or(self.latest.as_ref())
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    pub fn look(&self) -> &Look {
        &self.tables[self.tab as usize]
    }

    pub fn look_mut(&mut self) -> &mut Look {
        &mut self.tables[self.tab as usize]
    }

    /// The rows of the tab that fit the filter, in the order that is asked for.
    pub fn rows(&self) -> Vec<Row> {
        let Some(snapshot) = self.snapshot() else {
            return Vec::new();
        };
        let wanted = self.look().filter.to_lowercase();
        let mut rows = rows(self.tab, snapshot);
        rows.retain(|row| {
            let mut cells = row.cells.iter();
            cells.any(|cell| cell.text.to_lowercase().contains(&wanted))
        });
        let look = self.look();
        if let Some(column) = look.sorted_by {
            rows.sort_by(|one, other| compare(one, other, column));
        }
        if look.reversed {
            rows.reverse();
        }
        rows
    }

    /// Which of the rows is chosen; it is followed when they change places.
    pub fn chosen(&self, rows: &[Row]) -> Option<usize> {
        let look = self.look();
        let last = rows.len().checked_sub(1)?;
        let found = look.chosen.as_ref();
        let found = found.and_then(|key| rows.iter().position(|row| row.key == *key));
        Some(found.unwrap_or(look.index.min(last)))
    }

    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent) -> Option<Command> {
        self.message = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c') => self.is_over = true,
                // What was typed goes, as in a shell.
                KeyCode::Char('u') => self.typed(String::clear),
                _ => {}
            }
            return None;
        }
        match &self.mode {
            Mode::Table => return self.table_key(key.code),
            Mode::Filter => self.filter_key(key.code),
            Mode::Help | Mode::Detail => self.mode = Mode::Table,
            Mode::Ban(_) => return self.ban_key(key.code),
            Mode::Unban(prefix) => {
                let prefix = *prefix;
                self.mode = Mode::Table;
                if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                    return Some(Command::Unban(prefix));
                }
                self.message = Some(Message::Done("nothing was lifted".to_owned()));
            }
        }
        None
    }

    fn table_key(&mut self, code: KeyCode) -> Option<Command> {
        match code {
            KeyCode::Char('q') => self.is_over = true,
            KeyCode::Esc => self.look_mut().filter.clear(),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char(' ') => self.freeze(),
            KeyCode::Char(digit @ '1'..='5') => {
                self.tab = Tab::ALL[usize::from(digit as u8 - b'1')];
            }
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Tab::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.walk(1),
            KeyCode::Up | KeyCode::Char('k') => self.walk(-1),
            KeyCode::PageDown => self.walk(PAGE),
            KeyCode::PageUp => self.walk(-PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.walk(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.walk(isize::MAX),
            KeyCode::Char('s') => return self.sort_by_next(1),
            KeyCode::Char('S') => return self.sort_by_next(self.tab.columns().len() - 1),
            KeyCode::Char('r') => self.look_mut().reversed ^= true,
            KeyCode::Enter if !self.rows().is_empty() => self.mode = Mode::Detail,
            KeyCode::Char('b') => self.ask_for_ban(),
            KeyCode::Char('u') => self.ask_for_unban(),
            _ => {}
        }
        None
    }

    fn filter_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.mode = Mode::Table,
            KeyCode::Esc => {
                self.look_mut().filter.clear();
                self.mode = Mode::Table;
            }
            KeyCode::Down => self.walk(1),
            KeyCode::Up => self.walk(-1),
            _ => self.type_key(code),
        }
    }

    fn ban_key(&mut self, code: KeyCode) -> Option<Command> {
        let Mode::Ban(form) = &mut self.mode else {
            return None;
        };
        match code {
            KeyCode::Esc => {
                self.mode = Mode::Table;
                self.message = Some(Message::Done("nobody was banned".to_owned()));
            }
            KeyCode::Tab | KeyCode::BackTab | KeyCode::Up | KeyCode::Down => form.in_reason ^= true,
            KeyCode::Enter => match form.duration.trim().parse::<BanDuration>() {
                Ok(duration) => {
                    let prefix = form.prefix;
                    let reason = match form.reason.trim() {
                        "" => REASON.to_owned(),
                        reason => reason.to_owned(),
                    };
                    self.mode = Mode::Table;
                    return Some(Command::Ban {
                        prefix,
                        duration,
                        reason,
                    });
                }
                Err(error) => {
                    form.error = Some(error.to_string());
                    form.in_reason = false;
                }
            },
            _ => self.type_key(code),
        }
        None
    }

    /// A key for the text that is being written.
    fn type_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(character) => self.typed(|text| {
                if text.len() < LONGEST_TEXT {
                    text.push(character);
                }
            }),
            KeyCode::Backspace => self.typed(|text| {
                text.pop();
            }),
            _ => {}
        }
    }

    fn typed(&mut self, change: impl FnOnce(&mut String)) {
        match &mut self.mode {
            Mode::Filter => change(&mut self.tables[self.tab as usize].filter),
            Mode::Ban(form) => {
                form.error = None;
                change(if form.in_reason {
                    &mut form.reason
                } else {
                    &mut form.duration
                });
            }
            _ => {}
        }
    }

    fn freeze(&mut self) {
        self.frozen = match self.frozen {
            Some(_) => None,
            None => self.latest.clone(),
        };
    }

    fn turn(&mut self, by: usize) {
        self.tab = Tab::ALL[(self.tab as usize + by) % Tab::ALL.len()];
    }

    fn walk(&mut self, by: isize) {
        let rows = self.rows();
        let (Some(index), Some(last)) = (self.chosen(&rows), rows.len().checked_sub(1)) else {
            return;
        };
        let index = index.saturating_add_signed(by).min(last);
        let look = self.look_mut();
        look.index = index;
        look.chosen = Some(rows[index].key.clone());
    }

    fn sort_by_next(&mut self, by: usize) -> Option<Command> {
        let columns = self.tab.columns().len();
        let look = self.look_mut();
        let next = match look.sorted_by {
            Some(column) => (column + by) % columns,
            None => 0,
        };
        look.sorted_by = Some(next);
        look.reversed = false;
        let order = source_order(Some(next));
        (self.tab == Tab::Sources).then_some(Command::OrderBy(order))
    }

    fn chosen_row(&self) -> Option<Row> {
        let mut rows = self.rows();
        let index = self.chosen(&rows)?;
        Some(rows.swap_remove(index))
    }

    fn ask_for_ban(&mut self) {
        match self.chosen_row().and_then(|row| row.subject) {
            Some(prefix) => {
                self.mode = Mode::Ban(BanForm {
                    prefix,
                    duration: "1h".to_owned(),
                    reason: String::new(),
                    in_reason: false,
                    error: None,
                });
            }
            None => self.fail("there is no source here to be banned"),
        }
    }

    fn ask_for_unban(&mut self) {
        match self.chosen_row().and_then(|row| row.banned_by) {
            Some(prefix) => self.mode = Mode::Unban(prefix),
            None => self.fail("there is no ban here to be lifted"),
        }
    }

    fn fail(&mut self, what: &str) {
        self.message = Some(Message::Failed(what.to_owned()));
    }

    /// The row that is looked at alone.
    pub fn detail(&self) -> Option<Row> {
        self.chosen_row()
    }
}

/// The largest number first, texts by the alphabet; what is equal by its first cell.
fn compare(one: &Row, other: &Row, column: usize) -> Ordering {
    let (Some(left), Some(right)) = (one.cells.get(column), other.cells.get(column)) else {
        return Ordering::Equal;
    };
    match (left.number, right.number) {
        (Some(left), Some(right)) => right.total_cmp(&left),
        _ => left.text.cmp(&right.text),
    }
    .then_with(|| one.key.cmp(&other.key))
}
