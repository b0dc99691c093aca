"""Which experts MoPE's routers choose while it trains and at its end: the MoPE paper's Figs. 3, 5 and 6.

One configuration of ``mope`` is trained in this process. The options are those of `python search.py train`
without --method. Written into the folder --storage-path/--name, by default runs/mope-routing, are

- ``steps.csv``: for each forward pass of the training, the entropy of the routing in bits, which is the mean
  over layers and samples (Fig. 6), and the importance of each expert of the last layer, which is the mean of
  its scores over the samples (Fig. 5);
- ``rows.csv``: for each row of the test split, the expert with the highest score in the last layer, that
  score, and the row's text if it is a text that routes (Fig. 3);
- ``routing.png``: the steps as curves.

    python benchmarks/mope_routing.py --recipe mope --set routing=top1
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import typer
from kept import step_precision
from rich.console import Console
from torch import Tensor, nn

from search.cli.options import Given, takes
from search.config import SearchConfig
from search.setup import look_up
from trainables.data import open_dataset, without_missing
from trainables.methods.mope import MoPE
from trainables.step.precision import AUTO
from trainables.trial.assignment import Assignment
from trainables.trial.run import TrialRun
from trainables.trial.workbench import TrialSpec

#: Options that a training of one configuration of a known method does not take.
OF_SEARCHES = ("space", "method", "num_samples", "sampler", "probe")


class Scores:
    """The routing scores of a method's forward passes, without noise.

    Args:
        method: The method, with dynamic prompts.

    Attributes:
        passes: Scores of each forward pass since ``take`` was called, shape (layers, B, k).
    """

    def __init__(self, method: MoPE) -> None:
        self.passes: list[Tensor] = []
        self._layers: list[Tensor] = []
        self._depth = len(method.dynamic)
        for experts in method.dynamic:
            experts.register_forward_hook(self._note)

    def _note(self, experts: nn.Module, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        self._layers.append(output[1].detach().cpu())
        if len(self._layers) == self._depth:
            self.passes.append(torch.stack(self._layers))
            self._layers = []

    def take(self) -> list[Tensor]:
        """Return the scores and forget them."""
        taken, self.passes = self.passes, []
        return taken


def entropy(scores: Tensor) -> float:
    """Return the entropy in bits of scores (layers, B, k), the mean over layers and samples."""
    return torch.special.entr(scores).sum(dim=-1).mean().item() / torch.log(torch.tensor(2.0)).item()


def routed(config: SearchConfig) -> tuple[list[tuple[float, list[float]]], Tensor, list[str] | None]:
    """Train, and return how samples were routed.

    Args:
        config: The settings of a training of ``mope``.

    Returns:
        Entropy and importances of each forward pass in training; the last layer's scores (N, k) of the test
        split; and its texts, if the complementary modality is a text.
    """
    spec, settings = _prepared(config)
    run = TrialRun(
        spec, Assignment(config=settings, seed=config.search.seed, threads=torch.get_num_threads())
    )
    assert isinstance(run.method, MoPE)
    scores = Scores(run.method)
    steps = []
    run.start()
    for _ in range(spec.epochs):
        scores.take()
        run.trainer.train_epoch()
        steps += [(entropy(each), each[-1].mean(dim=0).tolist()) for each in scores.take()]
    run.trainer.outputs(run.loader("test"))
    last = torch.cat([each[-1] for each in scores.take()])
    return steps, last, _texts(spec, run.method.complementary)


def _prepared(config: SearchConfig) -> tuple[TrialSpec, dict[str, Any]]:
    found = look_up(config)
    asked = config.step.precision
    backend = found.backend.in_precision(step_precision() if asked == AUTO else asked)
    prepared = backend.prepare(found.space, Console(stderr=True))
    (point,) = found.space.first_points(backend.context)
    return prepared.spec, found.space.at(point, backend.context).config


def _texts(spec: TrialSpec, modality: str) -> list[str] | None:
    """Return the test split's texts, or None if the modality is no text."""
    dataset = without_missing(open_dataset(spec.dataset), spec.encoders, spec.missing)
    where = dataset.modalities[modality]
    if where.kind != "text":
        return None
    batches = dataset.batches("test", [where.column])
    return [text or "" for batch in batches for text in batch[where.column].to_pylist()]


def write(path: Path, heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(heading)
        table.writerows(rows)


def draw(path: Path, steps: Sequence[tuple[float, Sequence[float]]]) -> None:
    """Draw entropy and importances over the forward passes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([bits for bits, _ in steps])
    left.set(xlabel="step", ylabel="entropy of the routing (bits)")
    right.stackplot(range(len(steps)), *zip(*(importances for _, importances in steps), strict=True))
    right.set(xlabel="step", ylabel="importance of the last layer's experts", ylim=(0, 1))
    figure.savefig(path)


def summary(last: Tensor, texts: Sequence[str] | None) -> Iterator[str]:
    """Yield a line for each expert: how many rows it gets, and texts of those with the highest scores."""
    best, chosen = last.max(dim=1)
    for expert in range(last.shape[1]):
        rows = (chosen == expert).nonzero().flatten()
        first = rows[best[rows].argsort(descending=True)][:3].tolist()
        shown = "; ".join(texts[row][:40] for row in first) if texts else ""
        yield f"expert {expert:2}: {len(rows):5} rows  {shown}"


app = typer.Typer(add_completion=False)


@app.command()
@takes(*SearchConfig.blocks().values(), without=OF_SEARCHES)
def main(given: Given) -> None:
    """Train one configuration of MoPE, and write how its routers choose."""
    config = SearchConfig.of_training("mope", **{"name": "mope-routing", **given.values})
    steps, last, texts = routed(config)
    folder = config.place.folder
    folder.mkdir(parents=True, exist_ok=True)
    experts = last.shape[1]
    heading = ["step", "entropy", *(f"importance_{expert}" for expert in range(experts))]
    write(folder / "steps.csv", heading, ((n, bits, *each) for n, (bits, each) in enumerate(steps, 1)))
    best, chosen = last.max(dim=1)
    rows = zip(chosen.tolist(), best.tolist(), texts or [""] * len(last), strict=True)
    write(folder / "rows.csv", ["row", "expert", "score", "text"], ((n, *row) for n, row in enumerate(rows)))
    draw(folder / "routing.png", steps)
    for line in summary(last, texts):
        print(line)
    print(f"entropy: {steps[0][0]:.2f} bits in the first step, {steps[-1][0]:.2f} in the last")
    print(f"written to {folder}")


if __name__ == "__main__":
    app()
