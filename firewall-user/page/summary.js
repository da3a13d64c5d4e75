// What one sees first: whether all is quiet, what passes and what is dropped, and what needs a hand.

import { byId, make, show } from "./dom.js";
import { short, span, time, timeText, whole } from "./format.js";

function tile(name, value, note = "") {
  return make("div", { class: "tile" }, make("dt", {}, name), make("dd", {}, make("b", {}, value), make("span", { class: "muted" }, note)));
}

export function showSummary({ status, traffic }) {
  const latest = traffic.at(-1);
  const inbound = latest?.inbound;
  const bits = inbound ? (inbound.pass.bytes_per_second + inbound.drop.bytes_per_second) * 8 : 0;
  const observing = status.policy.mode === "observe";
  const fill = status.maps
    .filter((map) => map.capacity > 0)
    .map((map) => ({ ...map, share: map.entries / map.capacity }))
    .sort((one, other) => other.share - one.share)[0];
  const data = [
    ["Passed in", inbound ? short(inbound.pass.packets_per_second, "packets/s") : "none yet", `${short(bits, "bit/s")} in all`],
    ["Dropped in", inbound ? short(inbound.drop.packets_per_second, "packets/s") : "none yet", observing ? "observing: nothing is dropped" : "enforcing"],
    ["Sources", short(status.sources_tracked), "known now"],
    ["Bans", whole(status.bans.manual + status.bans.automatic), `${whole(status.bans.automatic)} automatic`],
    ["Policy", `generation ${status.policy.generation}`, `${whole(status.policy.rules)} rules, since ${timeText(status.policy.applied)}`],
    ["Fullest table", fill ? `${(fill.share * 100).toFixed(fill.share < 0.1 ? 1 : 0)}\u00a0%` : "none", fill ? fill.map.toLowerCase().replaceAll("_", " ") : ""],
  ];
  show(byId("tiles"), data, (tiles) => tiles.map((each) => tile(...each)));
  const build = status.revision === "unknown" ? "" : ` (${status.revision})`;
  show(byId("version"), [status.version, build], () => `Palisade ${status.version}${build}`);
  showNotices(status);
}

export function showVerdict(active) {
  const element = byId("verdict");
  const worst = ["critical", "warning", "info"].find((level) => active.some((incident) => incident.severity === level));
  element.className = `verdict ${active.length === 0 ? "quiet" : worst}`;
  const count = active.length === 1 ? "1 incident" : `${active.length} incidents`;
  show(element, [active.length, worst], () => (active.length === 0 ? "All quiet" : `${count} now`));
  document.title = active.length === 0 ? "Palisade" : `(${active.length}) Palisade`;
}

function showNotices(status) {
  const notices = [];
  const { policy, health, interfaces } = status;
  if (policy.mode === "observe") {
    notices.push(["note", "Observing: rules are counted and nothing is dropped."]);
  }
  if (policy.trial) {
    notices.push(["warning", `The policy in force is on trial: generation ${policy.trial.previous_generation} is back in ${span(policy.trial.remaining_seconds)} unless it is confirmed.`]);
  }
  if (!policy.valid) {
    notices.push(["warning", `The policy file is not in force as it stands: ${policy.error ?? "it was given back"}`]);
  }
  if (interfaces.length === 0) {
    notices.push(["critical", "No interface is protected: the fence is down."]);
  }
  for (const cut of policy.cuts) {
    notices.push(["warning", `The policy cuts what this host lives by: ${typeof cut === "string" ? cut : (cut.message ?? JSON.stringify(cut))}`]);
  }
  if (health.events_lost > 0) {
    notices.push(["note", `${whole(health.events_lost)} samples of packets were lost; verdicts and counts are not affected.`]);
  }
  show(byId("notices"), notices, (all) => all.map(([kind, text]) => make("p", { class: `notice ${kind}` }, text)));
}

// When what is shown was read; loud once it is old.
export function showAge(read, failing) {
  const element = byId("fresh");
  element.classList.toggle("stale", failing);
  document.body.classList.toggle("stale", failing);
  if (read === null) {
    show(element, ["never", failing], () => (failing ? "The daemon does not answer; trying again" : ""));
  } else if (failing) {
    show(element, ["stale", read], () => ["Stale since ", time(read / 1000), ": the daemon does not answer; trying again"]);
  } else {
    show(element, ["fresh", Math.floor(read / 1000)], () => ["As of ", time(read / 1000)]);
  }
}
