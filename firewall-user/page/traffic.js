// The chart, its sentence and its table: three ways to the same numbers.

import { byId, cell, number, rows, show } from "./dom.js";
import { short, time, timeText } from "./format.js";

const HEIGHT = 220;
// Rows of the table, and seconds that each sums up.
const ROWS = 15;

let chart = null;
let points = [];

export const latestTime = () => points.at(-1)?.time ?? 0;
export const history = () => points;

// Points of before a restart of the daemon stay: they are still true.
export function addTraffic(document) {
  const known = latestTime();
  points.push(...document.points.filter((point) => point.time > known));
  points = points.slice(-1800);
}

function chosen() {
  const bits = byId("traffic-unit").value === "bits";
  return {
    direction: byId("traffic-direction").value,
    value: bits ? (rate) => rate.bytes_per_second * 8 : (rate) => rate.packets_per_second,
    unit: bits ? "bit/s" : "packets/s",
    seconds: Number(byId("traffic-span").value),
  };
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function axis(extra) {
  const line = color("--line");
  return { stroke: color("--muted"), grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif", ...extra };
}

function create(unit, width) {
  const series = (label, name, dash) => ({
    label,
    stroke: color(name),
    fill: `${color(name)}22`,
    width: 2,
    dash,
    points: { show: false },
    value: (_, value) => (typeof value === "number" ? short(value, unit) : "\u2013"),
  });
  const stamp = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return new uPlot(
    {
      width,
      height: HEIGHT,
      legend: { live: true },
      cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] } },
      series: [
        { label: "Time", value: (_, value) => (typeof value !== "number" ? "\u2013" : stamp.format(new Date(value * 1000))) },
        series("Passed", "--pass"),
        series("Dropped", "--drop", [6, 3]),
      ],
      axes: [
        axis({ space: 80, values: (_, times) => times.map((each) => stamp.format(new Date(each * 1000)).slice(0, 8)) }),
        axis({ size: 62, values: (_, values) => values.map((value) => short(value)) }),
      ],
    },
    [[], [], []],
    byId("chart"),
  );
}

export function showTraffic() {
  const { direction, value, unit, seconds } = chosen();
  const from = latestTime() - seconds;
  const window = points.filter((point) => point.time > from);
  const place = byId("chart");
  if (chart === null && place.clientWidth > 0) {
    chart = create(unit, place.clientWidth);
  }
  chart?.setData([
    window.map((point) => point.time),
    window.map((point) => value(point[direction].pass)),
    window.map((point) => value(point[direction].drop)),
  ]);
  showText(window, direction, value, unit);
  showTable(window, direction, value, unit);
}

function showText(window, direction, value, unit) {
  const last = window.at(-1);
  if (!last) {
    show(byId("traffic-text"), "none", () => "The first point comes within seconds.");
    return;
  }
  const now = last[direction];
  const peak = (verdict) => Math.max(...window.map((point) => value(point[direction][verdict])));
  const text = `Now ${short(value(now.pass), unit)} passed and ${short(value(now.drop), unit)} dropped, ${direction}; at most ${short(peak("pass"), unit)} and ${short(peak("drop"), unit)} since ${timeText(window[0].time)}.`;
  show(byId("traffic-text"), text, (shown) => shown);
}

function showTable(window, direction, value, unit) {
  const size = Math.max(1, Math.ceil(window.length / ROWS));
  const parts = [];
  for (let end = window.length; end > 0; end -= size) {
    const part = window.slice(Math.max(0, end - size), end);
    const mean = (verdict) => part.reduce((sum, point) => sum + value(point[direction][verdict]), 0) / part.length;
    parts.push({ time: part.at(-1).time, pass: short(mean("pass"), unit), drop: short(mean("drop"), unit) });
  }
  rows(byId("traffic-table"), parts, (part) => [cell(time(part.time)), number(part.pass), number(part.drop)], "Nothing yet.");
}

function redraw() {
  chart?.destroy();
  chart = null;
  showTraffic();
}

export function startTraffic() {
  for (const id of ["traffic-direction", "traffic-unit", "traffic-span"]) {
    byId(id).addEventListener("change", redraw);
  }
  document.addEventListener("theme", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(() => {
    const width = byId("chart").clientWidth;
    if (chart && width > 0 && width !== chart.width) {
      chart.setSize({ width, height: HEIGHT });
    }
  }).observe(byId("chart"));
}
