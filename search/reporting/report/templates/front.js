// All trials over two objectives, and the front among them.

/** How trials of each status are drawn; those that are missing here are drawn like stopped ones. */
const SYMBOLS = {
  finished: "circle",
  stopped: "triangle-down-open",
  paused: "triangle-down-open",
  running: "triangle-right-open",
  infeasible: "x-thin-open",
  out_of_memory: "square-open",
  diverged: "asterisk-open",
  failed: "cross-thin-open",
  set_aside: "line-ew-open",
};

/** What the chart shows: the names of the objectives of its axes, their scales, and the split. */
const view = {
  x: objectiveNames[0],
  y: objectiveNames[1] ?? objectiveNames[0],
  logX: false,
  logY: false,
  split: "validation",
};

/** Returns the first part of the page: the chart beside the budget. */
function frontSection() {
  const place = chart(
    `All trials over ${view.x} and ${view.y}; the front is a step line. The tables below hold the same values.`,
    frontFigure,
    { height: 520, follows: ["trial", "budget"] },
  );
  const note = element("p", { class: "explanation" });
  const redraw = () => {
    note.textContent = frontNote();
    place.redraw();
  };
  const set = (name) => (value) => {
    view[name] = value;
    redraw();
  };
  const options = objectiveNames.map((name) => [name, objectives.get(name).title || name]);
  const splits = [
    ["validation", "validation"],
    ["test", "test"],
    ["both", "both"],
  ];
  const controls = element(
    "div",
    { class: "controls" },
    element(
      "span",
      { class: "pair" },
      picker("Across", options, view.x, set("x")),
      checkbox("log", view.logX, set("logX")),
    ),
    element(
      "span",
      { class: "pair" },
      picker("Up", options, view.y, set("y")),
      checkbox("log", view.logY, set("logY")),
    ),
    testedNames.length ? switcher("Split", splits, view.split, set("split")) : null,
  );
  note.textContent = frontNote();
  onChange("searches", redraw);
  const heading = element("h2", { id: "front-heading" }, "The front");
  return element(
    "section",
    { id: "front", "aria-labelledby": "front-heading", class: "front" },
    element("div", { class: "panel" }, heading, controls, place, note),
    budgetPanel(),
  );
}

/** The split of the points that stand for trials; test values beside them are drawn in addition. */
function mainSplit() {
  return view.split === "test" ? "test" : "validation";
}

function frontFigure() {
  const shown = trials.filter((trial) => isShown(trial) && trial.kind !== "repeat");
  const [placed, unplaced] = [shown.filter(hasPlace), shown.filter((trial) => !hasPlace(trial))];
  const rest = placed.filter((trial) => !isMember(trial) && !isProbe(trial));
  const data = [
    ...shownSearches().flatMap(stepLine),
    ...perStatus(rest),
    ...errorBars(placed.filter((trial) => isMember(trial))),
    frontPoints(placed.filter((trial) => isMember(trial) && !isProbe(trial))),
    probePoints(placed.filter(isProbe)),
    ...(view.split === "both"
      ? [testPoints(placed.filter((trial) => isMember(trial) || isProbe(trial)))]
      : []),
    ...withoutResult(unplaced),
    ...selectionRing(placed),
  ].filter(({ x }) => x.length);
  const strip = data.some(({ yaxis }) => yaxis === "y2");
  const range = rangeOf(shown);
  const layout = {
    xaxis: {
      ...axisOf(view.x, mainSplit(), view.logX),
      ...(range ? { range } : {}),
      anchor: strip ? "y2" : "y",
    },
    yaxis: { ...axisOf(view.y, mainSplit(), view.logY), domain: strip ? [0.14, 1] : [0, 1] },
    shapes: budgetShapes(),
    annotations: budgetLabels(),
    showlegend: true,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemsizing: "constant" },
    uirevision: JSON.stringify(view),
  };
  if (strip) {
    layout.yaxis2 = {
      domain: [0, 0.09],
      range: [-1, 1],
      tickvals: [0],
      ticktext: ["no result"],
      showgrid: false,
      fixedrange: true,
    };
  }
  return { data, layout };
}

