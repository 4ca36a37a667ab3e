const PRINTED = 660, PRINTED_PANEL = 320;  // CSS pixels of a page's width, and of one of two panels on it
const MARKS = {circle: "M4,0A4,4 0 1 1 -4,0A4,4 0 1 1 4,0Z", square: "M-4,-4H4V4H-4Z", diamond: "M0,-5L5,0L0,5L-5,0Z",
  "triangle-up": "M0,-5L5,4H-5Z", "triangle-down": "M0,5L5,-4H-5Z",
  cross: "M-5,-2H-2V-5H2V-2H5V2H2V5H-2V2H-5Z", x: "M-5,-3L-3,-5L0,-2L3,-5L5,-3L2,0L5,3L3,5L0,2L-3,5L-5,3L-2,0Z"};
const STROKES = {solid: "", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3"};

const ink = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function inked(value) {
  if (typeof value === "string") return value.startsWith("--") ? ink(value) : value;
  if (Array.isArray(value)) return value.map(inked);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, inked(one)]));
}
function swatch(item) {
  const made = drawn("svg", {width: 34, height: 14, viewBox: "-17 -7 34 14", "aria-hidden": "true"});
  const look = `stroke:${item.color.startsWith("--") ? `var(${item.color})` : item.color}`;
  if (item.dash) made.append(drawn("line", {x1: -16, x2: 16, style: look, "stroke-width": 2, "stroke-dasharray": STROKES[item.dash]}));
  if (item.symbol) made.append(drawn("path", {d: MARKS[item.symbol], style: look.replace("stroke", "fill")}));
  return made;
}

// Each panel is a plot of its own, so that the style sheet decides how many stand side by side.
function build(chart, index) {
  const place = document.getElementById("chart-" + index);
  const keys = chart.legend.map(item => item.key ?? item.name);
  if (keys.length) {
    const boxes = chart.legend.map((item, at) => element("input", {type: "checkbox", checked: true, value: keys[at]}));
    const show = () => {
      const shown = new Set(boxes.filter(box => box.checked).map(box => box.value));
      for (const panel of chart.panels)
        for (const trace of panel.data) trace.visible = !trace.legendgroup || shown.has(trace.legendgroup);
      draw(chart, index);
    };
    boxes.forEach(box => box.addEventListener("change", show));
    const labels = chart.legend.map((item, at) => element("label", {}, boxes[at], swatch(item), " " + item.name));
    const set = element("fieldset", {}, element("legend", {}, "Show"), ...labels);
    if (boxes.length > 2) for (const [word, checked] of [["all", true], ["none", false]])
      set.append(element("button", {type: "button", onclick: () => { boxes.forEach(box => { box.checked = checked; }); show(); }}, word));
    place.append(set);
  }
  if (chart.axes.y) place.append(element("p", {className: "axis"}, "↑ " + chart.axes.y));
  const panels = chart.panels.map((panel, at) => {
    const plot = element("div", {id: `plot-${index}-${at}`});
    return element("div", {className: "panel"}, ...(panel.title ? [element("h3", {}, panel.title)] : []), plot);
  });
  place.append(element("div", {className: panels.length > 1 ? "panels" : ""}, ...panels));
  place.append(element("p", {className: "axis end"}, chart.axes.x + " →"));
  draw(chart, index);
}
function layout(own, printing, several) {
  const axis = {gridcolor: ink("--line"), zerolinecolor: ink("--muted"), linecolor: ink("--muted"), automargin: true};
  const width = printing ? {width: several ? PRINTED_PANEL : PRINTED} : {};
  const drag = matchMedia("(pointer: coarse)").matches ? false : "zoom";  // a finger scrolls the page
  return {...inked(own), showlegend: false, dragmode: drag, margin: {t: 24, r: 14, b: 24, l: 12}, ...width,
    xaxis: {...axis, ...inked(own.xaxis)}, yaxis: {...axis, ...inked(own.yaxis)},
    hoverlabel: {align: "left", bgcolor: ink("--soft"), bordercolor: ink("--muted"), font: {color: ink("--ink")}},
    paper_bgcolor: ink("--paper"), plot_bgcolor: ink("--paper"), font: {color: ink("--ink"), size: 13}};
}
function draw(chart, index, printing = false) {
  const several = chart.panels.length > 1;
  chart.panels.forEach((panel, at) => Plotly.react(`plot-${index}-${at}`, inked(panel.data),
    layout(panel.layout, printing, several), {responsive: !printing, displayModeBar: false}));
}
charts.forEach(build);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((one, at) => draw(one, at)));
function printing(now) {
  document.documentElement.classList.toggle("print", now);
  charts.forEach((one, at) => draw(one, at, now));
}
addEventListener("beforeprint", () => printing(true));
addEventListener("afterprint", () => printing(false));
