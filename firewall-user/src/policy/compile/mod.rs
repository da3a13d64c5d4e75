//! Compiles a policy to the image that the kernel programs and the host engine read
//! (`firewall_common::image`).
//!
//! Per direction and field, the rules' conditions cut the field's values into classes; each class
//! gets a row of rule bits. Protection by `never_block` costs nothing per packet: the rows of
//! protected sources simply lack the bits of the rules that drop.

mod address_table;
mod addresses;
mod excess;
mod limits;
mod matrix;
mod patterns;
mod sweep;
#[cfg(test)]
mod tests;
mod values;

use std::collections::HashMap;

use firewall_common::address_table::MAX_LINE;
use firewall_common::image::{
    FIELDS, Field, LINE_WORDS, MAX_COUNTED, MAX_PATTERNS, MAX_RULES, MAX_STEPS, Record, constant,
    record,
};
use firewall_common::layout::{FIRST_POLICY_COUNTER, INTERFACES, RULE_COUNTERS};
use thiserror::Error;

use super::limit::Unfit;
use super::{Action, DefaultAction, Direction, Mode, Policy, Rule};
use matrix::Matrix;
use patterns::Patterns;

/// A policy ready to be loaded.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The image (`firewall_common::image`); word 0 is unused, so that 0 means "no table".
    pub image: Vec<u64>,
    pub inbound: Constants,
    pub outbound: Constants,
    /// Names of the rules by counter.
    pub counters: Counters,
    /// Oddities that do not stop a policy from being loaded.
    pub notes: Vec<String>,
}

/// Constants of one direction (`firewall_common::image::constant`).
pub type Constants = [u32; constant::COUNT];

/// What compiling needs to know beside the policy.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Names of the protected interfaces; the position is the slot.
    pub interfaces: Vec<String>,
    /// Nanoseconds to take from a Unix time to get the packet clock's (CLOCK_MONOTONIC on a live
    /// host, 0 in a replay).
    pub clock_offset: i128,
    /// Counters that rules already have.
    pub counters: Counters,
    /// Rules that expired before this moment are left out; `None` keeps all.
    pub now: Option<jiff::Timestamp>,
}

/// Which counter belongs to which rule name; a name keeps its counter for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    by_name: HashMap<String, u32>,
}

/// Why a policy cannot be compiled.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    #[error("{count} {direction} rules; at most {MAX_RULES} fit")]
    TooManyRules {
        direction: &'static str,
        count: usize,
    },
    #[error(
        "the {direction} rules split the {field} values into {rows} different rows; at most 65,536 fit: \
         merge address lists of rules into sets"
    )]
    TooManyRows {
        direction: &'static str,
        field: &'static str,
        rows: usize,
    },
    #[error("more than {} rule names have been used; remove the rule counter registry to start anew", RULE_COUNTERS - FIRST_POLICY_COUNTER)]
    TooManyCounters,
    #[error("the compiled policy takes {words} words of 8 bytes; at most {MAX_IMAGE_WORDS} fit")]
    TooLarge { words: usize },
    #[error(
        "more than {MAX_COUNTED} rules that count and go on can match one packet: {rules}; narrow them or \
         merge some"
    )]
    TooManyCounting { rules: String },
    #[error(
        "{count} different payload patterns for {direction} packets; at most {MAX_PATTERNS} fit: they \
         are those of {rules}"
    )]
    TooManyPatterns {
        direction: &'static str,
        count: usize,
        /// Names of the rules that have them.
        rules: String,
    },
    #[error("the limit of rule \"{rule}\" {unfit}")]
    Limit { rule: String, unfit: Unfit },
    #[error("{count} different limits; at most 65,535 fit")]
    TooManyLimits { count: usize },
    #[error("more than {INTERFACES} interfaces")]
    TooManyInterfaces,
}

