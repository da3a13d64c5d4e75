//! The tail of a packet: one class for all fields but the addresses, combined field by field.

use firewall_common::image::{FIELDS, Field, Plane};

use super::cross::{Bits, Budget, Columns, PlaneBuilder, cross};
use super::values::{Conditions, Values, name};

/// Most tails: more are a sign that there is no end to them.
pub(super) const MAX_TAILS: usize = 1 << 15;
const BUDGET: Budget = Budget {
    cells: 1 << 26,
    outcomes: MAX_TAILS,
    members: 1 << 23,
};

/// How tails are told apart.
#[derive(Debug)]
pub(super) struct Tails {
    /// The fields in the order of their combination, each but the first with the plane that combines
    /// it with those before.
    pub(super) steps: Vec<(Values, Option<PlaneBuilder>)>,
    /// The conditions that each tail meets, ascending.
    pub(super) classes: Vec<Vec<u32>>,
}

/// Why the fields cannot be combined.
#[derive(Debug)]
pub(super) struct TooManyTails {
    /// The fields until then.
    pub(super) fields: Vec<&'static str>,
    /// The conditions that take part in most classes.
    pub(super) conditions: Vec<u32>,
}

impl Tails {
    pub(super) fn new(conditions: &Conditions) -> Result<Self, TooManyTails> {
        let mut fields: Vec<Values> = Field::ALL
            .into_iter()
            .filter(|field| !matches!(field, Field::Source | Field::Destination))
            .filter_map(|field| conditions.classes(field))
            .collect();
        // What tells conditions apart best comes first: then there is little left to multiply.
        fields.sort_by_key(Values::crowd);
        let mut tails = Self {
            steps: Vec::with_capacity(FIELDS),
            classes: vec![(0..conditions.len() as u32).collect()],
        };
        for values in fields {
            if tails.steps.is_empty() {
                tails.classes.clone_from(&values.classes);
                tails.steps.push((values, None));
                continue;
            }
            let columns = Columns::new(values.classes.iter().map(Vec::as_slice), conditions.len());
            match cross(tails.classes.iter(), &columns, BUDGET) {
                Ok((classes, plane)) => {
                    tails.classes = classes;
                    tails.steps.push((values, Some(plane)));
                }
                Err(over) => {
                    let so_far = tails.steps.iter().map(|(values, _)| values.field);
                    return Err(TooManyTails {
                        fields: so_far.chain([values.field]).map(name).collect(),
                        conditions: most_frequent(&over.outcomes, conditions.len()),
                    });
                }
            }
        }
        Ok(tails)
    }

    /// Puts the tables; `put` takes each field in order, with the place of its table and its plane.
    pub(super) fn place(
        &self,
        sink: &mut super::cross::Sink,
        mut put: impl FnMut(usize, Field, u32, Plane),
    ) {
        for (step, (values, plane)) in self.steps.iter().enumerate() {
            let table = values.place(sink);
            let plane = plane
                .as_ref()
                .map(|plane| plane.place(sink, Bits::Narrow, u64::from))
                .unwrap_or_default();
            put(step, values.field, table, plane);
        }
    }
}

/// Up to five members that stand in most of the lists.
pub(super) fn most_frequent(lists: &[Vec<u32>], members: usize) -> Vec<u32> {
    let mut counts = vec![0_usize; members];
    for &member in lists.iter().flatten() {
        counts[member as usize] += 1;
    }
    let mut order: Vec<u32> = (0..members as u32).collect();
    order.sort_by_key(|&member| std::cmp::Reverse(counts[member as usize]));
    order.truncate(5);
    order
}
