use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::policy::{Mode, Policy};

const SHOP: &str = r#"# The shop's policy.
version = 1

[sets]            # who is who
# People in the building.
office = ["198.51.100.0/24"]   # two floors

# --- rules ---

# Visitors.
[[rule]]
name = "shop"     # do not rename
action = "accept"
protocol = "tcp"
port = [
    80,
    443,  # TLS
]
# port = 8080

[[rule]]
name = "ssh"
action = "accept"
protocol = "tcp"
port = 22
from = "office"

# The end.
"#;

fn parse(text: &str) -> Policy {
    let read = Policy::parse(text, "p", Path::new(""));
    read.unwrap_or_else(|refused| panic!("{refused}\n{text}")).0
}

fn names(text: &str) -> Vec<String> {
    parse(text)
        .rules
        .into_iter()
        .map(|rule| rule.name)
        .collect()
}

fn words(words: &[&str]) -> Written {
    Written::Numbers(words.iter().map(|word| (*word).to_owned()).collect())
}

fn dns() -> NewRule {
    NewRule {
        keys: vec![
            ("name", Written::Text("dns".to_owned())),
            ("action", Written::Text("accept".to_owned())),
            ("protocol", words(&["udp", "tcp"])),
            ("port", words(&["53", "5300-5399"])),
        ],
    }
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts
        .iter()
        .map(|text| crate::policy::address::parse_prefix(text).unwrap())
        .collect()
}

#[test]
fn a_new_rule_is_written_as_a_block_after_the_last_rule() {
    let edited = add_rule(SHOP, &dns(), &Position::Last).unwrap();
    let block = "\n[[rule]]\nname     = \"dns\"\naction   = \"accept\"\nprotocol = [\"udp\", \"tcp\"]\nport     = [53, \"5300-5399\"]\n";
    assert_eq!(
        edited,
        SHOP.replace(
            "from = \"office\"\n",
            &format!("from = \"office\"\n{block}")
        )
    );
}

#[test]
fn a_rule_goes_before_another_above_its_comments() {
    let edited = add_rule(SHOP, &dns(), &Position::Before("shop".to_owned())).unwrap();
    assert_eq!(names(&edited), ["dns", "shop", "ssh"]);
    assert!(
        edited.contains("5300-5399\"]\n\n# Visitors.\n[[rule]]\nname = \"shop\""),
        "{edited}"
    );
    let edited = add_rule(SHOP, &dns(), &Position::First).unwrap();
    assert_eq!(names(&edited), ["dns", "shop", "ssh"]);
    let edited = add_rule(SHOP, &dns(), &Position::Before("ssh".to_owned())).unwrap();
    assert_eq!(names(&edited), ["shop", "dns", "ssh"]);
}

#[test]
fn a_first_rule_goes_to_the_end_of_the_file() {
    assert_eq!(
        add_rule("version = 1", &dns(), &Position::First).unwrap(),
        "version = 1\n\n[[rule]]\nname     = \"dns\"\naction   = \"accept\"\nprotocol = [\"udp\", \"tcp\"]\nport     = [53, \"5300-5399\"]\n"
    );
}

#[test]
fn a_removed_rule_takes_its_own_comments_and_no_others() {
    let edited = remove_rule(SHOP, "shop").unwrap();
    assert_eq!(names(&edited), ["ssh"]);
    assert!(
        edited.contains("# --- rules ---\n\n[[rule]]\nname = \"ssh\""),
        "{edited}"
    );
    assert!(
        !edited.contains("Visitors") && !edited.contains("8080"),
        "{edited}"
    );
    let edited = remove_rule(SHOP, "ssh").unwrap();
    assert!(
        edited.ends_with("# port = 8080\n\n# The end.\n"),
        "{edited}"
    );
}

