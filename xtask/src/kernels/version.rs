//! Debian's version numbers in their order, as far as kernel releases need it.

use std::cmp::Ordering;

/// Orders by the numbers in two texts, one after the other, the newest first: 6.1.0-56 before
/// 6.1.0-9.
pub fn newest_first(one: &str, other: &str) -> Ordering {
    numbers(other).cmp(numbers(one))
}

fn numbers(text: &str) -> impl Iterator<Item = u64> {
    text.split(|each: char| !each.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_as_numbers() {
        let mut releases = ["6.18.9+deb13", "6.18.15+deb13", "6.18.12+deb13"];
        releases.sort_by(|one, other| newest_first(one, other));
        assert_eq!(releases, ["6.18.15+deb13", "6.18.12+deb13", "6.18.9+deb13"]);
    }
}
