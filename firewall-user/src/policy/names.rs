//! Names of rules and sets, and guessing which known word was meant.

use super::address::resembles_address;

/// Longest name of a rule or a set.
pub const NAME_LENGTH: usize = 64;

/// Says what is wrong with a name, if anything.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    if name.starts_with("link:") {
        return Err("begins with \"link:\", which is kept for the built-in rules".to_owned());
    }
    let allowed = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
    if let Some(bad) = name.chars().find(|character| !allowed(*character)) {
        return Err(format!("contains {bad:?}"));
    }
    if name.len() > NAME_LENGTH {
        return Err(format!("has {} characters", name.len()));
    }
    Ok(())
}

/// As [`check_name`]; a set's name must also be told from an address wherever either may stand.
pub fn check_set_name(name: &str) -> Result<(), String> {
    check_name(name)?;
    if resembles_address(name) {
        return Err("could be taken for an address".to_owned());
    }
    if name == "any" {
        return Err("is reserved".to_owned());
    }
    Ok(())
}

/// What a name may be, for the help of an error.
pub const NAME_HELP: &str = "a name has 1 to 64 letters, digits, \"_\", \".\" and \"-\"";

/// The known word nearest to `word`, if one is near enough to have been meant.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            let candidate_lower = candidate.to_lowercase();
            let mut likeness = strsim::damerau_levenshtein(&lower, &candidate_lower) * 2;
            // "prot" for "protocol", "dport" for "port": nearer than their letters say.
            let (short, long) = if lower.len() < candidate_lower.len() {
                (&lower, &candidate_lower)
            } else {
                (&candidate_lower, &lower)
            };
            if short.len() >= 3 && long.starts_with(short.as_str()) {
                likeness = likeness.min(1);
            } else if short.len() >= 3 && long.ends_with(short.as_str()) {
                likeness = likeness.min(2);
            }
            (likeness, candidate)
        })
        .filter(|(likeness, candidate)| *likeness <= candidate.len().max(2))
        .min_by_key(|(likeness, _)| *likeness)
        .map(|(_, candidate)| candidate)
}

/// `did you mean "x"?`, or else the whole choice.
pub fn suggest(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("it is one of {}", quoted(known)),
    }
}

/// `"a", "b", "c"`.
pub fn quoted(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_or_mistyped_word_finds_the_known_one() {
        let known = ["protocol", "port", "from", "from_port", "tcp_flags"];
        for (word, meant) in [
            ("prot", "protocol"),
            ("dport", "port"),
            ("frmo", "from"),
            ("tcpflags", "tcp_flags"),
            ("PORT", "port"),
        ] {
            assert_eq!(nearest(word, known), Some(meant), "{word}");
        }
        assert_eq!(nearest("colour", known), None);
    }

    #[test]
    fn names_outside_the_character_set_or_length_are_refused() {
        assert_eq!(check_name("shop-1.web_a"), Ok(()));
        assert_eq!(check_name(&"a".repeat(64)), Ok(()));
        for bad in ["", "a b", "link:arp", "größe", "a/b", "a\n"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_name(&"a".repeat(65)).is_err());
    }

    #[test]
    fn a_set_cannot_be_named_like_an_address() {
        for bad in ["198.51.100.7", "10", "1.2.3", "any"] {
            assert!(check_set_name(bad).is_err(), "{bad}");
        }
        for good in ["office", "AS64500", "2nd-floor", "face"] {
            assert_eq!(check_set_name(good), Ok(()), "{good}");
        }
    }
}
