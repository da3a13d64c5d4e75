//! Which of the system tests say something about a kernel, in which order, and why the others are
//! not run on every one.

/// These first, in this order: what they show, all others stand on.
const FIRST: [&str; 4] = ["verifier", "cards", "clsact", "fence"];

/// What is the same on every kernel, or cannot be tried in an emulated machine. `--test` runs it all
/// the same.
const ELSEWHERE: [(&str, &str); 13] = [
    (
        "bad_arguments",
        "the command line refuses without asking the kernel",
    ),
    ("book", "the documents, and what commands print"),
    (
        "evaluation",
        "detection on floods faster than an emulated machine sends",
    ),
    (
        "learned",
        "detection from a series of counts, at a rate of its own",
    ),
    ("listener", "TLS and passwords in user space"),
    ("notifications", "how alerts are told, in user space"),
    ("offline", "the verbs that need no daemon"),
    ("package", "boots machines itself, under systemd"),
    ("page", "a browser"),
    ("plain_text", "what commands print"),
    ("score", "the detectors on files"),
    ("seen", "Prometheus and Alertmanager"),
    ("top", "a terminal"),
];

/// Why a test program is left out unless it is asked for.
pub fn left_out(name: &str) -> Option<&'static str> {
    let mut reasons = ELSEWHERE.iter();
    reasons
        .find(|(elsewhere, _)| *elsewhere == name)
        .map(|(_, why)| *why)
}

/// By this the test programs are sorted.
pub fn place(name: &str) -> (usize, String) {
    let first = FIRST.iter().position(|first| *first == name);
    (first.unwrap_or(FIRST.len()), name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_stand_on_comes_first_and_the_rest_by_name() {
        let mut names = ["watch", "fence", "bans", "verifier"];
        names.sort_by_key(|name| place(name));
        assert_eq!(names, ["verifier", "fence", "bans", "watch"]);
    }

    /// A name that no test has any more would leave nothing out.
    #[test]
    fn whatever_is_left_out_is_there() {
        let tests = crate::shell::root().join("tests/tests");
        for (name, _) in ELSEWHERE {
            let file = tests.join(format!("{name}.rs"));
            let folder = tests.join(name).join("main.rs");
            assert!(file.is_file() || folder.is_file(), "{name}");
        }
    }
}
