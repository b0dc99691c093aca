// Writes numbers with their units, rounded so that they can be read.

const NOTHING = "–";

/** How the values of each unit are written: `scale` is what one unit of the document is in `symbol`. */
const UNITS = {
  "%": { symbol: "%", scale: 100, digits: 1 },
  GiB: { symbol: "GiB", scale: 1, digits: 3 },
  MiB: { symbol: "MiB", scale: 1, digits: 2 },
  MB: { symbol: "MB", scale: 1, digits: 2 },
  s: { symbol: "s", scale: 1, digits: 3 },
  parameters: { symbol: "M", scale: 1e-6, digits: 2 },
};

/** Returns how the values of a unit are written. */
function unitOf(unit) {
  return UNITS[unit] ?? { symbol: unit ?? "", scale: 1, digits: null };
}

/** Returns a value without its unit, for a table whose heading names it. */
function bare(value, unit) {
  if (!isNumber(value)) return NOTHING;
  const { scale, digits } = unitOf(unit);
  return digits === null ? plain(value * scale) : signed((value * scale).toFixed(digits));
}

/** Returns a value with its unit, for a sentence: `343 MiB`, `1.30 GiB`, `87.1 %`. */
function written(value, unit) {
  if (!isNumber(value)) return NOTHING;
  if (unit === "GiB")
    return value < 1 ? `${signed((value * 1024).toFixed(0))} MiB` : `${value.toFixed(2)} GiB`;
  const { symbol } = unitOf(unit);
  return symbol ? `${bare(value, unit)} ${symbol}` : bare(value, unit);
}

/** Returns a number of no unit with four digits that count; large ones in millions or billions. */
function plain(value) {
  if (!isNumber(value)) return NOTHING;
  const size = Math.abs(value);
  if (size >= 1e6 && size < 1e12) {
    const [unit, letter] = size < 1e9 ? [1e6, "M"] : [1e9, "B"];
    return `${signed(String(Number((value / unit).toPrecision(3))))} ${letter}`;
  }
  if (size !== 0 && (size < 1e-3 || size >= 1e12))
    return signed(Number(value.toPrecision(3)).toExponential().replace("e+", "e"));
  if (Number.isInteger(value)) return signed(size < 1e4 ? String(value) : value.toLocaleString("en"));
  return signed(String(Number(value.toPrecision(4))));
}

/** Returns a share of 1 as a percentage without decimals; almost all and almost none are not rounded away. */
function share(value) {
  if (!isNumber(value)) return NOTHING;
  if (value > 0.995 && value < 1) return "> 99 %";
  if (value > 0 && value < 0.005) return "< 1 %";
  return `${(100 * value).toFixed(0)} %`;
}

/** Returns a duration in seconds as `42 s`, `3 min` or `2.1 h`. */
function duration(seconds) {
  if (!isNumber(seconds)) return NOTHING;
  if (seconds < 90) return `${seconds.toFixed(0)} s`;
  return seconds < 5400 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** Returns a step of 1, 2 or 5 times a power of ten that is no larger than a number. */
function niceStep(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  const digit = [5, 2, 1].find((each) => each * power <= most * (1 + 1e-9)) ?? 1;
  return Number((digit * power).toPrecision(6));
}

/** Returns some round numbers in a range; on a logarithmic scale these are powers of ten, if there are any. */
function roundNumbers(least, most, { log = false, whole = false } = {}) {
  if (log) {
    const powers = [];
    for (let power = Math.ceil(Math.log10(least) - 1e-9); 10 ** power <= most * (1 + 1e-9); power++)
      powers.push(10 ** power);
    return powers.length ? powers : [least, most];
  }
  const step = Math.max(niceStep((most - least) / 3), whole ? 1 : 0);
  const found = [];
  for (let value = Math.ceil(least / step - 1e-9) * step; value <= most + 1e-9 * step; value += step) {
    found.push(Number(value.toPrecision(12)));
  }
  return found;
}

/** Returns any value of a configuration as a text. */
function setting(value) {
  if (value === null || value === undefined) return NOTHING;
  if (typeof value === "number") return plain(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Returns a count with its noun: `1 trial`, `12 trials`. */
function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** Returns the text of a number with a minus sign in place of a hyphen. */
function signed(text) {
  return text.replace(/^-/, "−");
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** Returns items by their key, in the order in which keys appear. */
function grouped(items, keyOf) {
  const groups = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (groups.has(key)) groups.get(key).push(item);
    else groups.set(key, [item]);
  }
  return groups;
}
