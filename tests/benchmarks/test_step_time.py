"""The speed of steps: a tiny form of ``benchmarks/step_time.py``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.step.setting import TrainingSetting
from trainables.testing.tiny import SIZES, tiny_towers

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROWS = 6


@pytest.fixture(scope="module")
def step_time() -> Iterator[Any]:
    """The benchmark; benchmarks/ is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("step_time")


def setting(precision: str, *, cached: bool = True) -> TrainingSetting:
    """Return a setting in which a search would run small inputs."""
    return TrainingSetting(batch_size=ROWS, precision=precision, **asdict(SIZES)).as_run(cached=cached)


def test_the_operations_are_those_of_the_head(step_time) -> None:
    speed = step_time.Speed.of("linear", tiny_towers(), setting("fp32"), repeats=1)
    widths = sum(tower.width for tower in tiny_towers().values())
    product = 2 * ROWS * widths * step_time.CLASSES
    assert speed.product_flops == product
    assert speed.flops == 2 * product  # of the output, and of the weight's gradient
    assert speed.product == f"({ROWS}, {widths}) x ({widths}, {step_time.CLASSES})"


def test_the_frozen_layers_run_only_where_asked(step_time) -> None:
    cached, computed = (
        step_time.Speed.of("linear", tiny_towers(), setting("fp32", cached=cached), repeats=1)
        for cached in (True, False)
    )
    assert computed.flops > 10 * cached.flops


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("bf16-frozen", "bfloat16")])
def test_step_and_product_have_the_same_type_and_threads(step_time, precision, dtype) -> None:
    speed = step_time.Speed.of("pmf", tiny_towers(), setting(precision), repeats=2)
    assert speed.dtype == dtype
    assert speed.threads == torch.get_num_threads()
    assert speed.flops > speed.product_flops > 0
    assert speed.share == pytest.approx(
        speed.flops / speed.seconds / (speed.product_flops / speed.product_seconds)
    )
    assert speed.in_products > 0