function hasPlace(trial) {
  return valueOf(trial, view.x, mainSplit()) !== null && valueOf(trial, view.y, mainSplit()) !== null;
}

/** Returns a trace with a point for each of some trials. */
function points(some, name, marker, split = mainSplit()) {
  return {
    type: "scatter",
    mode: "markers",
    name,
    x: scaled(
      some.map((trial) => valueOf(trial, view.x, split)),
      view.x,
    ),
    y: scaled(
      some.map((trial) => valueOf(trial, view.y, split)),
      view.y,
    ),
    marker,
    ...pointing(some),
  };
}

function frontPoints(some) {
  const marker = {
    symbol: "circle",
    size: 11,
    color: some.map((trial) => ownColour(trial, "front")),
    opacity: some.map(certainty),
    line: { color: colour("surface"), width: 1.5 },
  };
  return { ...points(some, "on the front", marker), legendrank: 1 };
}

function probePoints(some) {
  const marker = {
    symbol: "diamond",
    size: 11,
    color: some.map((trial) => ownColour(trial, "probe")),
    line: { color: colour("text"), width: 1 },
  };
  return { ...points(some, "probe", marker), legendrank: 2 };
}

/** Returns the colour of a trial's search if there are several, or else one of the style sheet. */
function ownColour(trial, name) {
  return several ? seriesColour(trial.search.number) : colour(name);
}

/** Returns the front of a search as a step line: what is best for each value of the x axis. */
function stepLine(search) {
  const front = nondominated(
    members.filter((trial) => trial.search === search),
    view.x,
    view.y,
    mainSplit(),
  );
  if (view.x === view.y || front.length < 2) return [];
  const values = (name) =>
    scaled(
      front.map((trial) => valueOf(trial, name, mainSplit())),
      name,
    );
  return [
    {
      type: "scatter",
      mode: "lines",
      x: values(view.x),
      y: values(view.y),
      line: {
        // The front of a budget: until the next member is affordable, the last one is the best.
        shape: "hv",
        color: several ? seriesColour(search.number) : colour("front"),
        width: 2,
      },
      hoverinfo: "skip",
      showlegend: false,
    },
  ];
}

/** Returns how sure it is that a member is on the front, as an opacity. */
function certainty(trial) {
  return isNumber(trial.p_front) ? 0.35 + 0.65 * trial.p_front : 1;
}

function perStatus(some) {
  return statusesOf(some).map((status) => {
    const of = some.filter((trial) => trial.status === status);
    const name = status === "finished" ? "other trials" : statusOf(of[0]);
    return points(of, name, {
      symbol: SYMBOLS[status] ?? "triangle-down-open",
      size: 7,
      color: of.map((trial) => ownColour(trial, "trial")),
      opacity: several || some.length > 300 ? 0.45 : 0.75,
    });
  });
}

/** Returns bars of one standard error; they are a trace of their own, so that points are drawn above them. */
function errorBars(some) {
  const split = mainSplit();
  const bars = (name) => {
    const errors = some.map((trial) => errorOf(trial, name, split) ?? 0);
    const { scale } = unitOf(objectives.get(name).unit);
    return {
      type: "data",
      array: errors.map((error) => error * scale),
      visible: errors.some((error) => error > 0),
      color: colour("error-bar"),
      thickness: 1.5,
      width: 4,
    };
  };
  return [
    {
      ...points(some, "standard error", { size: 0.1, opacity: 0 }),
      error_x: bars(view.x),
      error_y: bars(view.y),
      hoverinfo: "skip",
      showlegend: false,
    },
  ];
}

function testPoints(some) {
  const tested = some.filter(
    (trial) => valueOf(trial, view.x, "test") !== null && valueOf(trial, view.y, "test") !== null,
  );
  const marker = {
    symbol: "circle-open",
    size: 10,
    color: tested.map((trial) => ownColour(trial, isProbe(trial) ? "probe" : "front")),
    line: { width: 1.5 },
  };
  return points(tested, "on test", marker, "test");
}

