// What was searched, where and how; and what there is to say about the report.

const isFinished = (search) => search.state === "finished";

/** Returns the line below the sentence: what each search is, and what became of its trials. */
function searchFacts(search) {
  const ended = grouped(search.trials.filter(isTrial), ({ status }) => status);
  const outcomes = [...ended].map(
    ([status, of]) => `${of.length.toLocaleString("en")} ${status.replaceAll("_", " ")}`,
  );
  const parts = [
    search.task,
    search.dataset && `dataset ${search.dataset}`,
    search.space && `space ${search.space}`,
    isNumber(search.budget) && `budget ${written(search.budget, "GiB")}`,
    search.state && `search ${search.state}`,
    `${count(search.trials.filter(isTrial).length, "trial")}${outcomes.length ? `: ${outcomes.join(", ")}` : ""}`,
  ].filter(Boolean);
  const line = element(
    "p",
    { class: "facts" },
    several ? element("strong", {}, `${search.name}: `) : null,
    parts.join(" · "),
  );
  return search.go_on && !isFinished(search)
    ? [line, copyable("Go on with the search", search.go_on)]
    : [line];
}

function backgroundSection() {
  const blocks = searches.flatMap((search) => {
    const tables = [
      pairsTable(`Environment${several ? ` of ${search.name}` : ""}`, search.environment),
      pairsTable(`Data${several ? ` of ${search.name}` : ""}`, search.data),
    ].filter(Boolean);
    return [
      tables.length ? element("div", { class: "halves" }, tables) : null,
      search.command
        ? copyable(`The exact command${several ? ` of ${search.name}` : ""}`, search.command)
        : null,
      search.go_on && isFinished(search)
        ? copyable(`Try more${several ? ` in ${search.name}` : ""}`, search.go_on)
        : null,
    ].filter(Boolean);
  });
  return blocks.length ? section("background", "Environment, data and command", null, blocks) : null;
}

function pairsTable(caption, pairs) {
  if (!pairs?.length) return null;
  return element(
    "table",
    { class: "pairs" },
    element("caption", {}, caption),
    element(
      "tbody",
      {},
      pairs.map(([what, value]) =>
        element("tr", {}, element("th", { scope: "row" }, what), element("td", {}, setting(value))),
      ),
    ),
  );
}

function notesSection() {
  const notes = searches.flatMap((search) =>
    (search.notes ?? []).map((note) => (several ? `${search.name}: ${note}` : note)),
  );
  if (!notes.length) return null;
  return section(
    "notes",
    "Notes",
    "What this report lacks, and how some of it was found.",
    element(
      "ul",
      { class: "notes" },
      notes.map((note) => element("li", {}, note)),
    ),
  );
}
