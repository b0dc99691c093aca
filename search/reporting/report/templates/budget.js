// The best member for a budget, and how to use it.

/** The commands of a member, in the order in which one needs them. */
const COMMANDS = {
  train: "Train it again",
  load: "Load it in Python",
  apply: "Label new data",
  score: "Score it on data with labels",
  export: "Copy the model out",
  serve: "Serve it over HTTP",
};

/** Returns the slider, what it names, and the trial that is selected. */
function budgetPanel() {
  const made = element("div", { class: "panel budget" });
  const affordable = members.filter((trial) => cost !== null && valueOf(trial, cost) !== null);
  const card = element("div", { class: "card" });
  if (affordable.length) made.append(slider(affordable));
  else if (!members.length) made.append(element("p", {}, "No trial is on the front yet."));
  made.append(card);
  const show = () => card.replaceChildren(...(selected() ? trialCard(selected()) : []));
  for (const what of ["trial", "budget"]) onChange(what, show);
  show();
  return made;
}

function slider(affordable) {
  const { unit } = objectives.get(cost);
  const costs = affordable.map((trial) => valueOf(trial, cost));
  const step = niceStep((Math.max(...costs) - Math.min(...costs)) / 200 || Math.max(...costs) / 200);
  const up = (value) => Number((Math.ceil(value / step - 1e-9) * step).toPrecision(12));
  const [least, most] = [up(Math.min(...costs)), up(Math.max(...costs))];
  const bounds = { min: least, max: most, step };
  const range = element("input", { type: "range", id: "budget", ...bounds, "aria-describedby": "best" });
  const box = element("input", { type: "number", ...bounds, "aria-label": `Budget in ${unit}` });
  const best = element("p", { id: "best", class: "best", "aria-live": "polite" });
  let goal = goals[0] ?? objectiveNames[0];

  /** Sets the budget, and selects what is best within it. */
  function set(value) {
    chosen.budget = Math.min(Math.max(value, least), most);
    range.value = chosen.budget;
    const shown = affordable.filter(isShown);
    const found = bestWithin(shown, chosen.budget, goal);
    range.setAttribute(
      "aria-valuetext",
      `${written(chosen.budget, unit)}: ${found ? spoken(found, goal) : "nothing"}`,
    );
    best.replaceChildren(...sentence(found, shown, goal));
    chosen.best = found?.key ?? null;
    select(found);
    changed("budget");
  }

  range.addEventListener("input", () => {
    box.value = range.value;
    set(Number(range.value));
  });
  box.addEventListener("input", () => {
    if (box.value !== "") set(Number(box.value));
  });
  box.addEventListener("change", () => (box.value = chosen.budget));
  onChange("searches", () => set(chosen.budget));
  // A member that is selected elsewhere moves the slider to what it costs, if it is the best for that.
  onChange("trial", () => {
    const trial = selected();
    if (!isMember(trial) || bestWithin(affordable.filter(isShown), valueOf(trial, cost), goal) !== trial)
      return;
    const current = bestWithin(affordable.filter(isShown), chosen.budget, goal);
    if (current === trial) return;
    box.value = up(valueOf(trial, cost));
    set(up(valueOf(trial, cost)));
  });

  box.value = most;
  set(most);
  const title = objectives.get(cost).title || cost;
  return element(
    "div",
    {},
    element("h2", {}, "The best for your budget"),
    element("label", { for: "budget", class: "explanation" }, `At most so much ${title}:`),
    element(
      "div",
      { class: "slider" },
      element("div", { class: "track" }, range, memberMarks(costs, least, most)),
      element("span", { class: "amount" }, box, element("span", {}, unitOf(unit).symbol)),
    ),
    goals.length > 1
      ? picker(
          "Best in",
          goals.map((name) => [name, objectives.get(name).title || name]),
          goal,
          (name) => {
            goal = name;
            set(chosen.budget);
          },
        )
      : null,
    best,
  );
}

/** Returns marks below the slider at what each member costs. */
function memberMarks(costs, least, most) {
  const at = (value) => (most > least ? Math.max(0, Math.min(1, (value - least) / (most - least))) : 0);
  return element(
    "div",
    { class: "marks", "aria-hidden": "true" },
    costs.map((value) => element("span", { style: `left: ${(100 * at(value)).toFixed(2)}%` })),
  );
}

