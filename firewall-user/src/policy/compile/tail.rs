//! The tail of a packet: one class for all fields but the addresses, combined field by field.

use firewall_common::image::{FIELDS, Field, Plane};

use super::cross::{Bits, Budget, Columns, PlaneBuilder, Sink, cross};
use super::values::{Conditions, Values, name};

/// Most tails: more are a sign that there is no end to them.
pub(super) const MAX_TAILS: usize = 1 << 15;
/// Most cells of a plane for more than two fields: 128 KiB, of which a packet reads one line.
const JOINED: usize = 1 << 16;
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
    ///
    /// Each look into a plane waits for the one before, so the planes of several fields become one where it is
    /// small: then a step only counts on, row by row, and the last of them looks.
    pub(super) fn place(&self, sink: &mut Sink, mut put: impl FnMut(usize, Field, u32, Plane)) {
        // The class so far of each row of the next plane, where it is not the row's number.
        let mut rows: Option<Vec<u32>> = None;
        for (step, (values, plane)) in self.steps.iter().enumerate() {
            let table = values.place(sink);
            let Some(plane) = plane else {
                put(step, values.field, table, Plane::default());
                continue;
            };
            // None is left out before a paged plane: its rows would be too many to be joined.
            let Some(cells) = plane.joined(rows.take().as_deref()) else {
                let placed = plane.place(sink, Bits::Narrow, u64::from);
                put(step, values.field, table, placed);
                continue;
            };
            let next = self.steps.get(step + 1).map(|(next, _)| next.classes.len());
            let joins = next.is_some_and(|columns| cells.len().saturating_mul(columns) <= JOINED);
            let place = if joins { 0 } else { sink.place() };
            if joins {
                rows = Some(cells);
            } else {
                sink.narrow(cells.into_iter());
            }
            let placed = Plane {
                table: place,
                width: values.classes.len() as u32,
                paged: false,
            };
            put(step, values.field, table, placed);
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

#[cfg(test)]
mod tests {
    use super::super::super::{Policy, Rule};
    use super::super::Environment;
    use super::*;

    /// Rules that tell `ports` ports apart on both sides, three protocols, and lengths.
    fn conditions(ports: u16) -> Conditions {
        let mut text = "version = 1\n".to_owned();
        for port in 1..=ports {
            let protocol = ["tcp", "udp", "sctp"][usize::from(port % 3)];
            text += &format!(
                "[[rule]]\nname = \"r{port}\"\naction = \"accept\"\nprotocol = \"{protocol}\"\nport = {port}\nfrom_port = {}\nlength = \"{}-{}\"\n",
                port + 7_000,
                40 + port % 4,
                90 + port % 3,
            );
        }
        let policy = Policy::parse(&text, "policy.toml", ".".as_ref()).unwrap().0;
        let rules: Vec<&Rule> = policy.rules.iter().collect();
        Conditions::gather(&rules, &Environment::default(), &mut Vec::new())
    }

    /// Every combination of the fields' classes gives the tail that meets what all of them meet; returns how
    /// many steps only count on.
    fn checked(conditions: &Conditions) -> usize {
        let tails = Tails::new(conditions).unwrap();
        let mut sink = Sink::after(&[0]);
        let mut planes = Vec::new();
        tails.place(&mut sink, |_, _, _, plane| planes.push(plane));
        let image: Vec<u64> = std::iter::once(0).chain(sink.words).collect();
        let image = image.as_slice();
        let mut met = vec![(0, (0..conditions.len() as u32).collect::<Vec<u32>>())];
        for ((values, _), (step, plane)) in tails.steps.iter().zip(planes.iter().enumerate()) {
            let combined = |tail: u32, class: u32| match (step, plane.table) {
                (0, _) => class,
                (_, 0) => tail * plane.width + class,
                _ => plane.cell(&image, tail, class),
            };
            met = met
                .iter()
                .flat_map(|(tail, so_far)| {
                    values.classes.iter().zip(0..).map(move |(members, class)| {
                        let both = so_far.iter().filter(|member| members.contains(member));
                        (combined(*tail, class), both.copied().collect())
                    })
                })
                .collect();
        }
        for (tail, members) in met {
            assert_eq!(tails.classes[tail as usize], members);
        }
        planes
            .iter()
            .skip(1)
            .filter(|plane| plane.table == 0)
            .count()
    }

    #[test]
    fn joined_planes_give_what_planes_in_turn_give() {
        // Four fields in one look; then in two, as one plane would be too large.
        assert_eq!(checked(&conditions(9)), 2);
        assert_eq!(checked(&conditions(60)), 1);
    }
}
