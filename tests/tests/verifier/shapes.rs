//! Every shape that the constants of a policy can give the programs, without the policies: what the
//! verifier walks through depends on the constants alone, and not on what the image holds. So the worst
//! shapes are tried on purpose, also those that hardly any set of rules takes.

use firewall_common::address_table::{MAX_HEIGHT, Shape};
use firewall_common::image::{
    FIELDS, Field, GROUPS, MATRIX_RULES, MAX_PATTERNS, MAX_STEPS, PLANE_CONSTANTS, constant,
};
use firewall_user::policy::{Compiled, Constants, Counters};
use palisade_tests::skip_unless_root;

use crate::bounded;

/// How the first match is found.
#[derive(Clone, Copy, Debug)]
enum Search {
    Matrix {
        rules: usize,
    },
    Lists {
        groups: usize,
        paged: bool,
        named: bool,
        chains: bool,
    },
}

/// How the tables of addresses are built: bits of the first level, and lines from root to leaf.
#[derive(Clone, Copy, Debug)]
struct Trees {
    bits_v4: u32,
    bits_v6: u32,
    height: u32,
}

const LOW: Trees = Trees {
    bits_v4: 12,
    bits_v6: 12,
    height: 3,
};
const HIGHEST: Trees = Trees {
    bits_v4: 12,
    bits_v6: 12,
    height: MAX_HEIGHT,
};

/// Words of the image; as none of them says anything, one table serves for all.
const WORDS: usize = 1 << 16;
const PLACE: u32 = 1 << 10;

/// A policy of this shape in both directions, with all that adds to it.
fn compiled(search: Search, trees: Trees, observe: bool) -> Compiled {
    let constants = constants(search, trees, observe);
    Compiled {
        image: vec![0; WORDS],
        inbound: constants,
        outbound: constants,
        counters: Counters::default(),
        notes: Vec::new(),
    }
}

fn constants(search: Search, trees: Trees, observe: bool) -> Constants {
    let table = |bits| {
        Shape {
            line: PLACE >> 3,
            bits,
            height: trees.height,
            deep: true,
        }
        .number()
    };
    let mut constants = [0; constant::COUNT];
    let mut put = |place: usize, value: u32| constants[place] = value;
    put(constant::RULES, MATRIX_RULES as u32);
    put(constant::RECORDS, PLACE);
    put(constant::DEFAULT_DROP, 1);
    put(constant::OBSERVE, u32::from(observe));
    put(constant::LIMITS, PLACE);
    put(constant::LOOKS_AT_FLAGS, 1);
    put(constant::LOOKS_AT_TYPES, 1);
    put(constant::SHORTCUTS, PLACE);
    put(constant::FIRST_SHORTCUT, 1_000);
    put(constant::PATTERNS, PLACE);
    put(constant::PATTERN_COUNT, MAX_PATTERNS);
    for field in 0..FIELDS {
        put(constant::TABLES + field, PLACE);
    }
    for place in [Field::Source as usize, Field::Destination as usize] {
        put(constant::TABLES + place, table(trees.bits_v4));
    }
    put(constant::PROTECTED_V4, table(trees.bits_v4));
    for place in [
        constant::SOURCE_V6,
        constant::DESTINATION_V6,
        constant::PROTECTED_V6,
    ] {
        put(place, table(trees.bits_v6));
    }
    match search {
        Search::Matrix { rules } => {
            let words = rules.div_ceil(64) as u32;
            put(constant::WORDS, words);
            put(constant::SUMMARIES, u32::from(words > 1));
            put(constant::STEPS, MAX_STEPS);
            for field in 0..FIELDS {
                put(constant::ROWS + field, PLACE);
            }
        }
        Search::Lists {
            groups,
            paged,
            named,
            chains,
        } => {
            put(constant::CHAINS, u32::from(chains));
            put(constant::GROUPS, groups as u32);
            if groups > 1 {
                put(constant::SOURCE_CLASSES, PLACE);
                put(constant::DESTINATION_CLASSES, PLACE);
            }
            let plane = [PLACE, 64, u32::from(paged)];
            // All fields but the addresses make the tail.
            for step in 0..FIELDS - 2 {
                put(constant::ORDER + step, step as u32 + 3);
                for (index, value) in plane.into_iter().enumerate() {
                    put(constant::COMBINE + step * PLANE_CONSTANTS + index, value);
                }
            }
            for group in 0..groups {
                let of_group = constant::GROUP + group * constant::group::COUNT;
                for (index, value) in plane.into_iter().enumerate() {
                    put(of_group + constant::group::LISTS + index, value);
                }
                put(of_group + constant::group::NAMED, u32::from(named));
                put(of_group + constant::group::PAGED, u32::from(paged));
                put(of_group + constant::group::CHAINS, PLACE);
            }
        }
    }
    constants
}

const LARGEST: Search = Search::Matrix {
    rules: MATRIX_RULES,
};
const LISTS: Search = Search::Lists {
    groups: GROUPS,
    paged: true,
    named: true,
    chains: false,
};
const CHAINS: Search = Search::Lists {
    groups: GROUPS,
    paged: true,
    named: true,
    chains: true,
};

#[test]
fn every_way_to_the_first_match_loads() {
    if skip_unless_root() {
        return;
    }
    let one_word = Search::Matrix { rules: 64 };
    let plain = |chains| Search::Lists {
        groups: 1,
        paged: false,
        named: false,
        chains,
    };
    for search in [LARGEST, one_word, LISTS, CHAINS, plain(false), plain(true)] {
        bounded(&format!("{search:?}"), compiled(search, LOW, false));
    }
}

#[test]
fn every_shape_of_address_tables_loads() {
    if skip_unless_root() {
        return;
    }
    let without_first_level = Trees {
        bits_v4: 0,
        bits_v6: 0,
        height: 3,
    };
    let narrow = Trees {
        bits_v4: 19,
        bits_v6: 16,
        height: 3,
    };
    let high_narrow = Trees {
        bits_v4: 19,
        bits_v6: 16,
        height: 4,
    };
    for trees in [without_first_level, narrow, high_narrow, HIGHEST] {
        bounded(&format!("{trees:?}"), compiled(LISTS, trees, false));
    }
}

#[test]
fn the_worst_of_all_loads_also_where_it_only_observes() {
    if skip_unless_root() {
        return;
    }
    for search in [LARGEST, CHAINS] {
        bounded(
            &format!("all at once, {search:?}"),
            compiled(search, HIGHEST, true),
        );
    }
}
