//! What is done about an alert. Every means of defence has its line here and its code elsewhere, so
//! that one look tells what an alert leads to, and in which order.

use super::Keeper;
use crate::detect::{Alert, Time};

impl Keeper {
    /// Answers an alert that fired or grew. Gives what was done about it or why nothing was, in
    /// words for its `response`; words that were said before are not said again.
    pub(super) fn answer(&mut self, alert: &Alert) -> Vec<String> {
        let mut said = Vec::new();
        said.extend(self.answer_source(alert));
        said.extend(self.answer_with_cookies(alert));
        self.watch.fired(alert);
        said
    }

    /// Takes back what an alert's answer put up for as long as it lasts, now that it is over. Bans
    /// end by themselves.
    pub(super) fn stand_down(&mut self, alert: &Alert) -> Vec<String> {
        let mut said = self.end_signatures(alert);
        said.extend(self.cookies.stand_down(alert, super::tick::now()));
        said
    }

    /// A ban or limit of the source that it names, if the settings ask for it.
    fn answer_source(&mut self, alert: &Alert) -> Option<String> {
        let settings = &self.settings.respond;
        self.warden.respond(settings, &self.regulars, alert)
    }

    /// Keeps up the alert that answers are off, as long as they are.
    pub(super) fn tell_of_withheld(&mut self, now: Time) {
        if let Some(withheld) = self.warden.withheld() {
            self.detector.note_withheld(now, withheld);
        }
    }
}
