// The points, lines and bars of the chart of the front.

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
