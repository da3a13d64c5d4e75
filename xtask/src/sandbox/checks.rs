//! What must be true for the show to count as a success.

use anyhow::{Result, bail};

use super::screen::Screen;

#[derive(Default)]
pub struct Checks {
    made: Vec<(bool, String)>,
}

impl Checks {
    /// Notes whether `holds`, and what was seen.
    pub fn note(&mut self, holds: bool, what: impl Into<String>) {
        self.made.push((holds, what.into()));
    }

    pub fn print(&self, screen: &Screen) {
        screen.heading("Did the fence do its job?");
        for (holds, what) in &self.made {
            let mark = if *holds {
                screen.good("yes")
            } else {
                screen.bad("NO ")
            };
            println!("  {mark}  {what}");
        }
    }

    /// An error unless everything held.
    pub fn verdict(&self) -> Result<()> {
        let failed = self.made.iter().filter(|(holds, _)| !holds).count();
        if failed > 0 {
            bail!("{failed} of {} checks failed", self.made.len());
        }
        println!("\nAll {} checks held.", self.made.len());
        Ok(())
    }
}
