//! Crosses the classes of two indexes: which members (rules, or conditions) both classes hold, and a
//! plane that tells it for each pair.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use firewall_common::image::{PAGE, Plane};

use super::sweep::label;

/// How much crossing may cost before it is given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Pairs of classes.
    pub(super) cells: usize,
    /// Different outcomes.
    pub(super) outcomes: usize,
    /// Members of all outcomes together.
    pub(super) members: usize,
}

/// Crossing would cost more than its budget; the outcomes until then tell why.
#[derive(Debug)]
pub(super) struct OverBudget {
    pub(super) outcomes: Vec<Vec<u32>>,
}

/// The columns of a crossing: for each member, the runs of columns that hold it (end excluded).
#[derive(Debug)]
pub(super) struct Columns {
    count: usize,
    runs: Vec<Vec<(u32, u32)>>,
}

impl Columns {
    /// `classes` lists the members of each column; members are below `members`.
    pub(super) fn new<'a>(
        classes: impl ExactSizeIterator<Item = &'a [u32]>,
        members: usize,
    ) -> Self {
        let count = classes.len();
        let mut runs: Vec<Vec<(u32, u32)>> = vec![Vec::new(); members];
        for (column, class) in classes.enumerate() {
            let column = column as u32;
            for &member in class {
                match runs[member as usize].last_mut() {
                    Some(run) if run.1 == column => run.1 += 1,
                    _ => runs[member as usize].push((column, column + 1)),
                }
            }
        }
        Self { count, runs }
    }
}

/// Crosses rows (the members of each, ascending) with columns. Returns the members that each outcome
/// stands for, ascending, and the outcome of each pair.
pub(super) fn cross<R: AsRef<[u32]>>(
    rows: impl ExactSizeIterator<Item = R>,
    columns: &Columns,
    budget: Budget,
) -> Result<(Vec<Vec<u32>>, PlaneBuilder), OverBudget> {
    let mut outcomes: Vec<Vec<u32>> = Vec::new();
    let mut total = 0;
    if rows.len().saturating_mul(columns.count) > budget.cells {
        return Err(OverBudget { outcomes });
    }
    let mut plane = PlaneBuilder::new(rows.len(), columns.count);
    let mut known: HashMap<u128, u32, BuildHasherDefault<LabelHasher>> = HashMap::default();
    let mut edges = vec![0_u128; columns.count + 1];
    let mut cells = vec![0_u32; columns.count];
    for row in rows {
        let row = row.as_ref();
        for &member in row {
            for &(first, end) in &columns.runs[member as usize] {
                edges[first as usize] = edges[first as usize].wrapping_add(label(member));
                edges[end as usize] = edges[end as usize].wrapping_sub(label(member));
            }
        }
        // The members of a pair are known by the sum of their labels, which changes at edges only.
        let mut sum = 0_u128;
        let mut outcome = u32::MAX;
        for column in 0..columns.count {
            let edge = std::mem::take(&mut edges[column]);
            if edge != 0 || column == 0 {
                sum = sum.wrapping_add(edge);
                outcome = *known.entry(sum).or_insert_with(|| {
                    let held = |member: &u32| columns.holds(*member, column as u32);
                    let members: Vec<u32> = row.iter().copied().filter(held).collect();
                    total += members.len();
                    outcomes.push(members);
                    outcomes.len() as u32 - 1
                });
            }
            cells[column] = outcome;
        }
        edges[columns.count] = 0;
        if outcomes.len() > budget.outcomes || total > budget.members {
            return Err(OverBudget { outcomes });
        }
        plane.row(&cells);
    }
    Ok((outcomes, plane))
}

impl Columns {
    fn holds(&self, member: u32, column: u32) -> bool {
        let runs = &self.runs[member as usize];
        let after = runs.partition_point(|run| run.0 <= column);
        after > 0 && column < runs[after - 1].1
    }
}

/// A label is as good as random: its bits need no further mixing.
#[derive(Default)]
struct LabelHasher(u64);

impl Hasher for LabelHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u128(&mut self, word: u128) {
        self.0 = word as u64 ^ (word >> 64) as u64;
    }
}

/// How many bits a cell has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bits {
    /// 16.
    Narrow,
    /// 32.
    Wide,
    /// 64.
    Whole,
}

impl Bits {
    /// Cells of a word.
    pub(super) const fn cells_of_word(self) -> u32 {
        match self {
            Self::Narrow => 4,
            Self::Wide => 2,
            Self::Whole => 1,
        }
    }
}

/// Planes of at most so many cells are kept whole: one read less, and at most a mebibyte, which the second
/// cache holds.
pub(super) const WHOLE: usize = 1 << 17;

/// A plane while its rows come in. Cells are numbers that [`Self::place`] turns into their values.
#[derive(Debug)]
pub(super) struct PlaneBuilder {
    columns: usize,
    paged: bool,
    /// All cells or, paged, the cells of the different pages.
    cells: Vec<u32>,
    /// Paged: the number of each row's pages, row by row.
    pages: Vec<u32>,
    known: HashMap<Vec<u32>, u32>,
    /// The page that holds nothing.
    nothing: Option<u32>,
}

