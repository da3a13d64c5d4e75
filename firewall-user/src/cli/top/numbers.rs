//! Numbers as they fit into a narrow column.

/// At most five characters: `0`, `7.3`, `950`, `12.3k`, `4.50M`.
pub fn short(number: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let mut number = number.max(0.0);
    let mut unit = 0;
    // What would be rounded up to 1000 belongs to the next unit.
    while number >= 999.5 && unit + 1 < UNITS.len() {
        number /= 1_000.0;
        unit += 1;
    }
    let digits = match unit {
        0 if (0.05..9.95).contains(&number) => 1,
        0 => 0,
        _ if number >= 99.95 => 0,
        _ if number >= 9.995 => 1,
        _ => 2,
    };
    format!("{number:.digits$}{}", UNITS[unit])
}

/// A whole number in the same way: small ones are as they are.
pub fn count(number: u64) -> String {
    match number {
        ..1_000 => number.to_string(),
        _ => short(number as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_the_digits_that_matter_and_never_gets_wide() {
        for (number, text) in [
            (0.0, "0"),
            (0.01, "0"),
            (0.26, "0.3"),
            (9.94, "9.9"),
            (9.96, "10"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (99_960.0, "100k"),
            (4_500_000.0, "4.50M"),
            (7.2e15, "7200T"),
        ] {
            assert_eq!(short(number), text, "{number}");
        }
    }
}
