"""A model where neither Ray nor Optuna nor MLflow is installed, and this program only by its wheel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from search.exporting.mlflow_model import add_mlflow
from search.exporting.wheel import needed_by_models
from tests.search.exporting.models import exported
from trainables.model import load_model


@pytest.fixture
def folder(trial_spec, tmp_path) -> Path:
    """A model's folder."""
    folder = exported(trial_spec, tmp_path / "model")
    add_mlflow(folder)
    return folder


@pytest.fixture
def bare(folder, tmp_path) -> Path:
    """What an environment holds in which nothing but the model's wheel is installed, with what it needs."""
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-index"]
    (wheel,) = folder.glob("code/*.whl")
    subprocess.run([*pip, "--no-deps", "--no-compile", "--target", str(site), str(wheel)], check=True)
    waiting, seen = needed_by_models(), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:  # of other systems
            continue
        needed = [each for each in found.requires or [] if "extra ==" not in each]
        waiting += [re.split(r"[\[<>=~!; (]", each)[0].lower() for each in needed]
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] != ".."}:
            if not (site / top).exists():
                (site / top).symlink_to(found.locate_file(top))
    assert not {"ray", "optuna", "mlflow"} & seen
    return site


@pytest.mark.full
def test_the_wheel_and_what_it_needs_suffice_to_load_and_answer(folder, bare, tmp_path) -> None:
    code = (
        "import json, sys; from importlib.util import find_spec; from trainables import load_model\n"
        "assert not [name for name in ('ray', 'optuna', 'mlflow') if find_spec(name)]\n"
        "import trainables; assert trainables.__file__.startswith(sys.argv[1])\n"
        f"print(json.dumps(load_model({str(folder)!r}).predict([{{'text': 'a red square'}}])))"
    )
    command = [sys.executable, "-S", "-c", code, str(bare)]  # without the packages that are installed here
    environment = {**os.environ, "PYTHONPATH": str(bare)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == load_model(folder).predict([{"text": "a red square"}])
