// Who sends most, and whether they are banned or limited.

import { badge, byId, cell, heading, number, rows } from "./dom.js";
import { short, span, time, whole } from "./format.js";

export const sourcesPath = () => `sources?limit=20&by=${byId("source-order").value}`;

export function showSources(sources, bans) {
  const answers = new Map(bans.map((ban) => [ban.prefix.replace(/\/(32|64|128)$/, ""), ban]));
  const shown = sources
    .filter((source) => source.packets > 0)
    .map((source) => ({ ...source, seen: source.last_seen.slice(0, 19) + "Z", answer: answer(answers.get(source.source)) }));
  rows(byId("source-table"), shown, row, "No source was seen yet.");
}

function answer(ban) {
  if (!ban) {
    return null;
  }
  const left = ban.remaining_seconds === null ? "for ever" : `for ${span(ban.remaining_seconds)}`;
  return `${ban.measure === "limit" ? "limited" : "banned"} ${left}`;
}

function row(source) {
  const name = source.source.includes(":") ? `${source.source}/64` : source.source;
  return [
    heading(name),
    number(short(source.packets_per_second)),
    number(short(source.bytes_per_second * 8)),
    number(short(source.syns_per_second)),
    number(short(source.requests_per_second)),
    number(whole(source.packets)),
    number(whole(source.drops)),
    cell(time(source.seen)),
    cell(source.answer === null ? "" : badge("warning", source.answer)),
  ];
}

export function startSources(again) {
  byId("source-order").addEventListener("change", again);
}