#[test]
fn windows_line_ends_are_kept() {
    let text = SHOP.replace('\n', "\r\n");
    let edited = add_rule(&text, &dns(), &Position::Last).unwrap();
    assert_eq!(edited.matches('\n').count(), edited.matches("\r\n").count());
    assert_eq!(remove_rule(&edited, "dns").unwrap(), text);
    let edited = add_to_set(&text, "office", &nets(&["2001:db8::/32"])).unwrap();
    assert_eq!(edited.matches('\n').count(), edited.matches("\r\n").count());
}

#[test]
fn an_unknown_rule_or_set_is_refused_with_the_nearest() {
    assert_eq!(
        remove_rule(SHOP, "shp").unwrap_err().to_string(),
        "there is no rule \"shp\"; did you mean \"shop\"?"
    );
    let refused = add_rule(SHOP, &dns(), &Position::Before("zzzzzz".to_owned())).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "there is no rule \"zzzzzz\"; the rules are \"shop\", \"ssh\""
    );
    assert_eq!(
        add_to_set(SHOP, "ofice", &[]).unwrap_err().to_string(),
        "there is no set \"ofice\"; did you mean \"office\"?"
    );
    assert_eq!(
        remove_from_set(SHOP, "office", &nets(&["198.51.100.7"]))
            .unwrap_err()
            .to_string(),
        "198.51.100.7 is not in set \"office\""
    );
}

#[test]
fn rules_written_inline_are_not_edited() {
    let text = "version = 1\nrule = [{ name = \"a\", action = \"drop\" }]\n";
    assert_eq!(
        add_rule(text, &dns(), &Position::Last),
        Err(EditError::InlineRules)
    );
    assert_eq!(remove_rule(text, "a"), Err(EditError::InlineRules));
}

#[test]
fn addresses_are_added_in_the_layout_of_the_list() {
    for (before, after) in [
        ("[]", "[\"203.0.113.7\"]"),
        ("[\"198.51.100.1\"]", "[\"198.51.100.1\", \"203.0.113.7\"]"),
        (
            "[\"198.51.100.1\", ]",
            "[\"198.51.100.1\", \"203.0.113.7\", ]",
        ),
        (
            "[\n  \"198.51.100.1\",  # one\n  # more\n]",
            "[\n  \"198.51.100.1\",  # one\n  \"203.0.113.7\",\n  # more\n]",
        ),
        (
            "[\n  \"198.51.100.1\"  # one, two\n]",
            "[\n  \"198.51.100.1\",  # one, two\n  \"203.0.113.7\"\n]",
        ),
        (
            "[\n  \"198.51.100.1\"]",
            "[\n  \"198.51.100.1\", \"203.0.113.7\"]",
        ),
        ("[ # none\n]", "[\"203.0.113.7\" # none\n]"),
    ] {
        let text = |list: &str| format!("version = 1\n[sets]\na = {list} # end\nb = []\n");
        let edited = add_to_set(&text(before), "a", &nets(&["203.0.113.7"])).unwrap();
        assert_eq!(edited, text(after));
        parse(&edited);
    }
}

#[test]
fn addresses_are_removed_with_their_comma_and_comment() {
    for (before, after) in [
        ("[\"203.0.113.7\"]", "[]"),
        ("[\"203.0.113.7\", \"198.51.100.1\"]", "[\"198.51.100.1\"]"),
        ("[\"198.51.100.1\", \"203.0.113.7\"]", "[\"198.51.100.1\"]"),
        (
            "[\"198.51.100.1\", \"203.0.113.7\", ]",
            "[\"198.51.100.1\", ]",
        ),
        (
            "[\n  \"198.51.100.1\", # one\n  \"203.0.113.7\", # two\n]",
            "[\n  \"198.51.100.1\", # one\n]",
        ),
        (
            "[\n  \"198.51.100.1\", # one\n  \"203.0.113.7\" # two\n]",
            "[\n  \"198.51.100.1\", # one\n]",
        ),
        (
            "[\n  \"203.0.113.7\"\n  , \"198.51.100.1\"\n]",
            "[\n  \"198.51.100.1\"\n]",
        ),
        (
            "[\"203.0.113.7/32\", \"198.51.100.1\", \"203.0.113.7\"]",
            "[\"198.51.100.1\"]",
        ),
    ] {
        let text = |list: &str| format!("version = 1\n[sets]\na = {list} # end\nb = []\n");
        let edited = remove_from_set(&text(before), "a", &nets(&["203.0.113.7"])).unwrap();
        assert_eq!(edited, text(after));
        parse(&edited);
    }
}

