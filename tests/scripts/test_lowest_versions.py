"""The lowest versions that pyproject.toml allows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lowest() -> list[str]:
    script = ROOT / "scripts" / "lowest_versions.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("pin", ["torch==2.13", "ray==2.60", "mlflow==3.13", "pytest==9"])
def test_bounds_become_pins_without_extras_and_upper_bounds(lowest, pin) -> None:
    assert pin in lowest


def test_every_pin_is_one_that_pip_reads(lowest) -> None:
    names = [pin.split("==")[0] for pin in lowest]
    assert len(names) == len(set(names)) >= 15
    assert all(pin.count("==") == 1 and not set(pin) & set("<>, []") for pin in lowest)
