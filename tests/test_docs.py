"""What the guides say of the methods is what the program does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from search.goals.objectives import available_objectives
from search.samplers import SAMPLERS
from search.schedulers import SCHEDULERS
from spaces import SpaceContext, get_space
from tests.tasks import classification
from tests.trainables.methods.paper import trained_parameters
from trainables.memory.predictor import MemoryPredictor
from trainables.methods import METHODS
from trainables.step.setting import TrainingSetting
from trainables.towers import resolve_encoder

DOCS = Path(__file__).parent.parent / "docs"


def _rows() -> dict[str, list[str]]:
    """The table of methods: cells by name."""
    table = (DOCS / "methods.md").read_text().split("## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row for row in rows}


def test_every_method_has_a_row() -> None:
    ours = {name for name, spec in METHODS.items() if spec.method.__module__.startswith("trainables.")}
    assert set(_rows()) == ours


@pytest.mark.parametrize(
    "names", [SAMPLERS, SCHEDULERS, available_objectives()], ids=["samplers", "schedulers", "objectives"]
)
def test_what_a_search_can_be_told_is_explained(names) -> None:
    tables = [line for line in (DOCS / "search.md").read_text().splitlines() if line.startswith("| `")]
    explained = {name for line in tables for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert set(names) <= explained


@pytest.mark.parametrize("name", _rows())
def test_parameters_and_modalities_are_as_the_table_says(name) -> None:
    cells = _rows()[name]
    assert cells[5] == f"{trained_parameters(name) / 1e6:.2f} M"
    fewest, most = METHODS[name].method.n_modalities
    kind = getattr(METHODS[name].method, "kind", None)
    assert cells[4] == (kind or (f"{most}" if most else f"{fewest} or more"))


def test_what_methods_take_is_listed_once() -> None:
    section = (DOCS / "methods.md").read_text().split("## Modalities")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    listed = {name: row[2].strip() for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert set(listed) == set(_rows())
    for name, row in _rows().items():
        words = {"2": "two", "2 or more": "two or more", "1 or more": "one or more"}
        assert listed[name].startswith(words.get(row[4], f"a{'n' * (row[4] == 'image')} {row[4]}"))


def test_first_learning_rates_are_as_the_table_says() -> None:
    section = (DOCS / "recipes.md").read_text().split("## First learning rates")[1]
    context = SpaceContext(dict.fromkeys(("text", "image"), 12), dict.fromkeys(("text", "image"), 768))
    stated = {}
    for row in (line.split("|") for line in section.splitlines() if line.startswith("| `")):
        stated |= dict.fromkeys(re.findall(r"`(\w+)`", row[1]), float(row[2]))
    ours = {name for name, spec in METHODS.items() if spec.method.__module__.startswith("trainables.")}
    assert set(stated) == {*ours, "pmf_nas"}
    for name, rate in stated.items():
        assert get_space(name).first_points(context)[0]["learning_rate"] == rate, name


def test_memory_is_as_the_table_says() -> None:
    """For the rows that bound the others; the rest would be as many seconds."""
    encoders = {m: resolve_encoder(m, f"arch:{n}") for m, n in (("text", "bert-base"), ("image", "vit-base"))}
    predictor = MemoryPredictor(
        encoders, classification(101), TrainingSetting(target="cpu", batch_size=32, text_length=128)
    )
    for name in ("linear", "pmf", "late_concat", "mope", "wander"):
        assert _rows()[name][6] == f"{predictor.predict(name, {}).total / 2**30:.2f} GiB"


def test_the_code_about_any_model_runs() -> None:
    section = (DOCS / "memory.md").read_text().split("## Any model")[1].split("\n## ")[0]
    names: dict[str, Any] = {}
    reports = []
    for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(code, names)
        reports.append(names["report"])
    classifier, with_lora, network = reports
    assert classifier.memory > with_lora.memory > with_lora.context
    assert network.memory > network.context


def test_the_table_of_options_is_up_to_date() -> None:
    page = runpy.run_path(str(DOCS / "make_options.py"))["page"]()
    assert (DOCS / "options.md").read_text() == page, "run python docs/make_options.py"


def test_links_lead_somewhere() -> None:
    for page in (*DOCS.glob("*.md"), DOCS.parent / "README.md"):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
