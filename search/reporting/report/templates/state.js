// What the reader has chosen, and who is told of a change.

const chosen = {
  /** The trial that is shown everywhere, by its key. */
  trial: null,
  /** The budget in the unit of `cost`. */
  budget: null,
  /** What is best for the budget, by its key. */
  best: null,
  /** Numbers of the searches that are switched off. */
  hidden: new Set(),
};

const listeners = { trial: [], budget: [], searches: [], theme: [] };

/** Calls a function after each change of what is named. */
function onChange(what, listener) {
  listeners[what].push(listener);
}

function changed(what) {
  for (const listener of listeners[what]) listener();
}

/** Selects a trial everywhere. */
function select(trial) {
  if (trial === undefined || chosen.trial === trial.key) return;
  chosen.trial = trial.key;
  changed("trial");
}

/** Returns the trial that is selected, or null. */
function selected() {
  return byKey.get(chosen.trial) ?? null;
}

function isShown(trial) {
  return !chosen.hidden.has(trial.search.number);
}

/** Returns the searches that are switched on. */
function shownSearches() {
  return searches.filter((search) => !chosen.hidden.has(search.number));
}

/** Returns the check boxes that switch searches on and off, which are the legend of their colours. */
function searchLegend() {
  return element(
    "fieldset",
    { class: "searches" },
    element("legend", {}, "Searches"),
    searches.map((search) => {
      const label = checkbox(search.name, true, (on) => {
        if (on) chosen.hidden.delete(search.number);
        else chosen.hidden.add(search.number);
        changed("searches");
      });
      label.prepend(
        element("span", { class: "swatch", style: `background: var(--series-${(search.number % 8) + 1})` }),
      );
      return label;
    }),
  );
}

/** Returns what is made for one search, with a choice of the search if there are several. */
function forSearch(possible, make) {
  if (possible.length === 1) return make(possible[0]);
  const place = element("div", {}, make(possible[0]));
  const options = possible.map((search) => [String(search.number), search.name]);
  const choose = (number) => place.replaceChildren(make(searches[Number(number)]));
  return element(
    "div",
    {},
    element("div", { class: "controls" }, picker("Search", options, options[0][0], choose)),
    place,
  );
}

const system = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const set = document.documentElement.dataset.theme;
  return set ? set === "dark" : system.matches;
}

/** Makes a button switch between light and dark; until it is used, the page is as the system is. */
function setUpTheme(button) {
  onChange("theme", () => colours.clear());
  const named = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    changed("theme");
  });
  system.addEventListener("change", () => changed("theme"));
  onChange("theme", named);
  named();
}
