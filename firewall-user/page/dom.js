// Builds what is shown. Text always becomes a text node: names in packets and policies are never markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) {
      element.append(child instanceof Node ? child : String(child));
    }
  }
  return element;
}

export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

const shown = new WeakMap();

// Replaces what an element holds, if it differs from what was put there last: a selection, a scroll position and a screen reader
// are not disturbed by what stays the same.
export function show(element, data, build) {
  const key = JSON.stringify(data);
  if (shown.get(element) === key) {
    return;
  }
  shown.set(element, key);
  element.replaceChildren(...[build(data)].flat().filter((child) => child !== null));
}

// A row whose cells know their column: on a phone they stand below each other with its name. Roles are said because a table that is
// laid out otherwise is none any more to some screen readers.
function line(cells, names) {
  cells.forEach((each, index) => {
    each.setAttribute("role", each.tagName === "TH" ? "rowheader" : "cell");
    each.setAttribute("data-label", names[index]);
    each.classList.toggle("nothing", each.textContent === "" && each.children.length === 0);
  });
  return make("tr", { role: "row" }, ...cells);
}

// The rows of a table; one sentence if there are none.
export function rows(table, data, build, none) {
  const body = table.tBodies[0];
  const names = [...table.tHead.rows[0].cells].map((each) => each.textContent);
  const columns = names.length;
  show(body, data, (items) =>
    items.length > 0
      ? items.map((item) => line(build(item), names))
      : make("tr", {}, make("td", { colspan: columns, class: "muted" }, none)),
  );
}

export const cell = (...children) => make("td", {}, ...children);
export const number = (...children) => make("td", { class: "number" }, ...children);
export const heading = (...children) => make("th", { scope: "row" }, ...children);
export const badge = (kind, text) => make("span", { class: `badge ${kind}` }, text);
