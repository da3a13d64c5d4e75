// Incidents with their evidence, and what was done.

import { badge, byId, make, show } from "./dom.js";
import { span, short, time, words } from "./format.js";

// Ended ones that are shown.
const PAST = 20;

const cards = new Map();

export function showIncidents(incidents) {
  const active = incidents.filter((incident) => incident.state === "firing");
  const past = incidents.filter((incident) => incident.state !== "firing").slice(0, PAST);
  place(byId("incident-list"), active, "No incident now.");
  place(byId("past-list"), past, "");
  byId("past").hidden = past.length === 0;
  show(byId("past-title"), past.length, (count) => `Ended lately (${count})`);
  const known = new Set([...active, ...past].map((incident) => incident.id));
  for (const id of cards.keys()) {
    if (!known.has(id)) {
      cards.delete(id);
    }
  }
  return active;
}

// Cards stay the same elements, so that one that was opened stays open.
function place(list, incidents, none) {
  const wanted = incidents.map((incident) => {
    if (!cards.has(incident.id)) {
      cards.set(incident.id, make("article", { class: "incident", "data-id": incident.id }));
    }
    const card = cards.get(incident.id);
    card.className = `incident ${incident.state === "firing" ? incident.severity : "over"}`;
    const open = card.querySelector("details")?.open ?? false;
    show(card, incident, () => content(incident, open));
    return card;
  });
  const now = [...list.children];
  const same = wanted.length > 0 && wanted.length === now.length && wanted.every((card, index) => card === now[index]);
  if (!same) {
    const empty = list.querySelector(".empty");
    if (wanted.length > 0) {
      list.replaceChildren(...wanted);
    } else if (!empty) {
      list.replaceChildren(make("p", { class: "empty muted" }, none));
    }
  }
}

function content(incident, open) {
  const subjects = incident.subjects.map((each) => each.subject);
  const others = incident.subject_count - subjects.length;
  const lasting = incident.ended === null ? null : span(incident.ended - incident.started);
  return [
    make(
      "h3",
      {},
      badge(incident.severity, incident.severity),
      " ",
      incident.kinds.map(words).join(", "),
      make("span", { class: "muted" }, ` #${incident.id}`),
    ),
    make("p", {}, incident.why),
    make(
      "p",
      { class: "muted" },
      "Since ",
      time(incident.started),
      lasting === null ? ", goes on" : `, lasted ${lasting}`,
      ". Who: ",
      make("span", { class: "mono" }, subjects.slice(0, 8).join(", ")),
      subjects.length > 8 || others > 0 ? ` and ${short(Math.max(0, others) + Math.max(0, subjects.length - 8))} more` : "",
    ),
    make("p", { class: "done" }, make("b", {}, "Done: "), incident.response.length === 0 ? "nothing was done by itself" : incident.response.at(-1)),
    make(
      "details",
      { open },
      make("summary", {}, "Evidence and answers"),
      incident.response.length > 1 ? make("ol", {}, incident.response.map((each) => make("li", {}, each))) : null,
      evidence(incident.evidence),
    ),
  ];
}

// Nested tables of names and values; long lists are cut.
function evidence(value) {
  if (Array.isArray(value)) {
    if (value.every((each) => each === null || typeof each !== "object")) {
      return document.createTextNode(value.length === 0 ? "none" : value.slice(0, 12).map(plain).join(", ") + (value.length > 12 ? " ..." : ""));
    }
    return make("ul", {}, value.slice(0, 12).map((each) => make("li", {}, evidence(each))));
  }
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value);
    if (entries.length === 0) {
      return document.createTextNode("none");
    }
    return make(
      "dl",
      { class: "evidence" },
      entries.flatMap(([name, each]) => [make("dt", {}, words(name)), make("dd", {}, evidence(each))]),
    );
  }
  return document.createTextNode(plain(value));
}

function plain(value) {
  if (value === null) {
    return "none";
  }
  return typeof value === "number" ? short(value) : String(value);
}
