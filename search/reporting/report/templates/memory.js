// Memory as it was predicted and as it was measured.

const MEMORY_KINDS = {
  tensors: { title: "Tensors", expected: "expected", measured: "measured" },
  allocator: { title: "Allocator", expected: "expected_reserved", measured: "reserved" },
};

function memorySection() {
  const rows = searches.flatMap((search) =>
    (search.memory ?? [])
      .map((row) => ({ ...row, trial: trialOf(search, row.id) }))
      .filter(({ trial }) => trial),
  );
  const pairs = (kind) =>
    rows.filter(
      (row) => isNumber(row[kind.expected]) && isNumber(row[kind.measured]) && row[kind.expected] > 0,
    );
  const there = Object.entries(MEMORY_KINDS).filter(([, kind]) => pairs(kind).length);
  if (!there.length) return null;
  let kind = there[0][1];
  const shown = () => pairs(kind).filter(({ trial }) => isShown(trial));
  const line = element("p", { class: "finding" });
  const place = chart("Predicted against measured memory", () => diagonalFigure(shown(), kind), {
    height: 400,
    follows: ["trial"],
  });
  const errors = chart("Relative errors of predicted memory", () => errorsFigure(shown(), kind), {
    height: 400,
    follows: ["trial"],
  });
  const update = () => {
    line.textContent = memoryLine(shown(), kind);
    place.redraw();
    errors.redraw();
  };
  onChange("searches", update);
  line.textContent = memoryLine(shown(), kind);
  const change = (name) => {
    kind = MEMORY_KINDS[name];
    update();
  };
  const controls =
    there.length > 1
      ? element(
          "div",
          { class: "controls" },
          switcher(
            "Of",
            there.map(([name, { title }]) => [name, title]),
            there[0][0],
            change,
          ),
        )
      : null;
  return section(
    "memory",
    "Predicted and measured memory",
    "What a step was predicted to need where it ran, before it ran, and what it then took.",
    controls,
    line,
    element("div", { class: "halves" }, place, errors),
  );
}

function errorOfMemory(row, kind) {
  return row[kind.measured] / row[kind.expected] - 1;
}

function memoryLine(rows, kind) {
  if (!rows.length) return "";
  const errors = rows.map((row) => Math.abs(errorOfMemory(row, kind)));
  const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
  const off = `${percent(median(errors))} in the median and ${percent(Math.max(...errors))} at most`;
  return `In ${count(rows.length, "trial")} the prediction is off by ${off}.`;
}

function memoryTrace(rows, y, kind) {
  const pointed = pointing(rows.map(({ trial }) => trial));
  return {
    type: "scatter",
    mode: "markers",
    x: rows.map((row) => row[kind.expected]),
    y,
    marker: {
      size: rows.map(({ trial }) => (trial === selected() ? 12 : 7)),
      color: rows.map(({ trial }) => ownColour(trial, "front")),
      opacity: 0.7,
      line: { width: rows.map(({ trial }) => (trial === selected() ? 2 : 0)), color: colour("text") },
    },
    ...pointed,
    hovertext: rows.map((row, index) => `${comparedMemory(row, kind)}<br><br>${pointed.hovertext[index]}`),
  };
}

function comparedMemory(row, kind) {
  const [expected, measured] = [kind.expected, kind.measured].map((name) => written(row[name], "GiB"));
  return `predicted ${expected}, measured ${measured} (${signedShare(errorOfMemory(row, kind))})`;
}

function signedShare(value) {
  return `${value < 0 ? "−" : "+"}${(100 * Math.abs(value)).toFixed(1)} %`;
}

function diagonalFigure(rows, kind) {
  const most = Math.max(...rows.flatMap((row) => [row[kind.expected], row[kind.measured]]), 0) * 1.05;
  const diagonal = {
    type: "line",
    layer: "below",
    x0: 0,
    y0: 0,
    x1: most,
    y1: most,
    line: { color: colour("line"), width: 1.5, dash: "dash" },
  };
  return {
    data: [
      memoryTrace(
        rows,
        rows.map((row) => row[kind.measured]),
        kind,
      ),
    ],
    layout: {
      xaxis: { title: { text: "predicted (GiB)" }, range: [0, most] },
      yaxis: { title: { text: "measured (GiB)" }, range: [0, most] },
      shapes: [diagonal],
    },
  };
}

function errorsFigure(rows, kind) {
  const errors = rows.map((row) => 100 * errorOfMemory(row, kind));
  const most = 1.15 * Math.max(...errors.map(Math.abs), 0.5);
  return {
    data: [memoryTrace(rows, errors, kind)],
    layout: {
      xaxis: { title: { text: "predicted (GiB)" }, rangemode: "tozero" },
      yaxis: { title: { text: "measured above predicted (%)" }, range: [-most, most], zeroline: true },
    },
  };
}
