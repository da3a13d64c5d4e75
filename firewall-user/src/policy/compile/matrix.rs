//! Rows of rule bits, with their summaries; equal rows are stored once.

use std::collections::HashMap;

/// The shape of a direction's rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    rules: usize,
}

impl Matrix {
    pub(super) const fn new(rules: usize) -> Self {
        Self { rules }
    }

    /// Words of rule bits in a row.
    pub(super) const fn words(self) -> usize {
        self.rules.div_ceil(64)
    }

    /// Words of summary; a single word needs none.
    pub(super) const fn summaries(self) -> usize {
        if self.words() > 1 {
            self.words().div_ceil(64)
        } else {
            0
        }
    }

    /// A row without any rule.
    pub(super) fn empty(self) -> Vec<u64> {
        vec![0; self.words()]
    }
}

/// The rows of one field.
#[derive(Debug)]
pub(super) struct Rows {
    matrix: Matrix,
    ids: HashMap<Vec<u64>, u32>,
    stored: Vec<u64>,
}

impl Rows {
    pub(super) fn new(matrix: Matrix) -> Self {
        Self {
            matrix,
            ids: HashMap::new(),
            stored: Vec::new(),
        }
    }

    /// The number of a row.
    pub(super) fn id(&mut self, bits: Vec<u64>) -> u32 {
        let next = self.ids.len() as u32;
        if let Some(&id) = self.ids.get(&bits) {
            return id;
        }
        for chunk in bits.chunks(64).take(self.matrix.summaries()) {
            let summary = chunk.iter().enumerate().fold(0, |summary, (bit, word)| {
                summary | u64::from(*word != 0) << bit
            });
            self.stored.push(summary);
        }
        self.stored.extend_from_slice(&bits);
        self.ids.insert(bits, next);
        next
    }

    /// How many different rows there are.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Appends the rows to the image; returns where they begin.
    pub(super) fn place(self, image: &mut Vec<u64>) -> u32 {
        let start = image.len() as u32;
        image.extend(self.stored);
        start
    }
}

/// Sets a bit of a row.
pub(super) fn set(bits: &mut [u64], rule: usize) {
    bits[rule / 64] |= 1 << (rule % 64);
}
