// What listens on this host against the policy, and what the policy lets in, the widest open first.

import { badge, byId, cell, heading, number, rows, show } from "./dom.js";
import { time, whole, words } from "./format.js";

const ORDER = ["all", "restricted", "unprotected", "none", "local"];
const NAMES = {
  all: ["note", "everybody"],
  restricted: ["good", "listed sources"],
  unprotected: ["warning", "not behind the fence"],
  none: ["good", "nobody"],
  local: ["good", "this host"],
};

// `surface` is null where the daemon could not look.
export function showExposure(policy, rules, surface) {
  byId("surface").hidden = surface === null;
  if (surface !== null) {
    const listeners = surface.listeners
      .filter((each) => each.exposure !== "local")
      .sort((one, other) => ORDER.indexOf(one.exposure) - ORDER.indexOf(other.exposure) || one.port - other.port);
    rows(byId("surface-table"), listeners, socket, "Nothing listens but for this host itself.");
  }
  const unused = new Map((surface?.openings ?? []).map((each) => [each.rule, each]));
  const packets = new Map(rules.map((rule) => [rule.rule, rule.packets]));
  const open = policy.rules
    .filter((rule) => rule.action === "accept" && rule.direction === "inbound")
    .map((rule) => ({ ...rule, packets: packets.get(rule.rule) ?? 0, idle: unused.has(rule.rule) }))
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
    cell(rule.idle ? badge("warning", "ports where nothing listens") : null, rule.idle ? " " : null, [rule.reason, rule.owner ? `(${rule.owner})` : null].filter(Boolean).join(" ")),
  ];
}

function socket(listener) {
  const address = listener.address.includes(":") ? `[${listener.address}]` : listener.address;
  const known = NAMES[listener.exposure] ?? ["note", listener.exposure];
  const who = listener.from.length > 0 ? ` ${listener.from.join(", ")}` : "";
  return [
    heading(`${listener.protocol} ${address}:${listener.port}`, listener.process ? ` ${listener.process}` : null),
    cell(badge(...known), who),
    cell(listener.rules.join(", ")),
    number(whole(listener.connections)),
    cell(listener.last_packet === null ? "" : time(listener.last_packet)),
    cell(listener.flags.map((flag) => badge("warning", words(flag)))),
  ];
}
