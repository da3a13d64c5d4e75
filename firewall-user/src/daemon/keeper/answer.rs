//! What is done about an alert. Every means of defence has its line here and its code elsewhere, so
//! that one look tells what an alert leads to, and in which order.

use serde_json::json;

use super::Keeper;
use crate::daemon::history::By;
use crate::daemon::warden::Answered;
use crate::detect::{Alert, Time};
use crate::respond::Measure;

impl Keeper {
    /// Answers an alert that fired or grew. Gives what was done about it or why nothing was, in
    /// words for its `response`; words that were said before are not said again.
    pub(super) fn answer(&mut self, alert: &Alert) -> Vec<String> {
        let mut said = Vec::new();
        said.extend(self.answer_source(alert));
        let cookies: Vec<String> = self.answer_with_cookies(alert).into_iter().collect();
        self.note_answer("cookies.answer", alert, &cookies);
        said.extend(cookies);
        self.watch.fired(alert);
        said
    }

    /// Takes back what an alert's answer put up for as long as it lasts, now that it is over. Bans
    /// end by themselves.
    pub(super) fn stand_down(&mut self, alert: &Alert) -> Vec<String> {
        let mut said = self.end_signatures(alert);
        self.note_answer("signature.end", alert, &said);
        let cookies: Vec<String> = self
            .cookies
            .stand_down(alert, super::tick::now())
            .into_iter()
            .collect();
        self.note_answer("cookies.stand_down", alert, &cookies);
        said.extend(cookies);
        said
    }

    /// A ban or limit of the source that it names, if the settings ask for it.
    fn answer_source(&mut self, alert: &Alert) -> Option<String> {
        let settings = &self.settings.respond;
        let said = self.warden.respond(settings, &self.regulars, alert);
        for deed in self.warden.take_deeds() {
            let Answered {
                record, alert, why, ..
            } = deed;
            let action = match record.measure {
                Measure::Ban => "ban.add",
                Measure::Limit => "limit.add",
            };
            let until = record.expires.map(|end| end.to_string());
            let detail = json!({ "alert": alert, "kind": record.kind, "until": until });
            let target = Some(record.prefix.to_string());
            let by = By::daemon(Some(why));
            self.note_deed(&by, action, target, detail);
            if let Some(wide) = deed.instead_of {
                let detail = json!({ "alert": alert, "instead": record.prefix.to_string() });
                self.note_deed(&by, "ban.remove", Some(wide.to_string()), detail);
            }
        }
        said
    }

    /// Puts what an alert led to on record, unless it is what was said of it before.
    pub(super) fn note_answer(&self, action: &str, alert: &Alert, what: &[String]) {
        for what in what {
            if !alert.response.contains(what) {
                let detail =
                    json!({ "alert": alert.id, "kind": alert.kind.to_string(), "what": what });
                let target = Some(alert.subject.to_string());
                self.note_deed(&By::daemon(Some(alert.why.clone())), action, target, detail);
            }
        }
    }

    /// Keeps up the alert that answers are off, as long as they are.
    pub(super) fn tell_of_withheld(&mut self, now: Time) {
        if let Some(withheld) = self.warden.withheld() {
            self.detector.note_withheld(now, withheld);
        }
    }
}
