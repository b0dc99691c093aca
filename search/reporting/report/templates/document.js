// The document, with what the sections ask of it: its trials in one list, and its objectives as quantities.

const { searches } = JSON.parse(document.getElementById("document").textContent);
const several = searches.length > 1;

/** All trials of all searches. Ids are unique within a search; `key` is unique in the page. */
const trials = searches.flatMap((search, number) => {
  search.number = number;
  return search.trials.map((trial) => Object.assign(trial, { search, key: `${number}/${trial.id}` }));
});
const byKey = new Map(trials.map((trial) => [trial.key, trial]));

/** Objectives of all searches by name, in the order of their first appearance. */
const objectives = new Map(
  searches.flatMap((search) => search.objectives.map((objective) => [objective.name, objective])).reverse(),
);
const objectiveNames = [...new Set(searches.flatMap((search) => search.objectives.map(({ name }) => name)))];
const testedNames = objectiveNames.filter((name) => trials.some((trial) => isNumber(trial.test?.[name])));
/** The objectives that training decides; the first one says which member is best. */
const goals = objectiveNames.filter((name) => !objectives.get(name).known);
/** What the budget is about: memory, or else the first objective that is known before training. */
const cost = objectives.has("memory")
  ? "memory"
  : (objectiveNames.find((name) => !goals.includes(name)) ?? null);

/** Members of each search's front, numbered from 1 as the commands count them. */
const members = searches.flatMap((search) =>
  search.members
    .map((id) => byKey.get(`${search.number}/${id}`))
    .filter(Boolean)
    .map((trial, index) => Object.assign(trial, { memberNumber: index + 1 })),
);

const isTrial = (trial) => trial.kind === "trial";
const isProbe = (trial) => trial.kind === "probe";
const isMember = (trial) => trial.memberNumber !== undefined;

/** Returns a trial of a search by its id. */
function trialOf(search, id) {
  return byKey.get(`${search.number}/${id}`);
}

/** Returns a trial's value of an objective on a split; values known before training belong to no split. */
function valueOf(trial, name, split = "validation") {
  const values = split === "test" && testedNames.includes(name) ? trial.test : trial.values;
  const value = values?.[name];
  return isNumber(value) ? value : null;
}

/** Returns the standard error of a value, or null if it is unknown. */
function errorOf(trial, name, split = "validation") {
  const error =
    trial.standard_error?.[split === "test" && testedNames.includes(name) ? `test_${name}` : name];
  return isNumber(error) ? error : null;
}

/** Returns the standard deviation of a value over seeds, or null if it is unknown. */
function spreadOf(trial, name, split = "validation") {
  const spread = trial.spread?.[split === "test" ? `test_${name}` : name];
  return isNumber(spread) ? spread : null;
}

/** Returns an objective's name with its unit, for an axis or a heading. */
function titleOf(name, split = "validation") {
  const { title, unit } = objectives.get(name);
  const { symbol } = unitOf(unit);
  const on = testedNames.includes(name) ? `${split} ` : "";
  return `${on}${title || name}${symbol ? ` (${symbol})` : ""}`;
}

/** Returns a value of an objective with its unit and, where it is known, its standard error. */
function figure(trial, name, split = "validation") {
  const { unit } = objectives.get(name);
  const value = valueOf(trial, name, split);
  const error = errorOf(trial, name, split);
  if (value === null || error === null) return written(value, unit);
  const { symbol } = unitOf(unit);
  return `${bare(value, unit)} ± ${bare(error, unit)}${symbol ? ` ${symbol}` : ""}`;
}

/** Returns whether the first value is better than the second one. */
function better(name, first, second) {
  return objectives.get(name).direction === "minimize" ? first < second : first > second;
}

/** Returns a trial's name: its method, and its memory, which tells it from others of the method. */
function nameOf(trial) {
  const value = cost === null ? null : valueOf(trial, cost);
  const at = value === null ? "" : ` at ${written(value, objectives.get(cost).unit)}`;
  return `${trial.method ?? trial.id}${at}`;
}

/** Returns a member's number and name; with several searches, its search comes first. */
function memberName(trial) {
  return `${several ? `${trial.search.name}, ` : ""}${isMember(trial) ? `${trial.memberNumber}: ` : ""}${nameOf(trial)}`;
}

/** Returns a member's name as it begins a sentence. */
function fullName(trial) {
  const number = isMember(trial) ? `Member ${trial.memberNumber}: ` : "";
  return `${number}${nameOf(trial)}${several ? ` (${trial.search.name})` : ""}`;
}

/** Returns a status in words. */
function statusOf(trial) {
  return trial.status.replaceAll("_", " ");
}

/** Returns a trial's settings but for the method, as [name, text]. */
function settingsOf(trial) {
  return Object.entries(trial.config ?? {})
    .filter(([name]) => name !== "method")
    .map(([name, value]) => [name, setting(value)]);
}

/** Returns which of some trials no other of them beats on two objectives, ordered by the first one. */
function nondominated(some, x, y, split) {
  const at = (trial, name) => valueOf(trial, name, split);
  const comesFirst = (a, b) =>
    at(a, x) === at(b, x) ? better(y, at(a, y), at(b, y)) : better(x, at(a, x), at(b, x));
  const ordered = some
    .filter((trial) => at(trial, x) !== null && at(trial, y) !== null)
    .sort((a, b) => (comesFirst(a, b) ? -1 : 1));
  const front = [];
  for (const trial of ordered) {
    const last = front.at(-1);
    if (last === undefined || better(y, at(trial, y), at(last, y))) front.push(trial);
  }
  return front;
}
