// Draws charts with plotly.js, which the page holds compressed.

/** Unpacks plotly.js and runs it; returns whether this browser can. */
async function loadPlotly() {
  if (typeof DecompressionStream === "undefined") return false;
  const packed = atob(document.getElementById("plotly").textContent);
  const bytes = new Uint8Array(packed.length);
  for (let index = 0; index < packed.length; index++) bytes[index] = packed.charCodeAt(index);
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  // The hash of this very text is in the page's content security policy.
  document.head.append(element("script", {}, await new Response(unpacked).text()));
  return typeof Plotly !== "undefined";
}

/** Charts in the page, in the order of their making. */
const charts = [];

/**
 * Returns a place in which a chart is drawn once it comes near to what is seen.
 *
 * `describe` is for those who cannot see it. `draw` returns {data, layout}, and is called again after each change
 * of what `follows` names, of the theme, and of the searches that are shown. A click on a point whose customdata
 * is a trial's key selects that trial.
 */
function chart(describe, draw, { height = 360, follows = [] } = {}) {
  const place = element("div", {
    class: "chart",
    role: "img",
    "aria-label": describe,
    style: `height: ${height}px`,
  });
  const made = { place, drawn: false, near: false, stale: true };
  made.now = () => {
    made.stale = false;
    const { data, layout } = draw();
    const size = { width: place.clientWidth, height: place.clientHeight };
    Plotly.react(place, data, { ...withTheme(layout), ...size }, CONFIG);
    if (made.drawn) return;
    made.drawn = true;
    place.on("plotly_click", ({ points }) => select(byKey.get(points[0]?.customdata)));
    new ResizeObserver(() => place.clientWidth && made.redraw()).observe(place);
  };
  // What is far from what is seen waits, so that the slider moves smoothly.
  made.redraw = oncePerFrame(() => {
    made.stale = true;
    if (made.near) made.now();
  });
  for (const what of ["theme", "searches", ...follows]) onChange(what, made.redraw);
  charts.push(made);
  seen?.observe(place);
  place.redraw = made.redraw;
  return place;
}

/** Charts are not drawn before this is there, so that the page can be read at once. */
let seen = null;

/** Draws the charts that are near to what is seen, and the others later, or for a printer. */
function startCharts() {
  seen = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        const made = charts.find(({ place }) => place === target);
        made.near = isIntersecting;
        if (made.near && made.stale) made.now();
      }
    },
    { rootMargin: "600px" },
  );
  for (const { place } of charts) seen.observe(place);
  const inPage = () => charts.filter(({ place }) => place.isConnected);
  let theme;
  addEventListener("beforeprint", () => {
    theme = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
    document.documentElement.dataset.printing = "true";
    colours.clear();
    for (const each of inPage()) each.now();
  });
  addEventListener("afterprint", () => {
    if (theme === undefined) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    delete document.documentElement.dataset.printing;
    changed("theme");
  });
}

const CONFIG = {
  displaylogo: false,
  // These and no others: plotly.js has one that sends a chart to a server.
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
};

const swatch = element("span", { hidden: true });
const colours = new Map();

/** Returns a colour of the style sheet in the theme of now. */
function colour(name) {
  if (!colours.has(name)) {
    if (!swatch.isConnected) document.body.append(swatch);
    swatch.style.color = `var(--${name})`;
    colours.set(name, getComputedStyle(swatch).color);
  }
  return colours.get(name);
}

/** Returns the colour of the nth series. */
function seriesColour(number) {
  return colour(`series-${(number % 8) + 1}`);
}

/** Returns a layout in the page's own look. */
function withTheme(layout) {
  const axis = {
    gridcolor: colour("grid"),
    linecolor: colour("line"),
    zerolinecolor: colour("line"),
    zeroline: false,
    tickcolor: colour("line"),
    automargin: true,
    exponentformat: "e",
  };
  const themed = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("text-soft") },
    margin: { l: 12, r: 12, t: 12, b: 12 },
    hovermode: "closest",
    hoverlabel: {
      bgcolor: colour("surface"),
      bordercolor: colour("line"),
      font: { color: colour("text"), size: 13 },
      align: "left",
    },
    showlegend: false,
    modebar: {
      orientation: "v",
      bgcolor: "rgba(0,0,0,0)",
      color: colour("line"),
      activecolor: colour("accent"),
    },
    // A finger scrolls the page rather than zooming into a chart.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    ...layout,
  };
  for (const [name, value] of Object.entries(layout)) {
    if (!/^[xy]axis\d*$/.test(name)) continue;
    const title = value.title && { standoff: 10, font: { size: 13 }, ...value.title };
    themed[name] = { ...axis, ...value, ...(title ? { title } : {}) };
  }
  themed.xaxis ??= axis;
  themed.yaxis ??= axis;
  return themed;
}

/** Returns a text for a chart. Charts read some tags in texts, so that a user's own are written as text. */
function inChart(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Returns a text of at most so many characters for a chart. */
function clipped(text, most = 60) {
  return inChart(text.length > most ? `${text.slice(0, most - 1)}…` : text);
}

/** Returns what is shown when a trial is pointed at: its name, all objectives, its luck and its settings. */
function hoverText(trial) {
  trial.hover ??= madeHoverText(trial);
  return trial.hover;
}

function madeHoverText(trial) {
  const lines = [`<b>${clipped(memberName(trial))}</b>`];
  if (trial.status !== "finished") lines.push(clipped(statusOf(trial)));
  for (const name of objectiveNames) {
    const value = figure(trial, name);
    const test = testedNames.includes(name) ? figure(trial, name, "test") : NOTHING;
    if (value === NOTHING && test === NOTHING) continue;
    lines.push(inChart(`${name} ${value}${test === NOTHING ? "" : `, test ${test}`}`));
  }
  if (isNumber(trial.p_front)) lines.push(inChart(`on the front with probability ${share(trial.p_front)}`));
  const settings = settingsOf(trial);
  if (settings.length) lines.push("");
  for (const [name, value] of settings.slice(0, 14)) lines.push(clipped(`${name} = ${value}`));
  if (settings.length > 14) lines.push(`and ${count(settings.length - 14, "further setting")}`);
  return lines.join("<br>");
}

/** Returns what points of trials have in all charts: what is shown at them, and what a click on them selects. */
function pointing(some) {
  return { customdata: some.map(({ key }) => key), hovertext: some.map(hoverText), hoverinfo: "text" };
}

/** Returns values of an objective for an axis, in the unit that the axis names. */
function scaled(values, name) {
  const { scale } = unitOf(objectives.get(name).unit);
  return values.map((value) => (value === null ? null : value * scale));
}

/** Returns an axis of texts for places 0, 1, 2 …, of which at most so many are written, clipped. */
function axisOfTexts(texts, length, most = Infinity) {
  const every = Math.max(1, Math.ceil(texts.length / most));
  const places = [...texts.keys()].filter((place) => place % every === 0);
  return { tickvals: places, ticktext: places.map((place) => clipped(texts[place], length)) };
}

/** Returns an axis for an objective. */
function axisOf(name, split, log = false) {
  return { title: { text: inChart(titleOf(name, split)) }, type: log ? "log" : "linear" };
}
