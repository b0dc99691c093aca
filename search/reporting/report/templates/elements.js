// Makes elements. Texts always become text nodes or attributes, so that no text is ever read as HTML.

/**
 * Returns a new element. Attributes that are null or false are left out; functions become listeners, so that
 * `{onclick: f}` calls f on a click. Children are elements or texts; those that are null are left out.
 */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Returns a section of the page with a heading and a line that says what is to be seen. */
function section(id, heading, explanation, ...children) {
  return element(
    "section",
    { id, "aria-labelledby": `${id}-heading` },
    element("h2", { id: `${id}-heading` }, heading),
    explanation ? element("p", { class: "explanation" }, explanation) : null,
    ...children,
  );
}

/** Returns a labelled select. `options` are [value, text] or {group, options}. */
function picker(label, options, chosen, onchange) {
  const option = ([value, text]) => element("option", { value, selected: value === chosen }, text);
  const made = options.map((each) =>
    Array.isArray(each) ? option(each) : element("optgroup", { label: each.group }, each.options.map(option)),
  );
  const id = newId();
  const select = element("select", { id, onchange: () => onchange(select.value) }, made);
  return element("span", { class: "control" }, element("label", { for: id }, label), select);
}

/** Returns an id that no other element has. */
function newId() {
  newId.last = (newId.last ?? 0) + 1;
  return `control-${newId.last}`;
}

/** Returns a labelled check box. */
function checkbox(label, checked, onchange) {
  const box = element("input", { type: "checkbox", checked, onchange: () => onchange(box.checked) });
  return element("label", { class: "control check" }, box, element("span", {}, label));
}

/** Returns a group of radio buttons that look like one button with several places. */
function switcher(label, options, chosen, onchange) {
  const name = newId();
  const choice = ([value, text]) =>
    element(
      "label",
      {},
      element("input", {
        type: "radio",
        name,
        value,
        checked: value === chosen,
        onchange: () => onchange(value),
      }),
      element("span", {}, text),
    );
  return element(
    "fieldset",
    { class: "switcher" },
    element("legend", {}, label),
    element("div", {}, options.map(choice)),
  );
}
/** Returns a text to copy, with a button that copies it. */
function copyable(label, text) {
  const button = element("button", { type: "button", class: "copy", "aria-label": `Copy: ${label}` }, "Copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copied(text)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return element(
    "div",
    { class: "copyable" },
    element("div", { class: "copyable-head" }, element("span", {}, label), button),
    element("pre", { tabindex: "0" }, element("code", {}, text)),
  );
}

/** Copies a text; returns whether the browser let it. A page from a file may have no clipboard of its own. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element("textarea", { class: "off-screen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** Calls a function at most once a frame, with the arguments of the latest call. */
function oncePerFrame(action) {
  let waiting = null;
  return (...values) => {
    if (waiting === null) {
      requestAnimationFrame(() => {
        const latest = waiting;
        waiting = null;
        action(...latest);
      });
    }
    waiting = values;
  };
}
