// Numbers with their units and times for people.

import { make } from "./dom.js";

const PREFIXES = ["", "k", "M", "G", "T", "P"];

// Three digits are what one reads at a glance.
export function short(value, unit = "") {
  let size = Number(value) || 0;
  let prefix = 0;
  while (Math.abs(size) >= 999.5 && prefix < PREFIXES.length - 1) {
    size /= 1000;
    prefix += 1;
  }
  const digits = prefix === 0 && Number.isInteger(size) ? 0 : size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
  const text = size.toFixed(digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  const tail = `${PREFIXES[prefix]}${unit}`;
  return tail === "" ? text : `${text}\u00a0${tail}`;
}

export const whole = (value) => Number(value || 0).toLocaleString("en");

export function span(seconds) {
  const all = Math.max(0, Math.round(seconds));
  const parts = [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
  ];
  for (const [size, unit] of parts) {
    if (all >= 2 * size) {
      return `${Math.floor(all / size)}\u00a0${unit}`;
    }
  }
  return `${all}\u00a0s`;
}

const moment = (time) => (typeof time === "number" ? new Date(time * 1000) : new Date(time));

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const calendar = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});

export function timeText(time) {
  const date = moment(time);
  if (Number.isNaN(date.getTime())) {
    return "unknown";
  }
  const today = date.toDateString() === new Date().toDateString();
  return (today ? clock : calendar).format(date);
}

// Local time, with UTC behind it for whoever compares logs.
export function time(value) {
  const date = moment(value);
  const utc = Number.isNaN(date.getTime()) ? "" : date.toISOString();
  return make("time", { datetime: utc, title: `${utc.replace("T", " ").replace(/\.\d+Z$/, "")} UTC` }, timeText(value));
}

export const words = (name) => String(name).replaceAll("_", " ");
