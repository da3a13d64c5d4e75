//! Address fields: classes of addresses, and the tables that find an address' row.

use std::collections::HashMap;

use firewall_common::image::Field;
use ipnet::IpNet;

use super::super::{Action, Addresses, Direction, Policy, Rule};
use super::address_table::{table_v4, table_v6};
use super::matrix::{Rows, set};
use super::sweep::{Range, Swept, sweep};
use super::{Build, CompileError, Placed};

/// Puts the tables and rows of an address field; `None` when no rule looks at the field.
pub(super) fn place(
    build: &Build<'_>,
    image: &mut Vec<u64>,
) -> Result<Option<Placed>, CompileError> {
    let conditions = Conditions::gather(build);
    if conditions.lists.is_empty() {
        return Ok(None);
    }
    let mut rows = Rows::new(build.matrix);
    let v4 = sweep(
        &conditions
            .lists
            .iter()
            .map(|list| ranges_v4(list))
            .collect::<Vec<_>>(),
    );
    let v6 = sweep(
        &conditions
            .lists
            .iter()
            .map(|list| ranges_v6(list))
            .collect::<Vec<_>>(),
    );
    let v4_rows = conditions.rows(build, &v4, &mut rows);
    let v6_rows = conditions.rows(build, &v6, &mut rows);
    if rows.len() > 1 << 16 {
        return Err(CompileError::TooManyRows {
            direction: build.direction.name(),
            field: if build.field == Field::Source {
                "source address"
            } else {
                "destination address"
            },
            rows: rows.len(),
        });
    }
    let v4: Vec<(u32, u32)> = v4
        .stretches
        .iter()
        .map(|s| (s.start, v4_rows[s.class]))
        .collect();
    let v6: Vec<(u128, u32)> = v6
        .stretches
        .iter()
        .map(|s| (s.start, v6_rows[s.class]))
        .collect();
    let table = table_v4(&v4, image);
    let table_v6 = table_v6(&v6, image);
    Ok(Some(Placed {
        table,
        table_v6,
        rows: rows.place(image),
    }))
}

/// Puts tables that give row 1 to every address that a prefix covers and 0 to all others; returns
/// where the IPv4 and the IPv6 table begin.
pub(super) fn membership(prefixes: &[IpNet], image: &mut Vec<u64>) -> (u32, u32) {
    let row = |classes: &[Vec<u32>], class: usize| u32::from(!classes[class].is_empty());
    let list: Vec<IpNet> = prefixes.to_vec();
    let v4 = sweep(&[ranges_v4(&list)]);
    let v6 = sweep(&[ranges_v6(&list)]);
    let v4: Vec<(u32, u32)> = v4
        .stretches
        .iter()
        .map(|s| (s.start, row(&v4.classes, s.class)))
        .collect();
    let v6: Vec<(u128, u32)> = v6
        .stretches
        .iter()
        .map(|s| (s.start, row(&v6.classes, s.class)))
        .collect();
    (table_v4(&v4, image), table_v6(&v6, image))
}

/// The different address lists that rules name, and which rule asks for which.
struct Conditions {
    lists: Vec<Vec<IpNet>>,
    /// Per rule: the list it asks for, if it asks for any.
    asked: Vec<Option<u32>>,
    /// The list of the protected sources.
    protected: Option<u32>,
}

impl Conditions {
    fn gather(build: &Build<'_>) -> Self {
        let mut conditions = Self {
            lists: Vec::new(),
            asked: Vec::new(),
            protected: None,
        };
        let mut known: HashMap<(Vec<usize>, Vec<IpNet>), u32> = HashMap::new();
        for rule in build.rules {
            let wanted = side(rule, build.field);
            if wanted.is_any() {
                conditions.asked.push(None);
                continue;
            }
            let key = (wanted.sets.clone(), wanted.prefixes.clone());
            let list = *known.entry(key).or_insert_with(|| {
                conditions.lists.push(prefixes(build.policy, wanted));
                conditions.lists.len() as u32 - 1
            });
            conditions.asked.push(Some(list));
        }
        let spares = build.field == Field::Source
            && build.direction == Direction::Inbound
            && !build.policy.never_block.is_empty()
            && build.rules.iter().any(|rule| rule.action == Action::Drop);
        if spares {
            conditions.protected = Some(conditions.lists.len() as u32);
            conditions.lists.push(build.policy.never_block.clone());
        }
        conditions
    }

    /// The row of each class.
    fn rows<T>(&self, build: &Build<'_>, swept: &Swept<T>, rows: &mut Rows) -> Vec<u32> {
        let mut by_list: Vec<Vec<usize>> = vec![Vec::new(); self.lists.len()];
        let mut always = build.matrix.empty();
        let mut drops = build.matrix.empty();
        for (index, rule) in build.rules.iter().enumerate() {
            match self.asked[index] {
                Some(list) => by_list[list as usize].push(index),
                None => set(&mut always, index),
            }
            if rule.action == Action::Drop {
                set(&mut drops, index);
            }
        }
        swept
            .classes
            .iter()
            .map(|holding| {
                let mut bits = always.clone();
                for &list in holding {
                    for &rule in &by_list[list as usize] {
                        set(&mut bits, rule);
                    }
                }
                if self.protected.is_some_and(|list| holding.contains(&list)) {
                    for (word, dropping) in bits.iter_mut().zip(&drops) {
                        *word &= !dropping;
                    }
                }
                rows.id(bits)
            })
            .collect()
    }
}

fn side(rule: &Rule, field: Field) -> &Addresses {
    if field == Field::Source {
        &rule.from
    } else {
        &rule.to
    }
}

fn prefixes(policy: &Policy, addresses: &Addresses) -> Vec<IpNet> {
    addresses
        .sets
        .iter()
        .flat_map(|&set| &policy.sets[set].prefixes)
        .chain(&addresses.prefixes)
        .copied()
        .collect()
}

/// The addresses of a family that a rule accepts on one side; `None` for all.
pub(super) fn accepted(
    policy: &Policy,
    addresses: &Addresses,
    v6: bool,
) -> Option<Vec<Range<u128>>> {
    if addresses.is_any() {
        return None;
    }
    let prefixes = prefixes(policy, addresses);
    Some(if v6 {
        ranges_v6(&prefixes)
    } else {
        let wide = |range: Range<u32>| (u128::from(range.0), u128::from(range.1));
        ranges_v4(&prefixes).into_iter().map(wide).collect()
    })
}

fn ranges_v4(prefixes: &[IpNet]) -> Vec<Range<u32>> {
    prefixes
        .iter()
        .filter_map(|prefix| match prefix {
            IpNet::V4(prefix) => Some((prefix.network().to_bits(), prefix.broadcast().to_bits())),
            IpNet::V6(_) => None,
        })
        .collect()
}

fn ranges_v6(prefixes: &[IpNet]) -> Vec<Range<u128>> {
    prefixes
        .iter()
        .filter_map(|prefix| match prefix {
            IpNet::V6(prefix) => Some((prefix.network().to_bits(), prefix.broadcast().to_bits())),
            IpNet::V4(_) => None,
        })
        .collect()
}
