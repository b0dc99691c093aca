// What differs between trials, and what it does: parallel coordinates, importance, slices.

function parametersSection() {
  const there = searches.filter((search) => search.parameters?.length && withResult(search).length > 1);
  if (!there.length) return null;
  return section(
    "parameters",
    "What the settings do",
    null,
    forSearch(there, (search) => {
      let goal = goals[0] ?? objectiveNames[0];
      const parts = [
        parallel(search, () => goal),
        importance(search, () => goal),
        slices(search, () => goal),
      ].filter(Boolean);
      const names = search.objectives.map(({ name, title }) => [name, title || name]);
      const change = (name) => {
        goal = name;
        parts.forEach((part) => part.redraw());
      };
      return element(
        "div",
        {},
        element("div", { class: "controls" }, picker("Objective", names, goal, change)),
        parts,
      );
    }),
  );
}

/** Returns a search's trials that training gave a value. */
function withResult(search) {
  return search.trials.filter(
    (trial) => isTrial(trial) && goals.some((name) => valueOf(trial, name) !== null),
  );
}

function configured(trial, name) {
  return name === "method" ? trial.method : trial.config?.[name];
}

/** Returns a part of the section: a heading, a line about it, and charts. */
function part(heading, explanation, ...content) {
  const made = element(
    "div",
    { class: "part" },
    element("h3", {}, heading),
    element("p", { class: "explanation" }, explanation),
    content,
  );
  made.redraw = () => made.querySelectorAll(".chart").forEach((place) => place.redraw());
  return made;
}

/** Returns bars with the importance of each parameter for an objective, or null if none is known. */
function importance(search, goalNow) {
  const of = (goal) => Object.entries(search.importance?.[goal] ?? {}).filter(([, share]) => isNumber(share));
  const most = Math.max(0, ...search.objectives.map(({ name }) => of(name).length));
  if (!most) return null;
  const figureNow = () => {
    const bars = of(goalNow()).sort(([, a], [, b]) => a - b);
    return {
      data: [
        {
          type: "bar",
          orientation: "h",
          x: bars.map(([, value]) => 100 * value),
          y: bars.map(([name]) => clipped(name.replaceAll("_", " "), 30)),
          text: bars.map(([, value]) => share(value)),
          textposition: "outside",
          cliponaxis: false,
          hoverinfo: "skip",
          marker: { color: colour("front") },
        },
      ],
      layout: {
        xaxis: { title: { text: "share (%)" }, range: [0, 118 * (bars.at(-1)?.[1] ?? 1)] },
        yaxis: { type: "category" },
        bargap: 0.35,
      },
    };
  };
  return part(
    "Importance",
    "How much each setting decides how good a trial is. It does not say which values are good: the slices do.",
    chart("Importance of each parameter", figureNow, { height: 80 + 32 * most }),
  );
}

/** Returns the objective against each parameter. */
function slices(search, goalNow) {
  const some = withResult(search);
  return part(
    "Slices",
    "The objective, on the validation split, against each setting by itself. Filled points are on the front.",
    element(
      "div",
      { class: "grid" },
      search.parameters.map((parameter) =>
        chart(`Objective against ${parameter.name}`, () => sliceFigure(some, parameter, goalNow()), {
          height: 260,
          follows: ["trial"],
        }),
      ),
    ),
  );
}

function sliceFigure(some, { name, kind, log }, goal) {
  const there = some.filter(
    (trial) => (configured(trial, name) ?? null) !== null && valueOf(trial, goal) !== null,
  );
  const number = kind === "number" && there.every((trial) => isNumber(configured(trial, name)));
  const texts = number ? [] : [...new Set(there.map((trial) => setting(configured(trial, name))))].sort();
  const trace = (of, marker) => ({
    type: "scatter",
    mode: "markers",
    x: of.map((trial) =>
      number ? configured(trial, name) : texts.indexOf(setting(configured(trial, name))),
    ),
    y: scaled(
      of.map((trial) => valueOf(trial, goal)),
      goal,
    ),
    marker,
    ...pointing(of),
  });
  return {
    data: [
      trace(
        there.filter((trial) => !isMember(trial)),
        { size: 6, color: colour("trial"), opacity: 0.7, symbol: "circle-open" },
      ),
      trace(there.filter(isMember), { size: 8, color: colour("front") }),
      trace(
        there.filter((trial) => trial === selected()),
        { size: 14, color: colour("text"), symbol: "circle-open", line: { width: 2 } },
      ),
    ],
    layout: {
      xaxis: {
        title: { text: clipped(name.replaceAll("_", " "), 40) },
        ...(number ? { type: log ? "log" : "linear" } : axisOfTexts(texts, 24, 12)),
      },
      yaxis: { title: { text: inChart(titleOf(goal).replace(/^validation /, "")) } },
    },
  };
}
