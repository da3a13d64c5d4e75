//! What a terminal may be sent, as far as the environment says.

use std::env;
use std::io::IsTerminal;

/// Whether a stream may be written to in colour: it is a terminal that knows colours, and NO_COLOR is not set
/// (<https://no-color.org>).
pub fn takes_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && may_have_colour()
}

/// Whether a stream that is a terminal may be written to in colour.
pub fn may_have_colour() -> bool {
    !is_dumb() && colours_wanted()
}

/// Whether a stream is a terminal on which the cursor can be moved.
pub fn can_be_drawn_on(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !is_dumb()
}

/// Whether the user wants colours.
pub fn colours_wanted() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether the terminal, if there is one, can only print one line after the other.
fn is_dumb() -> bool {
    env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}
