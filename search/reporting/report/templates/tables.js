// Tables that can be sorted, and whose rows select trials.

/** Rows that a long table shows at first. */
const FIRST_ROWS = 200;

/**
 * Returns a table.
 *
 * `columns` are {title, value, show, number, note}: `value` returns what a row is sorted by, `show` a text or an
 * element (the value itself if it is left out), `number` aligns to the right, `note` explains the title. If
 * `trialOf` is given, it returns the trial of a row, which a click on the row selects. The table's `show(rows)`
 * shows other rows.
 */
function dataTable(caption, columns, rows, { trialOf = null, limit = FIRST_ROWS } = {}) {
  const state = { rows, all: false, column: null, descending: false };
  const body = element("tbody");
  const more = element("button", {
    type: "button",
    onclick: () => {
      state.all = true;
      fill();
    },
  });
  const below = element("p", { class: "more" }, more);
  const headings = columns.map((column) =>
    element(
      "th",
      { scope: "col", class: column.number ? "number" : null, title: column.note },
      element("button", { type: "button", onclick: () => sortBy(column) }, column.title),
    ),
  );

  function sortBy(column) {
    // Numbers begin with the largest one, texts with "a".
    state.descending = state.column === column ? !state.descending : Boolean(column.number);
    state.column = column;
    fill();
  }

  function fill() {
    columns.forEach((column, index) => {
      const order = state.descending ? "descending" : "ascending";
      headings[index].setAttribute("aria-sort", column === state.column ? order : "none");
    });
    const sorted =
      state.column === null ? state.rows : inOrder(state.rows, state.column.value, state.descending);
    const shown = state.all ? sorted : sorted.slice(0, limit);
    body.replaceChildren(...shown.map(line));
    below.hidden = shown.length === sorted.length;
    more.textContent = `Show all ${sorted.length.toLocaleString("en")}`;
    mark();
  }

  function line(row) {
    const trial = trialOf?.(row);
    const cells = columns.map((column, index) => {
      const shown = column.show ? column.show(row) : (column.value(row) ?? NOTHING);
      const first = index === 0 && trial;
      const content = first
        ? element(
            "button",
            { type: "button", class: "row-button", "aria-label": `Select ${memberName(trial)}` },
            shown,
          )
        : shown;
      const long = typeof shown === "string" && shown.length > 40;
      return element("td", { class: column.number ? "number" : null, title: long ? shown : null }, content);
    });
    const made = element("tr", { "data-key": trial?.key, class: trial ? "selects" : null }, cells);
    if (trial) made.addEventListener("click", () => select(trial));
    return made;
  }

  function mark() {
    for (const made of body.rows) {
      const on = made.dataset.key !== undefined && made.dataset.key === chosen.trial;
      made.classList.toggle("selected", on);
      made.querySelector(".row-button")?.setAttribute("aria-pressed", on);
    }
  }

  if (trialOf) onChange("trial", mark);
  fill();
  const table = element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, headings)),
    body,
  );
  const made = element(
    "div",
    { class: "table" },
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table),
    below,
  );
  made.show = (others) => {
    state.rows = others;
    fill();
  };
  return made;
}

/** Returns rows sorted by a value; those without one come last in either order. */
function inOrder(rows, valueOfRow, descending) {
  const sign = descending ? -1 : 1;
  const keyed = rows.map((row) => [valueOfRow(row), row]);
  const missing = ([value]) => value === null || value === undefined || value === "";
  keyed.sort((a, b) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const [first, second] = [a[0], b[0]];
    const order =
      isNumber(first) && isNumber(second) ? first - second : String(first).localeCompare(String(second));
    return sign * order;
  });
  return keyed.map(([, row]) => row);
}

/** Returns columns with the values of all objectives: those of the validation split, then those of the test split. */
function objectiveColumns({ spreads = false, some = trials } = {}) {
  return objectiveNames.flatMap((name) => {
    const splits = testedNames.includes(name) ? ["validation", "test"] : ["validation"];
    return splits
      .filter((split) => some.some((trial) => valueOf(trial, name, split) !== null))
      .flatMap((split) => {
        const columns = [valueColumn(name, split)];
        if (spreads && some.some((trial) => spreadOf(trial, name, split) !== null)) {
          columns.push(spreadColumn(name, split));
        }
        return columns;
      });
  });
}

function valueColumn(name, split) {
  const { unit } = objectives.get(name);
  return {
    title: headingOf(name, split),
    note: `${titleOf(name, split)}; after ±: standard error`,
    number: true,
    value: (trial) => valueOf(trial, name, split),
    show: (trial) => {
      const error = errorOf(trial, name, split);
      const value = bare(valueOf(trial, name, split), unit);
      return error === null ? value : [value, element("span", { class: "error" }, ` ± ${bare(error, unit)}`)];
    },
  };
}

function spreadColumn(name, split) {
  const { unit } = objectives.get(name);
  const { symbol } = unitOf(unit);
  return {
    title: `over seeds${symbol ? `, ${symbol}` : ""}`,
    note: `standard deviation of ${titleOf(name, split)} over the seeds of the configuration`,
    number: true,
    value: (trial) => spreadOf(trial, name, split),
    show: (trial) => bare(spreadOf(trial, name, split), unit),
  };
}

/** Returns a table's heading for an objective: its name, with its split and unit. */
function headingOf(name, split) {
  const { unit } = objectives.get(name);
  const { symbol } = unitOf(unit);
  const on = testedNames.includes(name) ? `${split} ` : "";
  return `${on}${name.replaceAll("_", " ")}${symbol ? `, ${symbol}` : ""}`;
}

/** Returns a column with the search, if there are several. */
function searchColumn() {
  return several ? [{ title: "search", value: (trial) => trial.search.name }] : [];
}

/** Returns a column for each parameter that differs between trials. */
function parameterColumns(some = trials) {
  const names = [
    ...new Set(searches.flatMap(({ parameters }) => (parameters ?? []).map(({ name }) => name))),
  ];
  return names
    .filter((name) => name !== "method" && some.some((trial) => trial.config?.[name] !== undefined))
    .map((name) => ({
      title: name.replaceAll("_", " "),
      number: some.every(
        (trial) => trial.config?.[name] === undefined || typeof trial.config[name] === "number",
      ),
      value: (trial) => {
        const value = trial.config?.[name];
        return value !== null && typeof value === "object" ? JSON.stringify(value) : value;
      },
      show: (trial) => setting(trial.config?.[name]),
    }));
}
