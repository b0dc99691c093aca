from __future__ import annotations

import importlib
import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["trainables.trial.run", "trainables.supernet.run"])
def test_training_loads_nothing_of_the_search(module: str) -> None:
    program = (
        f"import sys, {module}\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*sorted(roots & {'ray', 'optuna', 'mlflow', 'search', 'spaces'}))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_the_package_loads_what_is_asked_for_only() -> None:
    program = (
        "import sys, trainables\n"
        "assert 'torch' not in sys.modules\n"
        "from trainables import load_model\n"
        "assert load_model is trainables.model.load_model\n"
        "assert not hasattr(trainables, 'save_model')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


PUBLIC = ("data", "memory", "methods", "model", "step", "supernet", "tasks", "towers", "trial")


@pytest.mark.parametrize("package", PUBLIC)
def test_what_a_package_exports_is_there(package: str) -> None:
    module = importlib.import_module(f"trainables.{package}")
    assert module.__all__
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
