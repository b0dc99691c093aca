// Parallel coordinates: each trial as a line over its settings and its objectives.

/** Returns parallel coordinates: a line for each trial, an axis for each parameter and objective. */
function parallel(search, goalNow) {
  const some = withResult(search);
  const axes = [
    ...search.parameters.map((parameter) => parameterAxis(parameter, some)),
    ...search.objectives.map((objective) => objectiveAxis(objective, some)),
  ];
  const place = chart(
    "Parallel coordinates of settings and objectives",
    () => parallelFigure(some, axes, goalNow()),
    {
      height: 420,
      follows: ["trial"],
    },
  );
  place.style.minWidth = `${90 * axes.length}px`;
  return part(
    "Parallel coordinates",
    "Each line is a trial, from its settings to its objectives. The better the objective, the stronger the line. A click selects the trial.",
    element(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Parallel coordinates" },
      place,
    ),
  );
}

/** Returns an axis of a parameter: where values are from 0 to 1, and marks. Numbers that are missing are below 0. */
function parameterAxis({ name, kind, log }, some) {
  const values = some.map((trial) => configured(trial, name));
  if (kind === "number" && values.some(isNumber)) {
    return numberAxis(name.replaceAll("_", " "), (trial) => configured(trial, name), some, { log });
  }
  const there = [
    ...new Set(values.filter((value) => value !== undefined && value !== null).map(setting)),
  ].sort();
  const at = (text) => (there.length > 1 ? there.indexOf(text) / (there.length - 1) : 0.5);
  const step = Math.ceil(there.length / 12);
  return {
    title: name.replaceAll("_", " "),
    place: (trial) => {
      const value = configured(trial, name);
      return value === undefined || value === null ? null : at(setting(value));
    },
    marks: there.filter((_, index) => index % step === 0).map((text) => [at(text), clipped(text, 14)]),
  };
}

function objectiveAxis({ name, unit }, some) {
  const { symbol, scale } = unitOf(unit);
  const title = `${name.replaceAll("_", " ")}${symbol ? `, ${symbol}` : ""}`;
  return numberAxis(title, (trial) => valueOf(trial, name), some, { scale });
}

/** Returns an axis of numbers; `scale` is what one unit of the document is on the axis. */
function numberAxis(title, read, some, { log = false, scale = 1 }) {
  const warp = (value) => (log ? Math.log10(value) : value);
  const usable = (value) => isNumber(value) && (!log || value > 0);
  const values = some.map(read).filter(usable).map(warp);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const place = (value) => (most > least ? (warp(value) - least) / (most - least) : 0.5);
  const [first, last] = log ? [10 ** least, 10 ** most] : [least * scale, most * scale];
  const whole = some.map(read).filter(usable).every(Number.isInteger);
  const marks = most > least ? roundNumbers(first, last, { log, whole }) : [first];
  return {
    title,
    place: (trial) => {
      const value = read(trial);
      return usable(value) ? place(value) : null;
    },
    marks: marks.map((value) => [place(value / scale), plain(value)]),
  };
}

function parallelFigure(some, axes, goal) {
  const ordered = inOrder(
    some,
    (trial) => valueOf(trial, goal),
    objectives.get(goal).direction === "minimize",
  );
  const groups = [...Array(5).keys()].map((group) =>
    ordered.filter((_, index) => Math.floor((5 * index) / ordered.length) === group),
  );
  const lines = (group, line, name) => ({
    type: "scatter",
    mode: "lines",
    name,
    // Lines of a group are one trace, with gaps between them: hundreds of traces would be slow.
    x: group.flatMap(() => [...axes.keys(), null]),
    y: group.flatMap((trial) => [...axes.map((axis) => axis.place(trial) ?? -0.12), null]),
    customdata: group.flatMap(({ key }) => Array(axes.length + 1).fill(key)),
    hovertext: group.flatMap((trial) => Array(axes.length + 1).fill(hoverText(trial))),
    hoverinfo: "text",
    line,
  });
  const data = groups.map((group, index) =>
    lines(group, { color: colour("front"), width: 1 + 0.15 * index }, `fifth ${index + 1}`),
  );
  data.forEach((trace, index) => (trace.opacity = [0.1, 0.16, 0.25, 0.45, 0.9][index]));
  const trial = selected();
  if (trial && some.includes(trial))
    data.push(lines([trial], { color: colour("probe"), width: 3.5 }, "selected"));
  const mark = (text, x, y, more) => ({
    x,
    y,
    text,
    showarrow: false,
    font: { size: 11, color: colour("text-soft") },
    ...more,
  });
  const annotations = axes.flatMap(({ title, marks }, x) => [
    mark(`<b>${inLines(title)}</b>`, x, 1.06, {
      yanchor: "bottom",
      font: { size: 12, color: colour("text") },
    }),
    ...marks.map(([y, text]) => mark(text, x, y, { xanchor: "left", xshift: 4, bgcolor: colour("veil") })),
  ]);
  const unused = axes.some((axis) => some.some((each) => axis.place(each) === null));
  if (unused) annotations.push(mark("not used", 0, -0.12, { xanchor: "right", xshift: -6 }));
  return {
    data,
    layout: {
      xaxis: {
        range: [unused ? -0.7 : -0.3, axes.length - 0.4],
        tickvals: [...axes.keys()],
        showline: false,
        showticklabels: false,
        ticks: "",
        gridcolor: colour("line"),
        fixedrange: true,
      },
      yaxis: {
        range: [unused ? -0.2 : -0.06, 1.06],
        showgrid: false,
        showline: false,
        showticklabels: false,
        ticks: "",
        fixedrange: true,
      },
      margin: { l: 12, r: 12, t: 56, b: 12 },
      annotations,
    },
  };
}

/** Returns a title for a chart in lines of about twelve characters. */
function inLines(title) {
  const lines = [""];
  for (const word of title.split(" ")) {
    if (lines.at(-1) && `${lines.at(-1)} ${word}`.length > 12) lines.push(word);
    else lines[lines.length - 1] = `${lines.at(-1)} ${word}`.trim();
  }
  return lines
    .slice(0, 3)
    .map((line) => clipped(line, 14))
    .join("<br>");
}
