//! Colours of what verbs print.

use std::io::IsTerminal;

use crate::terminal::takes_colour;

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
            colour: takes_colour(stream),
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
