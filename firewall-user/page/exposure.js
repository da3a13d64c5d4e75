// What the policy lets in, the widest open first.

import { badge, byId, cell, heading, number, rows, show } from "./dom.js";
import { whole } from "./format.js";

export function showExposure(policy, rules) {
  const packets = new Map(rules.map((rule) => [rule.rule, rule.packets]));
  const open = policy.rules
    .filter((rule) => rule.action === "accept" && rule.direction === "inbound")
    .map((rule) => ({ ...rule, packets: packets.get(rule.rule) ?? 0 }))
    .sort((one, other) => Number(other.from_anybody) - Number(one.from_anybody));
  const anybody = open.filter((rule) => rule.from_anybody).length;
  const rest =
    policy.inbound === "drop"
      ? "Everything else that comes in is dropped, except replies."
      : "Everything that no rule drops comes in: the default is accept.";
  const text = `${anybody} of ${open.length} rules that let something in are open to everybody. ${policy.mode === "observe" ? "The policy is only observed: everything comes in." : rest}`;
  show(byId("exposure-text"), text, (shown) => shown);
  rows(byId("exposure-table"), open, row, "No rule lets anything in.");
}

function row(rule) {
  return [
    cell(rule.from_anybody ? badge("note", "everybody") : badge("good", "listed sources")),
    heading(rule.rule),
    cell(rule.matches),
    number(rule.packets === 0 ? "unused" : whole(rule.packets)),
    cell([rule.reason, rule.owner ? `(${rule.owner})` : null].filter(Boolean).join(" ")),
  ];
}