/// Bound on the image: 256 MiB, as far as the number of an address table reaches.
pub const MAX_IMAGE_WORDS: usize = MAX_LINE as usize * LINE_WORDS;

impl Policy {
    /// Compiles the policy.
    pub fn compile(&self, environment: &Environment) -> Result<Compiled, CompileError> {
        if environment.interfaces.len() > INTERFACES as usize {
            return Err(CompileError::TooManyInterfaces);
        }
        let mut compiled = Compiled {
            image: vec![0],
            inbound: [0; constant::COUNT],
            outbound: [0; constant::COUNT],
            counters: environment.counters.clone(),
            notes: Vec::new(),
        };
        for rule in &self.rules {
            compiled.counters.assign(&rule.name)?;
        }
        compiled.inbound =
            self.compile_direction(Direction::Inbound, environment, &mut compiled)?;
        compiled.outbound =
            self.compile_direction(Direction::Outbound, environment, &mut compiled)?;
        if !self.never_block.is_empty() {
            let (v4, v6) = addresses::membership(&self.never_block, &mut compiled.image);
            compiled.inbound[constant::PROTECTED_V4] = v4;
            compiled.inbound[constant::PROTECTED_V6] = v6;
        }
        if compiled.image.len() > MAX_IMAGE_WORDS {
            return Err(CompileError::TooLarge {
                words: compiled.image.len(),
            });
        }
        Ok(compiled)
    }

    fn compile_direction(
        &self,
        direction: Direction,
        environment: &Environment,
        compiled: &mut Compiled,
    ) -> Result<Constants, CompileError> {
        let rules: Vec<&Rule> = self
            .rules
            .iter()
            .filter(|rule| rule.direction == direction && !expired(rule, environment))
            .collect();
        if rules.len() > MAX_RULES {
            return Err(CompileError::TooManyRules {
                direction: direction.name(),
                count: rules.len(),
            });
        }
        if let Some(names) = excess::find(self, &rules, environment) {
            return Err(CompileError::TooManyCounting {
                rules: names.join(", "),
            });
        }
        let patterns = Patterns::of(&rules);
        patterns.check(&rules, direction)?;
        let mut constants = [0; constant::COUNT];
        let default = match direction {
            Direction::Inbound => self.defaults.inbound,
            Direction::Outbound => self.defaults.outbound,
        };
        constants[constant::DEFAULT_DROP] = u32::from(default == DefaultAction::Drop);
        constants[constant::OBSERVE] = u32::from(self.defaults.mode == Mode::Observe);
        constants[constant::RULES] = rules.len() as u32;
        if rules.is_empty() {
            return Ok(constants);
        }
        constants[constant::LIMITS] =
            limits::place(&rules, &compiled.counters, &mut compiled.image)?;
        constants[constant::RECORDS] = compiled.image.len() as u32;
        for rule in &rules {
            let record = self.record(rule, environment, &compiled.counters);
            compiled.image.extend(record.words());
        }
        constants[constant::PATTERNS] = compiled.image.len() as u32;
        constants[constant::PATTERN_COUNT] = patterns.count();
        compiled.image.extend(patterns.words());
        let matrix = Matrix::new(rules.len());
        constants[constant::WORDS] = matrix.words() as u32;
        constants[constant::SUMMARIES] = matrix.summaries() as u32;
        constants[constant::STEPS] = steps(&rules, matrix);
        let mut put = |field: Field, placed: Option<Placed>| {
            if let Some(placed) = placed {
                constants[constant::TABLES + field as usize] = placed.table;
                constants[constant::ROWS + field as usize] = placed.rows;
                match field {
                    Field::Source => constants[constant::SOURCE_V6] = placed.table_v6,
                    Field::Destination => constants[constant::DESTINATION_V6] = placed.table_v6,
                    _ => {}
                }
            }
        };
        // Protocol comes last: rules that look at no field at all need a row nevertheless. Without one,
        // bits that stand for no rule would be taken for rules.
        let mut fields = Field::ALL;
        fields.sort_unstable_by_key(|field| *field == Field::Protocol);
        let mut placed_any = false;
        for field in fields {
            let build = Build {
                policy: self,
                rules: &rules,
                matrix,
                direction,
                field,
                needed: field == Field::Protocol && !placed_any,
            };
            let placed = match field {
                Field::Source | Field::Destination => {
                    addresses::place(&build, &mut compiled.image)?
                }
                _ => values::place(
                    &build,
                    environment,
                    &mut compiled.image,
                    &mut compiled.notes,
                )?,
            };
            placed_any |= placed.is_some();
            put(field, placed);
        }
        debug_assert_eq!(Field::ALL.len(), FIELDS);
        Ok(constants)
    }

