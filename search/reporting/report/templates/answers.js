// What members answer: results by class, confusions, and rows on which members disagree.

function classesSection() {
  const there = searches.filter(({ classes }) => classes && Object.keys(classes.members ?? {}).length);
  if (!there.length) return null;
  const explanation =
    "Recall is the share of a class's rows that are found; precision is the share of the rows so named that are right.";
  return section("classes", "Results by class", explanation, forSearch(there, classesOf));
}

function classesOf(search) {
  const { classes } = search;
  const ids = Object.keys(classes.members);
  const options = ids.map((id) => [id, trialOf(search, id) ? memberName(trialOf(search, id)) : id]);
  const ofSelected = () =>
    selected()?.search === search && selected().id in classes.members ? selected().id : null;
  let current = ofSelected() ?? ids.at(-1);
  const table = classTable(classes.members[current].per_class ?? [], classes.split);
  const confused = ids.some((id) => classes.members[id].confusion);
  const confusion = confused ? confusionChart(classes, () => classes.members[current].confusion ?? []) : null;
  const choice = picker("Member", options, current, show);

  function show(id) {
    current = id;
    choice.querySelector("select").value = id;
    table.show(classes.members[id].per_class ?? []);
    confusion?.redraw();
  }

  onChange("trial", () => {
    if (ofSelected() !== null && ofSelected() !== current) show(ofSelected());
  });
  return element(
    "div",
    {},
    element("div", { class: "controls" }, choice),
    element("div", { class: "halves" }, table, confusion),
  );
}

function classTable(perClass, split) {
  const part = (name, title) => ({
    title,
    number: true,
    value: (row) => row[name],
    show: (row) => (isNumber(row[name]) ? (100 * row[name]).toFixed(1) : NOTHING),
  });
  const columns = [
    { title: "class", value: ({ name }) => name },
    { title: "rows", number: true, value: ({ rows }) => rows, show: ({ rows }) => plain(rows) },
    part("precision", "precision, %"),
    part("recall", "recall, %"),
    part("f1", "F1, %"),
  ];
  return dataTable(`Results by class on the ${split} split`, columns, perClass, { limit: 40 });
}

/** Returns the confusion matrix: `confusionNow` returns its rows, which are true classes. */
function confusionChart({ names, split }, confusionNow) {
  const place = chart(
    `Confusion matrix on the ${split} split`,
    () => confusionFigure(names, confusionNow(), { wide: place.clientWidth > 480 }),
    { height: Math.min(720, 220 + 22 * names.length) },
  );
  return place;
}

function confusionFigure(names, confusion, { wide }) {
  const shares = confusion.map((row) => {
    const rows = row.reduce((sum, value) => sum + value, 0);
    return row.map((value) => (rows ? (100 * value) / rows : 0));
  });
  const said = (value, truth, answer) => {
    const taken = `${clipped(names[truth])} taken for ${clipped(names[answer])}`;
    return `${taken}:<br>${count(value, "row")}, ${shares[truth][answer].toFixed(0)} %`;
  };
  const axis = { ...axisOfTexts(names, 18, wide ? Infinity : 15), showgrid: false };
  const heat = {
    type: "heatmap",
    x: [...names.keys()],
    y: [...names.keys()],
    z: shares,
    zmin: 0,
    zmax: 100,
    colorscale: [0, 1, 2].map((step) => [step / 2, colour(`heat-${step}`)]),
    xgap: 1,
    ygap: 1,
    hovertext: confusion.map((row, truth) => row.map((value, answer) => said(value, truth, answer))),
    hoverinfo: "text",
    showscale: wide,
    colorbar: {
      title: { text: "% of<br>the row", font: { size: 12 } },
      thickness: 10,
      outlinewidth: 0,
      len: 0.6,
    },
  };
  return {
    data: names.length <= 12 ? [heat, counts(confusion, shares)] : [heat],
    layout: {
      xaxis: { ...axis, title: { text: "answer" }, tickangle: -45 },
      yaxis: { ...axis, title: { text: "truth" }, autorange: "reversed" },
    },
  };
}

/** Returns the numbers of rows as texts on the cells, each in a colour that can be read there. */
function counts(confusion, shares) {
  const cells = confusion.flatMap((row, truth) => row.map((value, answer) => ({ value, truth, answer })));
  const there = cells.filter(({ value }) => value > 0);
  const inverted = isDark() ? 60 : 75;
  return {
    type: "scatter",
    mode: "text",
    x: there.map(({ answer }) => answer),
    y: there.map(({ truth }) => truth),
    text: there.map(({ value }) => String(value)),
    textfont: {
      color: there.map(({ truth, answer }) => colour(shares[truth][answer] > inverted ? "on-heat" : "text")),
    },
    hoverinfo: "skip",
  };
}

function disagreementsSection() {
  const there = searches.filter(({ disagreements }) => disagreements?.rows?.length);
  if (!there.length) return null;
  const explanation =
    "Rows on which members of the front answer differently. They show what more memory buys, and where labels may be wrong.";
  return section("disagreements", "Where members disagree", explanation, forSearch(there, disagreementsOf));
}

function disagreementsOf(search) {
  const { split, rows } = search.disagreements;
  return element(
    "div",
    { class: "cards" },
    rows.map((row) => disagreement(search, split, row)),
  );
}

function disagreement(search, split, { row, values, truth, answers }) {
  const groups = grouped(Object.entries(answers), ([, answer]) => answer);
  const label = (id) => {
    const trial = trialOf(search, id);
    if (!trial) return id;
    const chip = element(
      "button",
      { type: "button", class: "chip", onclick: () => select(trial) },
      isMember(trial) ? String(trial.memberNumber) : trial.method,
    );
    chip.title = memberName(trial);
    chip.setAttribute("aria-label", `Select ${memberName(trial)}`);
    return chip;
  };
  return element(
    "article",
    { class: "disagreement" },
    element("p", { class: "where" }, `row ${row} of ${split}`),
    Object.entries(values ?? {}).map(([modality, value]) => shownValue(modality, value)),
    element("p", { class: "truth" }, "label: ", element("strong", {}, truth)),
    element(
      "ul",
      { class: "answers" },
      [...groups].map(([answer, given]) =>
        element(
          "li",
          { class: answer === truth ? "right" : "wrong" },
          element("span", { class: "answer" }, `${answer === truth ? "✓" : "✗"} ${answer}`),
          element(
            "span",
            { class: "who" },
            given.map(([id]) => label(id)),
          ),
        ),
      ),
    ),
  );
}

/** Returns a modality's value of a row: a picture, a text, or what there is to say of it. */
function shownValue(modality, value) {
  if (value === null || value === undefined) return element("p", { class: "absent" }, `no ${modality}`);
  if (typeof value.picture === "string" && value.picture.startsWith("data:image/")) {
    return element("img", { src: value.picture, alt: `${modality} of the row`, loading: "lazy" });
  }
  if (value.text !== undefined) return element("blockquote", {}, value.text);
  return element("p", { class: "absent" }, `${modality}: ${value.note ?? NOTHING}`);
}
