//! Address fields: classes of addresses, and the tables that find an address' class.

use std::collections::HashMap;

use firewall_common::image::Field;
use ipnet::IpNet;

use super::super::{Action, Addresses, Direction, Policy, Rule};
use super::address_table::{table_v4, table_v6};
use super::sweep::{Range, Swept, sweep};

/// Classes have 16 bits in the image.
const MAX_CLASSES: usize = 1 << 16;

/// One address of the packet as the rules of a direction see it: classes of addresses that no rule
/// tells apart.
#[derive(Debug)]
pub(super) struct Side {
    /// Rules that accept every address.
    pub(super) always: Vec<u32>,
    /// The classes of IPv4 addresses, then those of IPv6.
    pub(super) classes: Vec<Class>,
    /// Per rule: whether it accepts (nearly) every address.
    pub(super) wide: Vec<bool>,
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u32)>,
}

/// A class of addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Class {
    /// Rules that name these addresses, ascending; those that accept every address are besides.
    pub(super) rules: Vec<u32>,
    /// Rules that drop do not apply.
    pub(super) spared: bool,
}

/// The rules tell more classes of addresses apart than there are numbers for.
#[derive(Debug)]
pub(super) struct TooManyClasses(pub(super) usize);

impl Side {
    pub(super) fn new(
        policy: &Policy,
        rules: &[&Rule],
        direction: Direction,
        field: Field,
    ) -> Result<Self, TooManyClasses> {
        let conditions = Conditions::gather(policy, rules, direction, field);
        let mut side = Self {
            always: conditions.always(),
            classes: Vec::new(),
            wide: conditions.wide(),
            v4: Vec::new(),
            v6: Vec::new(),
        };
        if conditions.lists.is_empty() {
            return Ok(side);
        }
        let v4: Vec<_> = conditions
            .lists
            .iter()
            .map(|list| ranges_v4(list))
            .collect();
        let v6: Vec<_> = conditions
            .lists
            .iter()
            .map(|list| ranges_v6(list))
            .collect();
        let (v4, v6) = (sweep(&v4), sweep(&v6));
        let by_list = conditions.by_list();
        side.v4 = side.number(&conditions, &by_list, &v4);
        side.v6 = side.number(&conditions, &by_list, &v6);
        if side.classes.len() > MAX_CLASSES {
            return Err(TooManyClasses(side.classes.len()));
        }
        Ok(side)
    }

    /// Gives numbers to the classes of a family.
    fn number<T: Copy>(
        &mut self,
        conditions: &Conditions,
        by_list: &[Vec<u32>],
        swept: &Swept<T>,
    ) -> Vec<(T, u32)> {
        let first = self.classes.len() as u32;
        for holding in &swept.classes {
            let mut rules: Vec<u32> = holding
                .iter()
                .flat_map(|&list| &by_list[list as usize])
                .copied()
                .collect();
            rules.sort_unstable();
            self.classes.push(Class {
                rules,
                spared: conditions
                    .protected
                    .is_some_and(|list| holding.contains(&list)),
            });
        }
        let stretches = swept.stretches.iter();
        stretches
            .map(|s| (s.start, first + s.class as u32))
            .collect()
    }

    /// Gives the last numbers to the classes whose first rule decides whatever else a packet is;
    /// `alone` tells of a rule whether it does. Returns these rules, and the first of the numbers.
    pub(super) fn shortcuts(
        &mut self,
        alone: impl Fn(u32) -> bool,
        drops: &[bool],
    ) -> (Vec<u32>, u32) {
        let first_rule = |class: &Class| {
            let applies = |rule: &&u32| !(class.spared && drops[**rule as usize]);
            let named = class.rules.iter().find(applies);
            let always = self.always.iter().find(applies);
            let first = named.into_iter().chain(always).min().copied()?;
            alone(first).then_some(first)
        };
        let shortcuts: Vec<Option<u32>> = self.classes.iter().map(first_rule).collect();
        let mut order: Vec<usize> = (0..self.classes.len()).collect();
        order.sort_by_key(|&class| shortcuts[class].is_some());
        let mut number = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            number[old] = new as u32;
        }
        self.classes = order.iter().map(|&old| self.classes[old].clone()).collect();
        for (_, class) in &mut self.v4 {
            *class = number[*class as usize];
        }
        for (_, class) in &mut self.v6 {
            *class = number[*class as usize];
        }
        let rules: Vec<u32> = order.iter().filter_map(|&old| shortcuts[old]).collect();
        let first = (order.len() - rules.len()) as u32;
        (rules, first)
    }

    /// Whether no rule looks at the address.
    pub(super) fn is_any(&self) -> bool {
        self.classes.is_empty()
    }

    /// Puts the tables that find a class: IPv4 and IPv6.
    pub(super) fn place(&self, image: &mut Vec<u64>) -> (u32, u32) {
        let v4 = table_v4(&self.v4, image);
        (v4, table_v6(&self.v6, image))
    }
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
    fn gather(policy: &Policy, rules: &[&Rule], direction: Direction, field: Field) -> Self {
        let mut conditions = Self {
            lists: Vec::new(),
            asked: Vec::new(),
            protected: None,
        };
        let mut known: HashMap<(&[usize], &[IpNet]), u32> = HashMap::new();
        for rule in rules {
            let wanted = side(rule, field);
            if wanted.is_any() {
                conditions.asked.push(None);
                continue;
            }
            let key = (wanted.sets.as_slice(), wanted.prefixes.as_slice());
            let list = *known.entry(key).or_insert_with(|| {
                conditions.lists.push(prefixes(policy, wanted));
                conditions.lists.len() as u32 - 1
            });
            conditions.asked.push(Some(list));
        }
        let spares = field == Field::Source
            && direction == Direction::Inbound
            && !policy.never_block.is_empty()
            && rules.iter().any(|rule| rule.action == Action::Drop);
        if spares {
            conditions.protected = Some(conditions.lists.len() as u32);
            conditions.lists.push(policy.never_block.clone());
        }
        conditions
    }

    /// The rules that accept every address.
    fn always(&self) -> Vec<u32> {
        let rules = self.asked.iter().enumerate();
        rules
            .filter(|(_, asked)| asked.is_none())
            .map(|(rule, _)| rule as u32)
            .collect()
    }

    /// The rules that ask for each list.
    fn by_list(&self) -> Vec<Vec<u32>> {
        let mut by_list = vec![Vec::new(); self.lists.len()];
        for (rule, asked) in self.asked.iter().enumerate() {
            if let Some(list) = asked {
                by_list[*list as usize].push(rule as u32);
            }
        }
        by_list
    }

    /// Per rule: whether it accepts every address, or a 256th of all at least.
    fn wide(&self) -> Vec<bool> {
        // In 2^32nds of all addresses: prefixes longer than that do not add up to a 256th.
        let share = |prefix: &IpNet| (1_u64 << 32) >> prefix.prefix_len().min(63);
        let wide: Vec<bool> = self
            .lists
            .iter()
            .map(|list| {
                let mut shares = [0_u64; 2];
                for prefix in list {
                    shares[usize::from(prefix.addr().is_ipv6())] += share(prefix);
                }
                shares.iter().any(|share| *share >= 1 << 24)
            })
            .collect();
        self.asked
            .iter()
            .map(|asked| asked.is_none_or(|list| wide[list as usize]))
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