#[test]
fn a_new_set_goes_below_the_others_or_before_the_rules() {
    let edited = create_set(SHOP, "monitor", &nets(&["203.0.113.7"])).unwrap();
    assert!(
        edited.contains("# two floors\nmonitor = [\"203.0.113.7\"]\n\n# ---"),
        "{edited}"
    );
    let text = "version = 1\n\n# Visitors.\n[[rule]]\nname = \"a\"\naction = \"drop\"\n";
    let edited = create_set(text, "a.b", &nets(&["203.0.113.7"])).unwrap();
    assert!(
        edited.contains("\n[sets]\n\"a.b\" = [\"203.0.113.7\"]\n\n# Visitors.\n"),
        "{edited}"
    );
    assert_eq!(parse(&edited).sets[0].name, "a.b");
    assert_eq!(
        create_set("version = 1", "a", &nets(&["::/0"])).unwrap(),
        "version = 1\n\n[sets]\na = [\"::/0\"]\n"
    );
}

#[test]
fn a_set_s_file_keeps_its_comments_and_line_ends() {
    let file = b"# list\r\n198.51.100.1\t3 # one\r\n\r\n203.0.113.7\r\n203.0.113.7/32 ; twice";
    let added = add_to_file(file, &nets(&["2001:db8::1"]));
    assert_eq!(added, [file.as_slice(), b"\r\n2001:db8::1\r\n"].concat());
    let removed = remove_from_file(file, "a", &nets(&["203.0.113.7"])).unwrap();
    assert_eq!(removed, b"# list\r\n198.51.100.1\t3 # one\r\n\r\n");
    assert_eq!(
        remove_from_file(file, "a", &nets(&["203.0.113.8"]))
            .unwrap_err()
            .to_string(),
        "203.0.113.8 is not in set \"a\""
    );
}

/// Texts of valid policies in many layouts, with comments that say what they belong to.
fn policy_text() -> impl Strategy<Value = String> {
    let gap = prop_oneof![
        Just("\n"),
        Just("\n\n"),
        Just("\n# apart\n\n"),
        Just("\n# above\n"),
        Just("")
    ];
    let body = prop_oneof![
        Just("action = \"drop\"\n"),
        Just("action = \"accept\" # why\nprotocol = \"tcp\"\nport = [ 1, # one\n  2 ]\n"),
        Just("from = [\"a\",\n \"198.51.100.0/24\"]\n# inside\naction = \"count\"\n# below\n"),
    ];
    let middle = prop_oneof![
        Just(""),
        Just("[protect] # p\nnever_block = [\"a\"]\n"),
        Just("[defaults]\n")
    ];
    (
        prop::collection::vec((gap, body), 0..5),
        0usize..5,
        middle,
        any::<bool>(),
    )
        .prop_map(|(rules, at, middle, carriage)| {
            let mut text = "version = 1 # v\n\n[sets]\na = [ \"203.0.113.1\", # x\n]\n".to_owned();
            for (index, (gap, body)) in rules.iter().enumerate() {
                if index == at {
                    text.push_str(middle);
                }
                text.push_str(&format!("{gap}[[rule]]\nname = \"r{index}\"\n{body}"));
            }
            if carriage {
                text.replace('\n', "\r\n")
            } else {
                text
            }
        })
}

fn comments(text: &str) -> usize {
    text.matches('#').count()
}

