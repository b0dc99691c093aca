// All trials over two objectives, and the front among them.

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