/** Returns what has a value on the x axis only, such as infeasible trials, in a strip below the chart. */
function withoutResult(some) {
  const placed = some.filter((trial) => valueOf(trial, view.x, mainSplit()) !== null);
  return statusesOf(placed).map((status) => {
    const of = placed.filter((trial) => trial.status === status);
    const marker = {
      symbol: SYMBOLS[status] ?? "triangle-down-open",
      size: 8,
      color: of.map((trial) => ownColour(trial, "unfinished")),
      line: { width: 1.5 },
    };
    return { ...points(of, statusOf(of[0]), marker), y: of.map(() => 0), yaxis: "y2" };
  });
}

function selectionRing(placed) {
  const trial = selected();
  if (trial === null || !placed.includes(trial)) return [];
  const marker = { symbol: "circle-open", size: 19, color: colour("text"), line: { width: 2 } };
  return [{ ...points([trial], "selected", marker), hoverinfo: "skip", showlegend: false }];
}

function statusesOf(some) {
  const there = new Set(some.map(({ status }) => status));
  const known = Object.keys(SYMBOLS).filter((status) => there.has(status));
  return [...known, ...[...there].filter((status) => !(status in SYMBOLS))];
}

/** Returns the range of the x axis: it holds all results and budgets, as infeasible trials may be far away. */
function rangeOf(shown) {
  const { scale } = unitOf(objectives.get(view.x).unit);
  const budgets =
    view.x === cost
      ? shownSearches()
          .map(({ budget }) => budget)
          .filter(isNumber)
      : [];
  let values = [...shown.filter(hasPlace).map((trial) => valueOf(trial, view.x, mainSplit())), ...budgets];
  if (!values.length) values = shown.map((trial) => valueOf(trial, view.x, mainSplit())).filter(isNumber);
  values = values.map((value) => value * scale);
  if (view.logX) values = values.filter((value) => value > 0).map(Math.log10);
  if (!values.length) return null;
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const margin = 0.05 * (most - least || Math.abs(most) || 1);
  return [least - margin, most + margin * (budgets.length ? 4 : 1)];
}

/** Returns the trials that have a place on the x axis beyond its range. */
function beyond(shown) {
  const range = rangeOf(shown);
  const { scale } = unitOf(objectives.get(view.x).unit);
  const end = range && (view.logX ? 10 ** range[1] : range[1]);
  return shown.filter((trial) => range && (valueOf(trial, view.x, mainSplit()) ?? 0) * scale > end);
}

/** Returns the budgets of the searches, and what the slider leaves out, as shapes. */
function budgetShapes() {
  if (view.x !== cost) return [];
  const line = (x, style) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: style });
  const shapes = shownSearches()
    .filter(({ budget }) => isNumber(budget))
    .map((search) =>
      line(search.budget, {
        color: several ? seriesColour(search.number) : colour("budget"),
        width: 1.5,
        dash: "dash",
      }),
    );
  if (chosen.budget !== null)
    shapes.push(line(chosen.budget, { color: colour("accent"), width: 1.5, dash: "dot" }));
  return shapes;
}

function budgetLabels() {
  if (view.x !== cost) return [];
  const at = (x) => (view.logX ? Math.log10(x) : x);
  return shownSearches()
    .filter(({ budget }) => isNumber(budget))
    .map((search) => ({
      x: at(search.budget),
      y: 1,
      yref: "paper",
      yanchor: "top",
      xanchor: "right",
      xshift: -4,
      text: "budget",
      showarrow: false,
      font: { size: 12, color: several ? seriesColour(search.number) : colour("budget") },
    }));
}

function frontNote() {
  const shown = trials.filter((trial) => isShown(trial) && trial.kind !== "repeat");
  const nowhere = shown.filter((trial) => valueOf(trial, view.x, mainSplit()) === null);
  const ofFront = members.filter(isShown);
  const parts = [];
  if (ofFront.some((trial) => errorOf(trial, view.x) !== null || errorOf(trial, view.y) !== null))
    parts.push("Bars are one standard error.");
  if (ofFront.some(({ p_front: sure }) => isNumber(sure)))
    parts.push("The less likely a member is really on the front, the fainter it is.");
  if (nowhere.length)
    parts.push(`Left out: ${count(nowhere.length, "trial")} without a value on the lower axis.`);
  const far = beyond(shown);
  if (far.length)
    parts.push(`Further right: ${count(far.length, "trial")} without a result. A double click shows all.`);
  return parts.join(" ");
}
