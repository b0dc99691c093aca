// Puts the page together: first what can be read, then the charts.

const SECTIONS = [
  frontSection,
  membersSection,
  progressSection,
  parametersSection,
  methodsSection,
  robustnessSection,
  memorySection,
  classesSection,
  disagreementsSection,
  trialsSection,
  backgroundSection,
  notesSection,
];

function build() {
  setUpTheme(document.getElementById("theme"));
  setUpDownload(document.getElementById("csv"));
  document.getElementById("facts").append(...searches.flatMap(searchFacts));
  if (several) document.getElementById("searches").append(searchLegend());
  const sections = SECTIONS.map((make) => make()).filter(Boolean);
  document.getElementById("report").append(...sections);
  const links = sections.map(({ id }) =>
    element("a", { href: `#${id}` }, document.getElementById(`${id}-heading`).textContent),
  );
  document.getElementById("contents").append(...links);
}

function say(trouble) {
  const line = document.getElementById("trouble");
  line.textContent = trouble;
  line.hidden = false;
  document.documentElement.dataset.charts = "none";
}

build();
if (await loadPlotly()) startCharts();
else say("This browser is too old to draw the charts (it lacks DecompressionStream). All tables are here.");
document.documentElement.dataset.ready = "true";
