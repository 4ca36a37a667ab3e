"use strict";
// The server tells, as events, what changed of each part of the page; here each part that changed is drawn anew, once per frame.
const WIDTH = 300, HEIGHT = 150, LEFT = 44, RIGHT = 6, TOP = 6, BOTTOM = 18;
const token = new URLSearchParams(location.search).get("token");
const at = id => document.getElementById(id);
const address = (path, more = {}) => path + "?" + new URLSearchParams({token, ...more});

let source = null, shown = null, parts = {}, dirty = {}, fresh = true, drawing = false;

function connect(name) {
  source?.close();
  shown = name;
  source = new EventSource(address("/events", {grid: name}));
  source.addEventListener("open", () => { fresh = true; lost(""); });
  source.addEventListener("error", () => lost("The connection to the server is lost, or it has ended; trying again."));
  source.addEventListener("change", event => {
    if (fresh) { forget(); fresh = false; }
    for (const [section, changed] of Object.entries(JSON.parse(event.data))) {
      const known = parts[section] ??= {}, marked = dirty[section] ??= new Set();
      for (const [key, part] of Object.entries(changed)) {
        if (part === null) delete known[key]; else known[key] = part;
        marked.add(key);
      }
    }
    if (!drawing) { drawing = true; requestAnimationFrame(draw); }
  });
}
function forget() {
  parts = {};
  dirty = {};
  for (const id of ["grids", "workers", "curves", "failures", "cells"]) at(id).replaceChildren();
  for (const id of ["workers", "curves", "failures"]) at(id + "-section").hidden = true;
  for (const id of ["verdicts", "tables"]) write(at("section-" + id), "");
}
function lost(words) {
  at("lost").hidden = !words;
  put(at("lost"), words);
}

// --- drawing -----------------------------------------------------------------------------------------------------------------

const drawers = {grids: drawGrids, board: drawBoard, head: drawHead, workers: drawWorkers, curves: drawCurves, failures: drawFailures,
  sections: drawSections, cells: drawCells};
function draw() {
  // One section per frame: none has to wait for all.
  drawing = false;
  const section = Object.keys(drawers).find(name => dirty[name]?.size);
  if (!section) return;
  const keys = dirty[section];
  dirty[section] = new Set();
  drawers[section](keys, parts[section] ?? {});
  drawing = true;
  requestAnimationFrame(draw);
}
function put(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}
function write(element, html) {  // what the server made of a template that escapes all text
  if (element.dataset.size !== String(html.length) || element.innerHTML !== html) element.innerHTML = html;
  element.dataset.size = html.length;
}
// Keeps one child per key, in the order of the keys; makes and changes only those that are named.
function children(parent, keys, known, make, change) {
  const own = parent.kept ??= new Map();
  if (!parent.firstChild) own.clear();
  for (const key of keys) {
    if (!(key in known)) { own.get(key)?.remove(); own.delete(key); continue; }
    if (!own.has(key)) own.set(key, make(key));
    change(own.get(key), known[key], key);
  }
  let place = parent.firstChild;
  for (const key of Object.keys(known).sort((a, b) => (known[a].at ?? 0) - (known[b].at ?? 0))) {
    const child = own.get(key);
    if (!child) continue;
    if (child === place) place = place.nextSibling; else parent.insertBefore(child, place);
  }
}
const rowOf = (count, ...numbers) => () => element("tr", {}, ...Array.from({length: count}, (_, index) =>
  element("td", {className: numbers.includes(index) ? "number" : ""})));
const fill = (row, texts) => texts.forEach((text, index) => put(row.cells[index], text));