/** Returns the best of some members that costs no more than the budget; the cheaper one of equals. */
function bestWithin(some, budget, goal) {
  const fits = some.filter(
    (trial) => valueOf(trial, cost) <= budget * (1 + 1e-9) && valueOf(trial, goal) !== null,
  );
  fits.sort((a, b) => valueOf(a, cost) - valueOf(b, cost));
  return fits.reduce(
    (best, trial) =>
      best === undefined || better(goal, valueOf(trial, goal), valueOf(best, goal)) ? trial : best,
    undefined,
  );
}

function spoken(trial, goal) {
  return `${memberName(trial)}, ${goal} ${written(valueOf(trial, goal), objectives.get(goal).unit)}`;
}

/** Returns what is best within the budget, and what the next better member would cost, as a sentence. */
function sentence(found, shown, goal) {
  if (found === undefined) return ["Nothing on the front costs so little."];
  const { unit } = objectives.get(goal);
  const tested = testedNames.includes(goal);
  const parts = [
    element("strong", {}, fullName(found)),
    ` reaches ${goal} ${figure(found, goal)}${tested ? " on validation" : ""}`,
  ];
  if (tested && valueOf(found, goal, "test") !== null) parts.push(`, ${figure(found, goal, "test")} on test`);
  parts.push(".");
  const next = shown
    .filter(
      (trial) =>
        valueOf(trial, cost) > chosen.budget &&
        valueOf(trial, goal) !== null &&
        better(goal, valueOf(trial, goal), valueOf(found, goal)),
    )
    .sort((a, b) => valueOf(a, cost) - valueOf(b, cost))[0];
  if (next) {
    const needed = written(valueOf(next, cost), objectives.get(cost).unit);
    parts.push(` The next better one needs ${needed} for ${written(valueOf(next, goal), unit)}.`);
  }
  return parts;
}

/** Returns what is known of a trial: figures, settings, and a member's commands. */
function trialCard(trial) {
  const facts = [];
  for (const name of objectiveNames) {
    for (const split of testedNames.includes(name) ? ["validation", "test"] : ["validation"]) {
      const shown = figure(trial, name, split);
      if (shown !== NOTHING)
        facts.push([`${testedNames.includes(name) ? `${split} ` : ""}${name.replaceAll("_", " ")}`, shown]);
    }
  }
  if (isNumber(trial.p_front)) facts.push(["really on the front", `p = ${trial.p_front.toFixed(2)}`]);
  if (isNumber(trial.p_better))
    facts.push(["better than the next cheaper", `p = ${trial.p_better.toFixed(2)}`]);
  if (isNumber(trial.seeds) && trial.seeds > 1) facts.push(["seeds", String(trial.seeds)]);
  if (isNumber(trial.epochs)) facts.push(["epochs", String(trial.epochs)]);
  if (trial.status !== "finished") facts.push(["status", statusOf(trial)]);
  if (trial.message) facts.push(["message", trial.message]);
  const origin = [
    ["trial", trial.id],
    ["MLflow run", trial.run_id],
    ["node", trial.node],
    ["model", trial.model],
  ];
  const commands = Object.entries(trial.search.commands?.[trial.id] ?? {}).filter(([, text]) => text);
  const order = Object.keys(COMMANDS);
  commands.sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
  return [
    trial.key === chosen.best ? null : element("h3", {}, `Selected: ${fullName(trial)}`),
    definitions(facts),
    commands.length ? commandTabs(commands) : null,
    isMember(trial)
      ? null
      : element("p", { class: "explanation" }, "Only members of the front have commands to use them."),
    element(
      "details",
      {},
      element("summary", {}, "Settings"),
      definitions([...settingsOf(trial), ...origin.filter(([, value]) => value)]),
    ),
  ].filter(Boolean);
}

/** Returns commands, each behind its name; the one that was looked at last is open for the next member, too. */
function commandTabs(commands) {
  return element(
    "div",
    { class: "commands" },
    commands.map(([name, text]) => {
      const made = element(
        "details",
        { open: commandTabs.open.has(name) },
        element("summary", {}, COMMANDS[name] ?? name),
        copyable(COMMANDS[name] ?? name, text),
      );
      made.addEventListener("toggle", () => commandTabs.open[made.open ? "add" : "delete"](name));
      return made;
    }),
  );
}
commandTabs.open = new Set(["load"]);

/** Returns names with their values. */
function definitions(pairs) {
  return element(
    "dl",
    {},
    pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
  );
}
