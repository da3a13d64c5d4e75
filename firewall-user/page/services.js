// Each service beside what was learned to be usual for it.

import { badge, byId, cell, draw, heading, make, number, rows, show } from "./dom.js";
import { short, words } from "./format.js";

const WIDTH = 160;
const HOST = "*";
const UNITS = { packets: "packets/s", bytes: "B/s", connections: "connections/s", requests: "requests/s", new_sources: "sources/s" };

let latest = [];

export function showServices(services) {
  latest = services;
  const measures = [...new Set(services.map((each) => each.measure))];
  const select = byId("service-measure");
  const before = select.value;
  show(select, measures, (all) => all.map((each) => make("option", { value: each }, words(each))));
  if (measures.includes(before)) {
    select.value = before;
  }
  const shown = services
    .filter((each) => each.measure === select.value)
    .map((each) => ({ ...each, state: state(each) }))
    .sort((one, other) => Number(other.service === HOST) - Number(one.service === HOST) || other.observed - one.observed);
  rows(byId("service-table"), shown, row, "Nothing is learned yet: the first whole minutes of traffic come first.");
}

function state({ observed, expected_low, expected_high, learning }) {
  if (learning) {
    return ["note", "learning"];
  }
  if (observed > expected_high) {
    return ["warning", "above"];
  }
  return observed < expected_low ? ["warning", "below"] : ["good", "as expected"];
}

function row(service) {
  const { observed, expected_low, expected_high, measure } = service;
  const unit = UNITS[measure] ?? "/s";
  const range = `${short(expected_low)} to ${short(expected_high, unit)}`;
  return [heading(service.service === HOST ? "whole host" : service.service), number(short(observed, unit)), number(range), cell(bar(service)), cell(badge(...service.state))];
}

// The band of what was expected with a mark where it is now. The cells beside it say the same in words.
function bar({ observed, expected_low, expected_high }) {
  const most = Math.max(observed, expected_high, 1e-9) * 1.15;
  const at = (value) => (Math.max(0, value) / most) * WIDTH;
  const band = Math.max(2, at(expected_high) - at(expected_low));
  return draw(
    "svg",
    { class: "range", viewBox: `0 0 ${WIDTH} 16`, width: WIDTH, height: 16, "aria-hidden": "true", focusable: "false" },
    draw("rect", { class: "track", x: 0, y: 6, width: WIDTH, height: 4, rx: 2 }),
    draw("rect", { class: "band", x: at(expected_low), y: 4, width: band, height: 8, rx: 2 }),
    draw("rect", { class: "mark", x: Math.max(0, at(observed) - 1.5), y: 0, width: 3, height: 16, rx: 1.5 }),
  );
}

export function startServices() {
  byId("service-measure").addEventListener("change", () => showServices(latest));
}
