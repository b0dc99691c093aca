"""The example of a method, checked as docs/own_methods.md tells authors to check theirs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from tests.conftest import EXAMPLE_PLUGIN
from trainables.methods import METHODS
from trainables.plugin import Plugin
from trainables.testing import check_method, method_checks
from trainables.testing.checks import run_all

GUIDE = Path(__file__).parents[2] / "docs" / "own_methods.md"

#: A method that trains nothing of what it says it does.
IDLE = """
from trainables.methods import FusionOutput, register_method
from trainables.methods.linear import Linear


@register_method("idle", description="a head that hears nothing", source="nowhere")
class Idle(Linear):
    def forward(self, batch):
        output = super().forward(batch)
        return FusionOutput(output.outputs.detach() + 0 * sum(p.sum() for p in self.parameters()))
"""


@pytest.mark.slow
def test_the_guides_test_runs_from_any_folder(tmp_path) -> None:
    (code,) = re.findall(r"```python\n(# test_my_method.*?)```", GUIDE.read_text(), flags=re.S)
    named = code.replace("my_method.py", "gated_fusion.py").replace("my_method", "gated_fusion")
    (tmp_path / "test_gated_fusion.py").write_text(named)
    (tmp_path / "gated_fusion.py").write_text(EXAMPLE_PLUGIN.read_text())
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "described or falls or save",
    ]
    done = subprocess.run(
        [*command, "test_gated_fusion.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"[4-9] passed", done.stdout)


def test_checks_are_of_the_method_that_is_asked_for() -> None:
    checks = list(method_checks("gated_fusion"))
    assert len(checks) > 30
    assert len({str(check) for check in checks}) == len(checks)
    assert all(check.arguments[0] == "gated_fusion" for check in checks)


@mock.patch.dict(METHODS)
def test_what_does_not_pass_is_named(tmp_path) -> None:
    path = tmp_path / "idle.py"
    path.write_text(IDLE)
    Plugin.read(path).load()
    with pytest.raises(AssertionError) as failure:
        check_method("idle")
    assert any("idle" in note for note in failure.value.__notes__)
    run_all(check for check in method_checks("idle") if "is_described" in str(check))