impl PlaneBuilder {
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        Self {
            columns,
            paged: rows * columns > WHOLE,
            cells: Vec::new(),
            pages: Vec::new(),
            known: HashMap::new(),
            nothing: None,
        }
    }

    /// Adds a row; cells beyond those given are like the last of them.
    pub(super) fn row(&mut self, cells: &[u32]) {
        let last = cells.last().copied().unwrap_or(0);
        let missing = self.columns - cells.len();
        let whole = cells
            .iter()
            .copied()
            .chain(std::iter::repeat_n(last, missing));
        if !self.paged {
            self.cells.extend(whole);
            return;
        }
        let whole: Vec<u32> = whole.collect();
        let size = PAGE as usize;
        let width = self.columns.div_ceil(size);
        for chunk in whole.chunks(size) {
            // Most often a page is what it was in the row before.
            if let Some(above) = self.pages.len().checked_sub(width) {
                let above = self.pages[above];
                let first = above as usize * size;
                if self.cells[first..first + chunk.len()] == *chunk {
                    self.pages.push(above);
                    continue;
                }
            }
            let mut page = chunk.to_vec();
            page.resize(size, last);
            self.page(page);
        }
    }

    /// Adds a row of which only the pages that `held` names hold anything but `nothing`.
    pub(super) fn sparse_row(&mut self, cells: &[u32], held: &[bool], nothing: u32) {
        if !self.paged {
            self.cells.extend_from_slice(cells);
            return;
        }
        for (page, held) in cells.chunks(PAGE as usize).zip(held) {
            match (held, self.nothing) {
                (false, Some(number)) => self.pages.push(number),
                (false, None) => self.nothing = Some(self.page(vec![nothing; PAGE as usize])),
                (true, _) => {
                    self.page(page.to_vec());
                }
            }
        }
    }

    /// Adds a page to the row in hand; returns its number.
    fn page(&mut self, page: Vec<u32>) -> u32 {
        let next = self.known.len() as u32;
        let number = match self.known.get(&page) {
            Some(&number) => number,
            None => {
                self.cells.extend_from_slice(&page);
                self.known.insert(page, next);
                next
            }
        };
        self.pages.push(number);
        number
    }

    /// The cells, row after row; `rows` are the rows to take, all in order if not said. `None` when paged.
    pub(super) fn joined(&self, rows: Option<&[u32]>) -> Option<Vec<u32>> {
        if self.paged {
            return None;
        }
        let Some(rows) = rows else {
            return Some(self.cells.clone());
        };
        let row = |row: &u32| &self.cells[*row as usize * self.columns..][..self.columns];
        Some(rows.iter().flat_map(row).copied().collect())
    }

    /// Whether all pairs have the one outcome.
    pub(super) fn is_single(&self) -> bool {
        self.cells.iter().all(|&cell| cell == self.cells[0])
    }

    /// Puts the plane with the values of its cells, which have so many bits.
    pub(super) fn place(&self, sink: &mut Sink, bits: Bits, value: impl Fn(u32) -> u64) -> Plane {
        let cells = self.cells.iter().map(|&cell| value(cell));
        let first = sink.place();
        match bits {
            Bits::Narrow => sink.narrow(cells.map(|cell| cell as u32)),
            Bits::Wide => sink.wide(cells.map(|cell| cell as u32)),
            Bits::Whole => sink.words.extend(cells),
        }
        if !self.paged {
            return Plane {
                table: first,
                width: self.columns as u32,
                paged: false,
            };
        }
        let words = PAGE / bits.cells_of_word();
        let table = sink.place();
        sink.wide(self.pages.iter().map(|&page| first + page * words));
        Plane {
            table,
            width: (self.columns as u32).div_ceil(PAGE),
            paged: true,
        }
    }
}

/// Words that will follow those of the image.
#[derive(Debug)]
pub(super) struct Sink {
    base: usize,
    pub(super) words: Vec<u64>,
}

impl Sink {
    pub(super) const fn after(image: &[u64]) -> Self {
        Self {
            base: image.len(),
            words: Vec::new(),
        }
    }

    /// Where the next word will be.
    pub(super) const fn place(&self) -> u32 {
        (self.base + self.words.len()) as u32
    }

    /// Puts values of 16 bits, four to a word.
    pub(super) fn narrow(&mut self, values: impl Iterator<Item = u32>) {
        for (index, value) in values.enumerate() {
            if index % 4 == 0 {
                self.words.push(0);
            }
            if let Some(word) = self.words.last_mut() {
                *word |= u64::from(value) << (index % 4 * 16);
            }
        }
    }

    /// Puts values of 32 bits, two to a word.
    pub(super) fn wide(&mut self, values: impl Iterator<Item = u32>) {
        for (index, value) in values.enumerate() {
            if index % 2 == 0 {
                self.words.push(0);
            }
            if let Some(word) = self.words.last_mut() {
                *word |= u64::from(value) << (index % 2 * 32);
            }
        }
    }
}
