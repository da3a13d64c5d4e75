//! The bit matrix: what rules become whose conditions combine in too many ways to be classified.

use firewall_common::image::{Field, MAX_STEPS, constant};

use super::Constants;
use super::addresses::Side;
use super::results::Kind;
use super::values::Conditions;

/// Puts the tables and rows of every field that rules look at.
pub(super) fn place(
    source: &Side,
    destination: &Side,
    conditions: &Conditions,
    kinds: &[Kind],
    drops: &[bool],
    image: &mut Vec<u64>,
    constants: &mut Constants,
) {
    let shape = Shape { rules: kinds.len() };
    constants[constant::WORDS] = shape.words() as u32;
    constants[constant::SUMMARIES] = shape.summaries() as u32;
    let passing = kinds.iter().filter(|kind| **kind == Kind::Passes).count();
    let steps = shape.summaries() + shape.words() + passing + 1;
    constants[constant::STEPS] =
        u32::try_from(steps).map_or(MAX_STEPS, |steps| steps.min(MAX_STEPS));
    let mut placed_any = false;
    for (side, field) in [(source, Field::Source), (destination, Field::Destination)] {
        if side.is_any() {
            continue;
        }
        constants[constant::ROWS + field as usize] = image.len() as u32;
        placed_any = true;
        for class in &side.classes {
            let applies = |rule: &&u32| !(class.spared && drops[**rule as usize]);
            let rules = class.rules.iter().chain(&side.always).filter(applies);
            shape.put(rules.copied(), image);
        }
    }
    let mut by_condition = vec![Vec::new(); conditions.len()];
    for (rule, condition) in conditions.of_rule.iter().enumerate() {
        by_condition[*condition as usize].push(rule as u32);
    }
    for field in Field::ALL {
        let Some(values) = conditions.classes(field) else {
            continue;
        };
        let mut sink = super::cross::Sink::after(image);
        constants[constant::TABLES + field as usize] = values.place(&mut sink);
        image.append(&mut sink.words);
        constants[constant::ROWS + field as usize] = image.len() as u32;
        placed_any = true;
        for class in &values.classes {
            let rules = class
                .iter()
                .flat_map(|&condition| &by_condition[condition as usize]);
            shape.put(rules.copied(), image);
        }
    }
    if !placed_any {
        // Without any row, bits that stand for no rule would be taken for rules.
        constants[constant::ROWS + Field::Protocol as usize] = image.len() as u32;
        shape.put(0..kinds.len() as u32, image);
    }
}

/// The shape of a direction's rows.
#[derive(Clone, Copy, Debug)]
struct Shape {
    rules: usize,
}

impl Shape {
    /// Words of rule bits in a row.
    const fn words(self) -> usize {
        self.rules.div_ceil(64)
    }

    /// Words of summary; a single word needs none.
    const fn summaries(self) -> usize {
        if self.words() > 1 {
            self.words().div_ceil(64)
        } else {
            0
        }
    }

    /// Puts a row: its summary, then its bits.
    fn put(self, rules: impl Iterator<Item = u32>, image: &mut Vec<u64>) {
        let mut bits = vec![0_u64; self.words()];
        for rule in rules {
            bits[rule as usize / 64] |= 1 << (rule % 64);
        }
        for chunk in bits.chunks(64).take(self.summaries()) {
            let summary = chunk.iter().enumerate().fold(0, |summary, (bit, word)| {
                summary | u64::from(*word != 0) << bit
            });
            image.push(summary);
        }
        image.extend(bits);
    }
}
