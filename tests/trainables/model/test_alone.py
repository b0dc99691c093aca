"""Models load where nothing of a search is installed."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import EXAMPLE_PLUGIN
from trainables.methods import METHODS
from trainables.plugin import Plugin
from trainables.testing.models import own_cache, random_model, raw_rows, small_spec
from trainables.trial.export import export_probe
from trainables.trial.probing import run_probes

#: Loads the models in folders and prints their answers; what searches need cannot be imported.
PROGRAM = """
import base64, json, sys

class Without:
    # Finds modules as another finder does, but none of what a search needs

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        absent = name.partition(".")[0] in ("ray", "optuna", "mlflow", "search", "spaces")
        return None if absent else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)

from trainables import load_model

rows = json.loads(sys.stdin.read())
for row in rows:
    if row["image"] is not None:
        row["image"] = base64.b64decode(row["image"])
print(json.dumps({folder: load_model(folder, "cpu").outputs(rows).tolist() for folder in sys.argv[1:]}))
"""


def _answers(folders: list[Path], rows: list[dict[str, Any]]) -> dict[str, list[list[float]]]:
    encoded = [
        {**row, "image": None if row["image"] is None else base64.b64encode(row["image"]).decode()}
        for row in rows
    ]
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, folders)],
        input=json.dumps(encoded),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found: dict[str, list[list[float]]] = json.loads(run.stdout)
    return found


@pytest.mark.slow
def test_every_model_loads_without_what_searches_need(tmp_path: Path) -> None:
    expected, folders = {}, []
    with own_cache():
        spec = small_spec("classification", plugins=(Plugin.read(EXAMPLE_PLUGIN),))
        for name in METHODS:
            folders.append(tmp_path / name)
            run = random_model(spec, name, folders[-1])
            expected[str(folders[-1])] = run.trainer.outputs(run.loader("test"))[0].tolist()
        probe = run_probes(spec).joint
        folders.append(tmp_path / "probe")
        export_probe(spec, probe, "probe", folders[-1], about={}, card="")
        expected[str(folders[-1])] = probe.outputs["test"].tolist()
        answers = _answers(folders, raw_rows(spec))
    assert answers.keys() == expected.keys()
    for folder, outputs in expected.items():
        for found, row in zip(answers[folder], outputs, strict=True):
            assert found == pytest.approx(row, abs=1e-4), folder