function drawGrids(keys, known) {
  children(at("grids"), keys, known, name => {
    const link = element("a", {href: "#" + encodeURIComponent(name)}, name);
    return element("li", {}, link, element("progress", {max: 1, value: 0}), element("span", {className: "muted"}));
  }, (item, grid, name) => {
    const [link, bar, said] = item.children;
    bar.value = grid.planned ? grid.done / grid.planned : 0;
    bar.setAttribute("aria-label", name);
    put(said, grid.said);
    item.dataset.state = grid.state;
    if (name === shown) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  });
  const names = Object.keys(known);
  document.body.classList.toggle("single", names.length < 2);
  if (!(shown in known) && names.length && !wanted()) {
    choose(names.find(name => known[name].state === "running") ?? names[0]);
    return;
  }
  const own = known[shown];
  at("waiting").hidden = Boolean(own);
  if (!own) return;
  at("bar").max = own.planned || 1;
  at("bar").value = own.done;
  put(at("said"), own.said);
  document.title = `${own.planned ? Math.floor(100 * own.done / own.planned) : 0} % ${shown}`;
  const told = `${shown}: ${own.state}` + (own.failed ? `, ${own.failed} without a result` : "");
  put(at("told"), told);
}
function drawBoard(keys, known) {
  put(at("results"), known.results ?? "");
  at("left-out").hidden = !known["left out"];
  put(at("left-out"), `${known["left out"]} more grids are not shown: name those to be watched.`);
}
function drawHead(keys, head) {
  at("grid").hidden = !head.name;
  put(at("name"), head.name ?? "");
  put(at("question"), head.question ?? "");
  put(at("mean-heading"), head.metric ? `mean ${head.metric} so far` : "mean so far");
  put(at("curves-axis"), head.curve ? "↑ " + head.curve : "");
  at("cells-note").hidden = !head.cells;
  put(at("cells-note"), head.cells ?? "");
}
function drawWorkers(keys, known) {
  at("workers-section").hidden = !Object.keys(known).length;
  children(at("workers"), keys, known, rowOf(6, 2, 4, 5),
    (row, one) => fill(row, [one.worker, one.cell, one.seed, one.place, one.score, one.seconds]));
}
function drawCells(keys, known) {
  children(at("cells"), keys, known, rowOf(4, 1, 2, 3), (row, one) => {
    fill(row, [one.cell, one.done, one.mean, one.failed]);
    row.cells[3].classList.toggle("worse", Boolean(one.failed));
  });
}
function drawFailures(keys, known) {
  at("failures-section").hidden = !Object.keys(known).length;
  children(at("failures"), keys, known, trial => {
    const pre = element("pre", {tabIndex: 0}), summary = element("summary");
    const made = element("details", {}, summary, pre);
    made.addEventListener("toggle", async () => {
      if (!made.open) return;
      put(pre, "reading ...");
      const answer = await fetch(address("/log", {grid: shown, trial})).catch(() => null);
      put(pre, answer === null ? "the server does not answer" : await answer.text());
    });
    return made;
  }, (made, one) => put(made.firstChild, `${one.cell} seed ${one.seed}: ${one.status.replaceAll("_", " ")}: ${one.error || "no message"}`));
}
function drawSections(keys, known) {
  for (const key of ["verdicts", "tables"]) if (keys.has(key)) write(at("section-" + key), known[key] ?? "");
  if (keys.has("answer")) write(at("section-answer"), known.answer ?? "<p class=\"muted\">None yet.</p>");
  at("section-problem").hidden = !known.problem;
  put(at("section-problem"), known.problem ?? "");
}

// --- curves ------------------------------------------------------------------------------------------------------------------

let ranges = "";
function drawCurves(keys, known) {
  at("curves-section").hidden = !Object.keys(known).length;
  const {share, log, unit} = parts.head ?? {};
  const points = Object.values(known).flatMap(panel => panel.lines.flatMap(line => line.points)).filter(([, y]) => !log || y > 0);
  if (!points.length) return;
  const across = [Math.min(...points.map(point => point[0])), Math.max(...points.map(point => point[0]))];
  const up = [Math.min(...points.map(point => point[1])), Math.max(...points.map(point => point[1]))];
  const same = JSON.stringify([across, up, share, log]);
  const changed = same === ranges && at("curves").firstChild ? keys : new Set([...keys, ...Object.keys(known)]);
  ranges = same;
  children(at("curves"), changed, known, cell => element("figure", {className: "panel"}, element("h3", {}, cell),
    drawn("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "curve"})),
  (figure, panel) => {
    const svg = figure.children[1];
    svg.setAttribute("aria-label", `${panel.cell}: ${panel.said}`);
    svg.replaceChildren(...axes(across, up, share, log, unit), ...panel.lines.map(line => path(line, across, up, log)));
  });
}
const scaled = ([low, high], from, to, log) => value => {
  const [a, b, x] = log ? [Math.log(low), Math.log(high), Math.log(value)] : [low, high, value];
  return from + (to - from) * (b > a ? (x - a) / (b - a) : 0.5);
};
const number = new Intl.NumberFormat("en", {maximumSignificantDigits: 3});
const percent = new Intl.NumberFormat("en", {style: "percent", maximumSignificantDigits: 3});
function axes(across, up, share, log, unit) {
  const form = share ? percent : number, frame = `M${LEFT},${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}`;
  const text = (x, y, anchor, words) => drawn("text", {x, y, "text-anchor": anchor, class: "tick"}, words);
  return [drawn("path", {d: frame, class: "frame"}), text(LEFT - 4, TOP + 9, "end", form.format(up[1])),
    text(LEFT - 4, HEIGHT - BOTTOM, "end", form.format(up[0])), text(LEFT, HEIGHT - 4, "start", number.format(across[0])),
    text(WIDTH - RIGHT, HEIGHT - 4, "end", `${number.format(across[1])} ${unit}`)];
}
function path(line, across, up, log) {
  const x = scaled(across, LEFT, WIDTH - RIGHT), y = scaled(up, HEIGHT - BOTTOM, TOP, log);
  const points = line.points.filter(([, value]) => !log || value > 0);
  const d = points.map(([a, b], index) => `${index ? "L" : "M"}${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("");
  const made = drawn("g", {class: line.grows ? "grows" : "ended"}, drawn("path", {d: d || "M0,0"}));
  if (line.grows && points.length) made.append(drawn("circle", {cx: x(points.at(-1)[0]), cy: y(points.at(-1)[1]), r: 3}));
  return made;
}

// --- which grid --------------------------------------------------------------------------------------------------------------

function wanted() {
  try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; }
}
function choose(name) {
  history.replaceState(null, "", "#" + encodeURIComponent(name));
  connect(name);
}
addEventListener("hashchange", () => connect(wanted()));
document.querySelector(".skip").addEventListener("click", event => { event.preventDefault(); at("content").focus(); });
connect(wanted());
