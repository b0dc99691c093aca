// All trials: a table to search in, and a file for other programs.

function trialsSection() {
  const rows = () => trials.filter((trial) => isShown(trial) && matches(trial, filter.value));
  const filter = element("input", { type: "search", placeholder: "e.g. pmf finished", autocomplete: "off" });
  const counted = element("span", { class: "explanation", role: "status" });
  const columns = [
    { title: "trial", value: ({ id }) => id },
    ...searchColumn(),
    { title: "method", value: ({ method }) => method },
    { title: "status", value: statusOf },
    { title: "front", value: (trial) => (isMember(trial) ? `member ${trial.memberNumber}` : "") },
    ...objectiveColumns(),
    { title: "epochs", number: true, value: ({ epochs }) => epochs, show: ({ epochs }) => plain(epochs) },
    ...parameterColumns(),
    ...(trials.some(({ message }) => message)
      ? [{ title: "message", value: ({ message }) => message ?? "" }]
      : []),
  ];
  const table = dataTable("All trials", columns, trials, { trialOf: (trial) => trial });
  const update = oncePerFrame(() => {
    const shown = rows();
    counted.textContent = `${shown.length.toLocaleString("en")} of ${count(trials.length, "trial")}`;
    table.show(shown);
  });
  filter.addEventListener("input", update);
  onChange("searches", update);
  update();
  return section(
    "trials",
    "All trials",
    null,
    element(
      "div",
      { class: "controls" },
      element("label", { class: "control" }, element("span", {}, "Filter"), filter),
      counted,
    ),
    table,
  );
}

/** Returns whether all words of a filter occur in what is known of a trial. */
function matches(trial, words) {
  const { id, search, method, kind, message } = trial;
  const texts = [
    id,
    search.name,
    method,
    kind,
    statusOf(trial),
    isMember(trial) ? "front" : "",
    message ?? "",
  ];
  trial.words ??= [...texts, ...settingsOf(trial).flat()].join(" ").toLowerCase();
  return words
    .toLowerCase()
    .split(/\s+/)
    .every((word) => trial.words.includes(word));
}

/** Returns all trials of all searches as CSV: what they are, their settings, values and luck. */
function trialsAsCsv() {
  const keysOf = (read) => [...new Set(trials.flatMap((trial) => Object.keys(read(trial) ?? {})))];
  const columns = [
    ["search", (trial) => trial.search.name],
    ...["id", "kind", "repeat_of", "method", "status", "front", "epochs", "seeds"].map((key) => [
      key,
      (trial) => trial[key],
    ]),
    ...keysOf(({ values }) => values).map((key) => [key, ({ values }) => values?.[key]]),
    ...keysOf(({ test }) => test).map((key) => [`test_${key}`, ({ test }) => test?.[key]]),
    ...keysOf((trial) => trial.standard_error).map((key) => [
      `standard_error_${key}`,
      (trial) => trial.standard_error?.[key],
    ]),
    ...keysOf(({ spread }) => spread).map((key) => [`spread_${key}`, ({ spread }) => spread?.[key]]),
    ...["p_front", "p_better"].map((key) => [key, (trial) => trial[key]]),
    ...keysOf(({ config }) => config)
      .filter((key) => key !== "method")
      .map((key) => [`config.${key}`, ({ config }) => config?.[key]]),
    ...["model", "run_id", "node", "message"].map((key) => [key, (trial) => trial[key]]),
  ];
  const rows = [
    columns.map(([name]) => name),
    ...trials.map((trial) => columns.map(([, read]) => read(trial))),
  ];
  return rows.map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

/** Returns a value as a cell of CSV; numbers are written in full. */
function csvCell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Lets a button save all trials as a file. */
function setUpDownload(button) {
  button.addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([trialsAsCsv()], { type: "text/csv" }));
    const name = searches
      .map((search) => search.name)
      .join("-")
      .replace(/[^\w.-]+/g, "_")
      .slice(0, 80);
    element("a", { href: address, download: `${name || "trials"}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
}