proptest! {
    #[test]
    fn adding_a_rule_and_removing_it_gives_back_the_text(text in policy_text(), at in 0usize..6) {
        let before = parse(&text);
        let position = match before.rules.get(at) {
            Some(rule) => Position::Before(rule.name.clone()),
            None if at == 0 => Position::First,
            None => Position::Last,
        };
        let added = add_rule(&text, &dns(), &position).unwrap();
        let after = parse(&added);
        prop_assert_eq!(comments(&added), comments(&text));
        let place = at.min(before.rules.len());
        prop_assert_eq!(&after.rules[place].name, "dns");
        prop_assert_eq!(after.rules.len(), before.rules.len() + 1);
        let removed = remove_rule(&added, "dns").unwrap();
        prop_assert_eq!(removed.trim_end(), text.trim_end());
    }

    #[test]
    fn removing_rules_leaves_the_others_as_they_were(text in policy_text(), at in 0usize..5) {
        let before = parse(&text);
        prop_assume!(at < before.rules.len());
        let removed = remove_rule(&text, &before.rules[at].name).unwrap();
        let mut expected = before.clone();
        expected.rules.remove(at);
        let mut after = parse(&removed);
        for rule in expected.rules.iter_mut().chain(&mut after.rules) {
            rule.line = 0;
        }
        prop_assert_eq!(after, expected);
    }

    #[test]
    fn adding_to_a_set_and_removing_gives_back_its_prefixes(
        text in policy_text(),
        added in prop::collection::btree_set(0u32..50, 1..6),
    ) {
        let prefixes: Vec<IpNet> = added
            .iter()
            .map(|low| IpNet::from(std::net::IpAddr::from([198, 51, 100, *low as u8])))
            .collect();
        let before = parse(&text);
        let edited = add_to_set(&text, "a", &prefixes).unwrap();
        let after = parse(&edited);
        prop_assert_eq!(comments(&edited), comments(&text));
        prop_assert_eq!(after.sets[0].prefixes.len(), before.sets[0].prefixes.len() + prefixes.len());
        let removed = remove_from_set(&edited, "a", &prefixes).unwrap();
        prop_assert_eq!(removed, text);
    }

    #[test]
    fn no_text_makes_an_edit_panic(text in "[\\[\\]{}\"'=\\n#,.0-9a-z ]{0,60}") {
        let _ = add_rule(&text, &dns(), &Position::Last);
        let _ = remove_rule(&text, "a");
        let _ = add_to_set(&text, "a", &[]);
        let _ = create_set(&text, "a", &[]);
    }
}

#[test]
fn a_rule_s_mode_changes_and_nothing_else_does() {
    let text = "version = 1\r\n[[rule]]\r\nname = \"r\"\r\nmode   =  \"observe\"  # for a week\r\naction = \"drop\"\r\n";
    let promoted = set_mode(text, "r", Mode::Enforce).unwrap();
    assert_eq!(promoted, text.replace("\"observe\"", "\"enforce\""));
    assert_eq!(set_mode(&promoted, "r", Mode::Observe).unwrap(), text);
    let inline = "version = 1\nrule = [{ name = \"r\", mode = \"observe\", action = \"drop\" }]\n";
    let promoted = set_mode(inline, "r", Mode::Enforce).unwrap();
    assert_eq!(parse(&promoted).rules[0].mode, Mode::Enforce);
}

#[test]
fn a_rule_without_a_mode_gets_one_below_its_action() {
    for (before, after) in [
        (
            "[[rule]]\n  name     = \"r\"\n  action   = \"drop\" # why\n  # more\n",
            "[[rule]]\n  name     = \"r\"\n  action   = \"drop\" # why\n  mode     = \"observe\"\n  # more\n",
        ),
        (
            "[[rule]]\nname=\"r\"\naction=\"drop\"",
            "[[rule]]\nname=\"r\"\naction=\"drop\"\nmode = \"observe\"\n",
        ),
    ] {
        let edited = set_mode(&format!("version = 1\n{before}"), "r", Mode::Observe).unwrap();
        assert_eq!(edited, format!("version = 1\n{after}"));
        assert_eq!(parse(&edited).rules[0].mode, Mode::Observe);
    }
    assert!(matches!(
        set_mode(SHOP, "sho", Mode::Observe),
        Err(EditError::UnknownRule { .. })
    ));
}
