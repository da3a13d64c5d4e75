//! The kernel's verifier takes the programs of every policy that the language allows, as they are
//! loaded for service, and follows them no further than a bound that is far from its own.

#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod shapes;

use std::fmt::Write;
use std::path::Path;

use firewall_common::Direction;
use firewall_user::datapath::TestRun;
use firewall_user::policy::{Compiled, Environment, MAX_RULES, Policy};
use palisade_tests::{note, skip_unless_root};

/// A policy whose rules look at every field, in both directions.
fn every_field(rules: usize, expiring: bool) -> String {
    let mut text = "version = 1\n[defaults]\noutbound = \"drop\"\n[sets]\nown = [\"10.0.0.0/8\"]\n\
         [protect]\nnever_block = [\"own\"]\n"
        .to_owned();
    for number in 0..rules {
        let action = ["accept", "drop"][number % 2];
        write!(
            text,
            "[[rule]]\nname = \"r{number}\"\naction = \"{action}\"\nprotocol = \"tcp\"\ntcp_flags = \"syn\"\n\
             interface = \"eth0\"\nvlan = {vlan}\nport = {port}\nfrom_port = \"1-{from_port}\"\n\
             ttl = [1, {ttl}]\nlength = \"{length}-2000\"\nfragment = false\n\
             from = [\"203.0.{net}.0/24\", \"2001:db8:{net}::/48\"]\nto = [\"198.51.100.0/24\", \"2001:db8::/32\"]\n",
            vlan = number % 4_000 + 1,
            port = number + 1,
            from_port = 60_000 - number,
            ttl = number % 200 + 2,
            length = number % 900 + 1,
            net = number % 250,
        )
        .expect("a string takes everything");
        if number % 2 == 1 {
            text += "direction = \"outbound\"\n";
        }
        if expiring {
            text += "expires = 2100-01-01\n";
        }
    }
    text
}

/// Loads the policy and holds it to the bound.
fn loads(what: &str, text: &str) {
    let (policy, _) =
        Policy::parse(text, "policy.toml", Path::new(".")).expect("the policy is valid");
    let compiled = policy
        .compile(&Environment::default())
        .expect("it compiles");
    bounded(what, compiled);
}

/// Instructions that the verifier may walk through. It gives up at a million, and each kernel walks
/// differently: those before 6.8 also through functions that nothing calls, and through many states
/// more than once.
fn bound() -> u32 {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the release");
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= (6, 8) => 400_000,
        _ => 700_000,
    }
}

/// Loads a compiled policy, says how many instructions the verifier walked through (inbound, then
/// outbound), and holds them to the bound.
fn bounded(what: &str, compiled: Compiled) {
    let mut run = TestRun::live_and_signing(compiled)
        .unwrap_or_else(|error| panic!("{what}: the verifier takes the programs: {error:?}"));
    let [inbound, outbound] = [Direction::Inbound, Direction::Outbound].map(|direction| {
        run.verified_instructions(direction)
            .expect("the kernel tells of its own programs")
    });
    note(&format!("verified: {what}: {inbound} {outbound}"));
    let bound = bound();
    assert!(
        inbound <= bound,
        "{what}: {inbound} inbound, more than {bound}"
    );
    assert!(
        outbound <= bound,
        "{what}: {outbound} outbound, more than {bound}"
    );
}

#[test]
fn the_smallest_policy_loads() {
    if skip_unless_root() {
        return;
    }
    loads("the smallest policy", "version = 1\n");
}

#[test]
fn rules_of_one_word_and_one_more_load() {
    if skip_unless_root() {
        return;
    }
    loads("128 rules", &every_field(128, false));
    loads("130 rules", &every_field(130, false));
}

#[test]
fn as_many_rules_as_are_allowed_load_whatever_they_look_at() {
    if skip_unless_root() {
        return;
    }
    loads(
        "as many rules as are allowed",
        &every_field(MAX_RULES, false),
    );
}

#[test]
fn as_many_rules_as_are_allowed_load_when_all_of_them_will_expire() {
    if skip_unless_root() {
        return;
    }
    loads("as many expiring rules", &every_field(MAX_RULES, true));
}

#[test]
fn limits_on_every_rule_load_also_where_eight_of_them_only_watch() {
    if skip_unless_root() {
        return;
    }
    let mut text = every_field(130, true).replace(
        "action = \"accept\"\n",
        "action = \"accept\"\nlimit = { rate = \"1MB/s\", per = \"/24 /48\" }\n",
    );
    for number in 0..8 {
        write!(
            text,
            "[[rule]]\nname = \"watched-{number}\"\naction = \"accept\"\nmode = \"observe\"\n\
             limit = {{ rate = \"{number}0/m\", per = \"service\", unit = \"connections\" }}\n"
        )
        .expect("a string takes everything");
    }
    loads("limits", &text.replace("\"00/m\"", "\"5/m\""));
}

/// Rules that combine every field in ways without end, so that they are kept as a bit matrix, in both
/// directions.
fn matrix(rules: usize) -> String {
    let mut text = "version = 1\n[defaults]\noutbound = \"drop\"\n[sets]\n\
         own = [\"10.0.0.0/8\", \"2001:db8:5:5::1/128\"]\n[protect]\nnever_block = [\"own\"]\n"
        .to_owned();
    // Each rule has two fields as ranges that overlap those of most others: the fields together make
    // more combinations than are kept.
    let mut state = 1_u64;
    let mut below = |most: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % most
    };
    for number in 0..rules {
        let watched = number < 8;
        let from = below(30_000);
        let ttl = below(120) + 1;
        let length = below(700);
        write!(
            text,
            "[[rule]]\nname = \"r{number}\"\naction = \"accept\"\nprotocol = \"tcp\"\ntcp_flags = \"syn\"\n\
             vlan = {vlan}\nport = \"{from}-{to}\"\nfrom_port = \"{port}-60000\"\nttl = [{ttl}, {later}]\n\
             length = \"{length}-2000\"\nfragment = false\ntcp_window = \"{window}-65535\"\n\
             from = [\"203.0.{net}.0/24\", \"2001:db8:{net}::{host:x}/128\"]\nto = [\"2001:db8:{net}::/{bits}\"]\n\
             direction = \"{direction}\"\nlimit = {{ rate = \"{rate}/s\", per = \"/24 /48\" }}\n{mode}{expires}",
            vlan = below(4_000) + 1,
            to = from + below(30_000),
            port = below(50_000),
            later = ttl + 100,
            window = below(60_000),
            net = below(250),
            host = below(60_000),
            bits = 49 + below(80),
            direction = ["inbound", "outbound"][number % 2],
            rate = number + 1,
            mode = if watched { "mode = \"observe\"\n" } else { "" },
            expires = if watched { "" } else { "expires = 2100-01-01\n" },
        )
        .expect("a string takes everything");
    }
    text
}

#[test]
fn a_bit_matrix_in_both_directions_loads_with_every_key() {
    if skip_unless_root() {
        return;
    }
    loads("a bit matrix both ways", &matrix(3_000));
}
