//! Whether and how a terminal is written to in colour.

use std::env;
use std::io::IsTerminal;

/// Colours of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    colour: bool,
}

/// What a text stands for; the colours follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    Good,
    Bad,
    Notable,
    Faint,
}

impl Style {
    /// The style of a stream: in colour on a terminal that knows colours, unless NO_COLOR is set.
    pub fn of(stream: &impl IsTerminal) -> Self {
        Self {
            colour: stream.is_terminal() && colours_wanted(),
        }
    }

    /// A text in a colour.
    pub fn paint(self, ink: Ink, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Good => 32,
            Ink::Bad => 31,
            Ink::Notable => 33,
            Ink::Faint => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Whether the user wants colours, as far as the environment says: see <https://no-color.org>. A dumb terminal
/// has none.
pub fn colours_wanted() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && !terminal_is_dumb()
}

/// Whether the terminal, if there is one, can only print one line after the other.
pub fn terminal_is_dumb() -> bool {
    env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_a_text_stays_as_it_is() {
        let (plain, coloured) = (Style { colour: false }, Style { colour: true });
        assert_eq!(plain.paint(Ink::Bad, "drop"), "drop");
        assert_eq!(coloured.paint(Ink::Bad, "drop"), "\x1b[31mdrop\x1b[0m");
    }
}
