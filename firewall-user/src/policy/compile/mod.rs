//! Compiles a policy to the image that the kernel programs and the host engine read
//! (`firewall_common::image`).
//!
//! Per direction: equal conditions of rules are one (`values`); each field's values fall into classes,
//! and those of all fields but the addresses combine to the tail (`tail`); the classes of source and
//! destination (`addresses`) select a list of rules (`lists`), which with the tail gives the first
//! (`results`). Protection by `never_block` costs nothing per packet: the lists of protected sources
//! lack the rules that drop.

mod address_table;
mod addresses;
mod cross;
mod excess;
mod limits;
mod lists;
mod matrix;
mod patterns;
mod results;
mod size;
mod sweep;
mod tail;
#[cfg(test)]
mod tests;
mod values;

use std::collections::HashMap;

use firewall_common::address_table::MAX_LINE;
use firewall_common::image::{
    Field, LINE_WORDS, MATRIX_RULES, MAX_CHAIN, MAX_COUNTED, MAX_PATTERNS, MAX_RULES,
    PLANE_CONSTANTS, Record, constant, record,
};
use firewall_common::layout::{FIRST_POLICY_COUNTER, INTERFACES, RULE_COUNTERS};
use thiserror::Error;

use super::limit::Unfit;
use super::{Action, DefaultAction, Direction, Mode, Policy, Rule};
use addresses::{Side, TooManyClasses};
use cross::Sink;
use lists::{Rules as Parts, TooLarge};
use patterns::Patterns;
use results::Kind;
use tail::{Tails, TooManyTails};
use values::Conditions;

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
        "the {direction} rules tell {classes} kinds of {field} apart; at most 65,536 fit: merge address \
         lists of rules into sets"
    )]
    TooManyClasses {
        direction: &'static str,
        field: &'static str,
        classes: usize,
    },
    #[error(
        "the {direction} rules combine {fields} in more than 32,768 ways; {rules} take part in most of \
         them: give them fewer different ranges, or look at fewer fields"
    )]
    TooManyTails {
        direction: &'static str,
        fields: String,
        rules: String,
    },
    #[error(
        "the {direction} rules overlap in more ways than fit into the memory of a policy; {rules} overlap \
         with most others: narrow them, or merge rules that differ in addresses only into one with a set"
    )]
    TooManyLists {
        direction: &'static str,
        rules: String,
    },
    #[error(
        "one packet can match {rules}, and none of them decides for certain; at most {MAX_CHAIN} such \
         rules fit: rules that count, observe or expire go on to the next"
    )]
    TooLongChain { rules: String },
    #[error("more than {} rule names have been used; remove the rule counter registry to start anew", RULE_COUNTERS - FIRST_POLICY_COUNTER)]
    TooManyCounters,
    #[error(
        "the compiled policy takes {mebibytes} MiB; at most {} fit: the most addresses are those of {causes}",
        MAX_IMAGE_WORDS >> 17
    )]
    TooLarge {
        mebibytes: usize,
        /// The sets and rules with the most prefixes.
        causes: String,
    },
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
        size::check(self, compiled.image.len(), MAX_IMAGE_WORDS)?;
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
        let any = |looks: fn(&Rule) -> bool| u32::from(rules.iter().any(|rule| looks(rule)));
        constants[constant::LOOKS_AT_FLAGS] = any(|rule| rule.tcp_flags.is_some());
        constants[constant::LOOKS_AT_TYPES] = any(|rule| !rule.icmp_types.is_empty());
        constants[constant::LIMITS] =
            limits::place(&rules, &compiled.counters, &mut compiled.image)?;
        constants[constant::RECORDS] = compiled.image.len() as u32;
        let mut outcomes = Vec::with_capacity(rules.len());
        for (number, rule) in rules.iter().enumerate() {
            let record = self.record(rule, environment, &compiled.counters);
            outcomes.push(record.outcome(number as u32));
            compiled.image.extend(record.words());
        }
        constants[constant::PATTERNS] = compiled.image.len() as u32;
        constants[constant::PATTERN_COUNT] = patterns.count();
        compiled.image.extend(patterns.words());
        self.place_rules(
            direction,
            &rules,
            &outcomes,
            environment,
            compiled,
            &mut constants,
        )?;
        Ok(constants)
    }

    /// Puts the tables that find the first rule that matches.
    fn place_rules(
        &self,
        direction: Direction,
        rules: &[&Rule],
        outcomes: &[u32],
        environment: &Environment,
        compiled: &mut Compiled,
        constants: &mut Constants,
    ) -> Result<(), CompileError> {
        let side = |field: Field| {
            Side::new(self, rules, direction, field).map_err(|TooManyClasses(classes)| {
                CompileError::TooManyClasses {
                    direction: direction.name(),
                    field: values::name(field),
                    classes,
                }
            })
        };
        let mut source = side(Field::Source)?;
        let destination = side(Field::Destination)?;
        let conditions = Conditions::gather(rules, environment, &mut compiled.notes);
        let kinds: Vec<Kind> = rules.iter().map(|rule| kind(rule)).collect();
        let drops: Vec<bool> = rules
            .iter()
            .map(|rule| rule.action == Action::Drop)
            .collect();
        let image = &mut compiled.image;
        let alone = |rule: u32| {
            let rule = rule as usize;
            kinds[rule] == Kind::Decides
                && rules[rule].to.is_any()
                && conditions.is_any(conditions.of_rule[rule])
        };
        let (shortcuts, first) = source.shortcuts(alone, &drops);
        if !shortcuts.is_empty() {
            let mut sink = Sink::after(image);
            constants[constant::SHORTCUTS] = sink.place();
            constants[constant::FIRST_SHORTCUT] = first;
            sink.wide(shortcuts.into_iter().map(|rule| outcomes[rule as usize]));
            image.append(&mut sink.words);
        }
        for (side, field, v6) in [
            (&source, Field::Source, constant::SOURCE_V6),
            (&destination, Field::Destination, constant::DESTINATION_V6),
        ] {
            if !side.is_any() {
                let (table, table_v6) = side.place(image);
                constants[constant::TABLES + field as usize] = table;
                constants[v6] = table_v6;
            }
        }
        let before = *constants;
        let end = image.len();
        let failed = match Tails::new(&conditions) {
            Err(excess) => Excess::Tails(excess),
            Ok(tails) => {
                let parts = Parts {
                    source: &source,
                    destination: &destination,
                    conditions: &conditions,
                    tails: &tails,
                    kinds: &kinds,
                    drops: &drops,
                    outcomes,
                };
                match classify(&parts, image, constants) {
                    Ok(()) => return Ok(()),
                    Err(excess) => Excess::Lists(excess),
                }
            }
        };
        let why = failed.explain(direction, rules, &conditions);
        if rules.len() > MATRIX_RULES {
            return Err(why);
        }
        compiled.notes.push(format!(
            "{why} (they are kept as a bit matrix, whose cost per packet grows with the number of rules)"
        ));
        image.truncate(end);
        *constants = before;
        matrix::place(
            &source,
            &destination,
            &conditions,
            &kinds,
            &drops,
            image,
            constants,
        );
        Ok(())
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

/// Classifies the rules.
fn classify(
    parts: &Parts<'_>,
    image: &mut Vec<u64>,
    constants: &mut Constants,
) -> Result<(), TooLarge> {
    let mut sink = Sink::after(image);
    parts.tails.place(&mut sink, |step, field, table, plane| {
        constants[constant::TABLES + field as usize] = table;
        constants[constant::ORDER + step] = field as u32 + 1;
        let first = constant::COMBINE + step * PLANE_CONSTANTS;
        constants[first..first + PLANE_CONSTANTS].copy_from_slice(&plane.constants());
    });
    image.append(&mut sink.words);
    let mut lists = parts.lists(image)?;
    image.append(&mut lists.words);
    constants[constant::CHAINS] = u32::from(parts.kinds.contains(&Kind::Passes));
    constants[constant::GROUPS] = lists.groups as u32;
    constants[constant::SOURCE_CLASSES] = lists.source_classes;
    constants[constant::DESTINATION_CLASSES] = lists.destination_classes;
    constants[constant::GROUP..][..lists.constants.len()].copy_from_slice(&lists.constants);
    Ok(())
}

/// Why rules cannot be classified.
enum Excess {
    Tails(TooManyTails),
    Lists(TooLarge),
}

impl Excess {
    fn explain(
        &self,
        direction: Direction,
        rules: &[&Rule],
        conditions: &Conditions,
    ) -> CompileError {
        let names = |numbers: &[u32]| {
            let quoted = numbers
                .iter()
                .map(|&rule| format!("\"{}\"", rules[rule as usize].name));
            quoted.collect::<Vec<_>>().join(", ")
        };
        let direction = direction.name();
        match self {
            Self::Tails(excess) => {
                let of_condition = |condition: &u32| {
                    let rule = conditions.of_rule.iter().position(|of| of == condition);
                    rule.unwrap_or(0) as u32
                };
                let rules: Vec<u32> = excess.conditions.iter().map(of_condition).collect();
                CompileError::TooManyTails {
                    direction,
                    fields: excess.fields.join(", "),
                    rules: names(&rules),
                }
            }
            Self::Lists(TooLarge::Lists { rules }) => CompileError::TooManyLists {
                direction,
                rules: names(rules),
            },
            Self::Lists(TooLarge::Chain { rules }) => CompileError::TooLongChain {
                rules: names(rules),
            },
        }
    }
}

fn kind(rule: &Rule) -> Kind {
    if rule.action == Action::Count || rule.mode == Mode::Observe || rule.expires.is_some() {
        Kind::Passes
    } else {
        Kind::Decides
    }
}
