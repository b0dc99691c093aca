// How the front grew during the search.

const PROGRESS = { seconds: "time", epochs: "epochs", trials: "trials" };

function progressSection() {
  const there = searches.filter(({ progress }) => progress?.length > 1);
  if (!there.length) return null;
  let over = "seconds";
  const place = chart("Hypervolume of the front during the search", () => progressFigure(there, over), {
    height: 340,
  });
  const change = (value) => {
    over = value;
    place.redraw();
  };
  const controls = element(
    "div",
    { class: "controls" },
    switcher("Over", Object.entries(PROGRESS), over, change),
  );
  const explanation =
    "The hypervolume is the share of the space between the worst and the ideal values that the front beats. It grows while the search finds something.";
  return section("progress", "Progress", explanation, controls, place);
}

function progressFigure(there, over) {
  const shown = there.filter((search) => !chosen.hidden.has(search.number));
  const longest = Math.max(...shown.map(({ progress }) => progress.at(-1)[over] ?? 0), 0);
  const [unit, size] =
    over !== "seconds" ? [null, 1] : longest < 600 ? ["s", 1] : longest < 10800 ? ["min", 60] : ["h", 3600];
  return {
    data: shown.map(({ number, name, progress }) => ({
      type: "scatter",
      mode: "lines",
      name: clipped(name, 30),
      x: progress.map((at) => at[over] / size),
      y: progress.map(({ hypervolume }) => hypervolume),
      line: { shape: "hv", width: 2, color: several ? seriesColour(number) : colour("front") },
      hovertext: progress.map((at) =>
        inChart(
          `${plain(at.hypervolume)} after ${count(at.trials, "trial")}, ${count(at.epochs, "epoch")}, ${duration(at.seconds)}`,
        ),
      ),
      hoverinfo: "text",
    })),
    layout: {
      xaxis: { title: { text: unit ? `${PROGRESS[over]} (${unit})` : PROGRESS[over] }, rangemode: "tozero" },
      yaxis: { title: { text: "hypervolume" } },
      hovermode: "x",
    },
  };
}