    fn record(&self, rule: &Rule, environment: &Environment, counters: &Counters) -> Record {
        let mut flags = 0;
        if rule.action == Action::Drop {
            flags |= record::DROP;
        }
        if rule.action == Action::Count || rule.mode == Mode::Observe {
            flags |= record::COUNT;
        }
        if rule.log {
            flags |= record::LOG;
        }
        let expires = rule.expires.map_or(u64::MAX, |time| {
            let packet_clock = time.as_nanosecond() - environment.clock_offset;
            u64::try_from(packet_clock.max(0)).unwrap_or(u64::MAX)
        });
        // Every rule was given a counter before.
        let counter = counters
            .of(&rule.name)
            .unwrap_or(firewall_common::layout::NO_RULE);
        Record {
            counter,
            flags,
            expires,
        }
    }
}

impl Counters {
    /// The counter of a rule.
    pub fn of(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The rule of a counter.
    pub fn name(&self, counter: u32) -> Option<&str> {
        self.by_name
            .iter()
            .find(|(_, known)| **known == counter)
            .map(|(name, _)| name.as_str())
    }

    /// All names with their counters, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.by_name
            .iter()
            .map(|(name, counter)| (name.as_str(), *counter))
    }

    fn assign(&mut self, name: &str) -> Result<(), CompileError> {
        if !self.by_name.contains_key(name) {
            let last = self.by_name.values().max();
            let next = last.map_or(FIRST_POLICY_COUNTER, |last| {
                last.saturating_add(1).max(FIRST_POLICY_COUNTER)
            });
            if next >= RULE_COUNTERS {
                return Err(CompileError::TooManyCounters);
            }
            self.by_name.insert(name.to_owned(), next);
        }
        Ok(())
    }
}

impl FromIterator<(String, u32)> for Counters {
    fn from_iter<I: IntoIterator<Item = (String, u32)>>(pairs: I) -> Self {
        Self {
            by_name: pairs.into_iter().collect(),
        }
    }
}

fn expired(rule: &Rule, environment: &Environment) -> bool {
    match (rule.expires, environment.now) {
        (Some(expires), Some(now)) => expires <= now,
        _ => false,
    }
}

/// How many steps the search for a first match can take: every summary and word, every rule that
/// may match without deciding, and the one that decides.
fn steps(rules: &[&Rule], matrix: Matrix) -> u32 {
    let passed_over = |rule: &&&Rule| {
        rule.action == Action::Count || rule.mode == Mode::Observe || rule.expires.is_some()
    };
    let steps = matrix.summaries() + matrix.words() + rules.iter().filter(passed_over).count() + 1;
    u32::try_from(steps).map_or(MAX_STEPS, |steps| steps.min(MAX_STEPS))
}

/// One field of one direction, as the builders see it.
struct Build<'a> {
    policy: &'a Policy,
    rules: &'a [&'a Rule],
    matrix: Matrix,
    direction: Direction,
    field: Field,
    /// Place it even if no rule looks at it.
    needed: bool,
}

/// Where a field's parts were put.
struct Placed {
    table: u32,
    table_v6: u32,
    rows: u32,
}
