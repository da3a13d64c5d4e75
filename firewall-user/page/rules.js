// What each rule does and has matched; of observed ones, what they would have.

import { badge, byId, cell, heading, make, number, rows } from "./dom.js";
import { short, timeText, whole } from "./format.js";

let latest = [[], { rules: [] }];

export function showRules(rules, policy) {
  latest = [rules, policy];
  const known = new Map(policy.rules.map((rule, place) => [rule.rule, { ...rule, place }]));
  const builtIn = byId("rules-built-in").checked;
  const shown = rules
    .filter((rule) => builtIn || !rule.built_in)
    .map((rule) => ({ ...rule, about: known.get(rule.rule) ?? null }))
    .sort((one, other) => (one.about?.place ?? Infinity) - (other.about?.place ?? Infinity) || 0);
  rows(byId("rule-table"), shown, row, "The policy has no rules: its defaults decide.");
}

function row(rule) {
  const about = rule.about;
  const does = about === null ? "built in" : `${about.action} ${about.direction}`;
  const who = [about?.owner ? `owner: ${about.owner}` : null, about?.reason ?? null, about?.expires ? `expires ${timeText(about.expires)}` : null];
  const notes = who.filter((each) => each !== null).join("; ");
  const observing = rule.mode === "observe";
  return [
    heading(rule.rule, notes === "" ? null : make("small", { class: "muted" }, notes)),
    cell(does, observing ? " " : null, observing ? badge("note", "observe") : null),
    cell(about === null ? "" : about.matches),
    number(whole(rule.packets)),
    number(short(rule.bytes, "B")),
    number(rule.limited === null || rule.limited === undefined ? "" : whole(rule.limited.packets)),
    number(wouldHave(rule)),
  ];
}

// What an observed rule would have done.
function wouldHave({ observed, about }) {
  if (observed === null || observed === undefined) {
    return "";
  }
  const did = { drop: "dropped", accept: "passed" }[about?.action] ?? "counted";
  return `${did} ${whole(observed.packets)}`;
}

export function startRules() {
  byId("rules-built-in").addEventListener("change", () => showRules(...latest));
}
