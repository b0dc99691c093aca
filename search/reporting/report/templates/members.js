// Tables of the front, of the best of each method, and of what is left without a modality.

/** Returns columns that say how sure a place on the front is; those that nothing has a value in are left out. */
function luckColumns() {
  const columns = [
    [
      "p_front",
      "p on the front",
      "share of resampled validation splits in which nothing that costs no more is as good",
    ],
    ["p_better", "p better", "share of them in which it is better than the next cheaper member"],
    ["seeds", "seeds", "trained models of the configuration"],
  ];
  return columns
    .filter(([key]) => members.some((trial) => isNumber(trial[key])))
    .map(([key, title, note]) => ({
      title,
      note,
      number: true,
      value: (trial) => trial[key],
      show: (trial) =>
        isNumber(trial[key]) ? (key === "seeds" ? String(trial[key]) : trial[key].toFixed(2)) : NOTHING,
    }));
}

function membersSection() {
  if (!members.length) return null;
  const columns = [
    {
      title: "member",
      value: (trial) => trial.memberNumber,
      number: true,
      show: (trial) => String(trial.memberNumber),
    },
    ...searchColumn(),
    { title: "method", value: (trial) => trial.method },
    ...objectiveColumns({ spreads: true, some: members }),
    ...luckColumns(),
    { title: "epochs", number: true, value: (trial) => trial.epochs, show: (trial) => plain(trial.epochs) },
    ...parameterColumns(members),
  ];
  const table = dataTable("Members of the front, the cheapest first", columns, members, {
    trialOf: (trial) => trial,
  });
  onChange("searches", () => table.show(members.filter(isShown)));
  const explanation =
    "Figures after ± are standard errors; those over seeds are standard deviations. A click on a heading sorts, a click on a row selects the member everywhere.";
  return section("members", "Members of the front", explanation, table);
}

function methodsSection() {
  const rows = searches
    .flatMap((search) => [
      ...(search.best_of_methods ?? []).map((id) => trialOf(search, id)),
      ...(search.probe ? [trialOf(search, search.probe)] : []),
    ])
    .filter(Boolean);
  const goal = goals[0];
  if (rows.length < 2 || goal === undefined) return null;
  const counted = (trial) =>
    trial.search.trials.filter(
      (each) => each.method === trial.method && each.status === "finished" && isTrial(each),
    ).length;
  const columns = [
    { title: "method", value: (trial) => trial.method },
    ...searchColumn(),
    ...objectiveColumns({ some: rows }),
    {
      title: "finished trials",
      number: true,
      value: counted,
      show: (trial) => (isProbe(trial) ? NOTHING : String(counted(trial))),
    },
    { title: "on the front", value: (trial) => (isMember(trial) ? "yes" : "") },
  ];
  const table = dataTable("Best trial of each method, and the probe", columns, rows, {
    trialOf: (trial) => trial,
  });
  onChange("searches", () => table.show(rows.filter(isShown)));
  const explanation =
    "The probe is a linear model on what the frozen encoders give. A fusion method is worth its memory if it is better.";
  const place = chart(
    "Best value of each method with its standard error",
    () => methodsFigure(rows.filter(isShown), goal),
    {
      height: 110 + 34 * rows.length,
    },
  );
  return section(
    "methods",
    "Best of each method",
    explanation,
    element("div", { class: "beside" }, place, table),
  );
}

function methodsFigure(rows, goal) {
  const labels = rows.map((trial) => `${several ? `${trial.search.name}: ` : ""}${trial.method}`);
  const splits = testedNames.includes(goal) ? ["validation", "test"] : ["validation"];
  const { scale } = unitOf(objectives.get(goal).unit);
  const data = splits.map((split) => {
    const errors = rows.map((trial) => (errorOf(trial, goal, split) ?? 0) * scale);
    return {
      type: "scatter",
      mode: "markers",
      name: split,
      x: scaled(
        rows.map((trial) => valueOf(trial, goal, split)),
        goal,
      ),
      y: [...rows.keys()],
      error_x: {
        type: "data",
        array: errors,
        visible: errors.some((error) => error > 0),
        color: colour("error-bar"),
        thickness: 1.5,
        width: 4,
      },
      marker: {
        symbol: rows.map(
          (trial) => `${isProbe(trial) ? "diamond" : "circle"}${split === "test" ? "-open" : ""}`,
        ),
        size: 10,
        color: rows.map((trial) => ownColour(trial, isProbe(trial) ? "probe" : "front")),
        line: { width: split === "test" ? 2 : 0 },
      },
      ...pointing(rows),
    };
  });
  return {
    data,
    layout: {
      xaxis: { title: { text: inChart(titleOf(goal).replace(/^validation /, "")) } },
      yaxis: { ...axisOfTexts(labels, 28), autorange: "reversed" },
      showlegend: splits.length > 1,
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" },
    },
  };
}

function robustnessSection() {
  const rows = members.filter((trial) => Object.keys(trial.robustness ?? {}).length);
  const modalities = [...new Set(rows.flatMap((trial) => Object.keys(trial.robustness)))];
  const goal = goals.find((name) =>
    rows.some((trial) => modalities.some((each) => isNumber(trial.robustness[each]?.[name]))),
  );
  if (goal === undefined) return null;
  const { unit } = objectives.get(goal);
  const without = (trial, modality) => trial.robustness[modality]?.[goal];
  const columns = [
    {
      title: "member",
      number: true,
      value: (trial) => trial.memberNumber,
      show: (trial) => String(trial.memberNumber),
    },
    ...searchColumn(),
    { title: "method", value: (trial) => trial.method },
    valueColumn(goal, "test"),
    ...modalities.map((modality) => ({
      title: `without ${modality}`,
      number: true,
      value: (trial) => without(trial, modality),
      show: (trial) => bare(without(trial, modality), unit),
    })),
  ];
  const table = dataTable(`Test ${goal} with all modalities, and without each of them`, columns, rows, {
    trialOf: (trial) => trial,
  });
  onChange("searches", () => table.show(rows.filter(isShown)));
  const place = chart(
    `Test ${goal} without each modality`,
    () => robustnessFigure(rows.filter(isShown), modalities, goal, without),
    {
      height: 110 + 34 * rows.length,
    },
  );
  const explanation =
    "Each modality is taken away from all rows of the test split, with nothing trained again.";
  return section(
    "robustness",
    "When a modality is missing",
    explanation,
    element("div", { class: "beside" }, place, table),
  );
}

function robustnessFigure(rows, modalities, goal, without) {
  const trace = (name, values, marker) => ({
    type: "scatter",
    mode: "markers",
    name: clipped(name, 24),
    x: scaled(
      values.map((value) => value ?? null),
      goal,
    ),
    y: [...rows.keys()],
    marker: { size: 10, ...marker },
    ...pointing(rows),
  });
  const symbols = ["triangle-down", "square", "cross", "x", "star", "hexagon"];
  const data = [
    trace(
      "all modalities",
      rows.map((trial) => valueOf(trial, goal, "test")),
      { color: colour("front"), symbol: "circle" },
    ),
    ...modalities.map((modality, index) =>
      trace(
        `without ${modality}`,
        rows.map((trial) => without(trial, modality)),
        {
          color: seriesColour(index + 1),
          symbol: symbols[index % symbols.length],
        },
      ),
    ),
  ];
  return {
    data,
    layout: {
      xaxis: { title: { text: inChart(titleOf(goal, "test")) } },
      yaxis: { ...axisOfTexts(rows.map(memberName), 30), autorange: "reversed" },
      showlegend: true,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    },
  };
}
