"""The speed of a training step of every method, as a share of what its largest matrix product reaches alone.

The step is that of a search: it reads the frozen layers' output from a cache and skips unused outputs. Its
floating-point operations are counted while it runs once. Then the step and, on its own, the matrix product
with the most operations in it are timed by turns. The product gets the arguments that it has in the step,
and the same thread. The time of all matrix products within the step is measured as well. The rest is spent on
other operations, on the optimizer and in Python. All times are the processor's, which on one thread are the
clock's without the load of other processes.

    python benchmarks/step_time.py [--methods pmf wander] [--precisions fp32 bf16-frozen] [--everything]
                                   [--repeats 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from trainables.methods import METHODS, build_method
from trainables.step.precision import PRECISIONS
from trainables.step.setting import TrainingSetting
from trainables.step.training import training_step
from trainables.tasks import DEFAULT_TASK, get_task
from trainables.testing.tiny import random_inputs
from trainables.towers import ModalityInput, Tower, load_tower, resolve_encoder

#: The included encoders, and sizes that suit them.
ENCODERS = {"text": "minilm", "image": "dinov2-small"}
SETTING = TrainingSetting(batch_size=32, text_length=16, image_size=84)
CLASSES = 13

#: Matrix products are repeated until they have taken this many seconds, so that the clock's resolution does
#: not count.
LONG_ENOUGH = 0.005


@dataclass(frozen=True)
class Product:
    """A matrix product or a convolution of a step, with its arguments."""

    function: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    flops: int

    @property
    def matrices(self) -> list[Tensor]:
        """The factors, without an added bias."""
        return [a for a in self.arguments if isinstance(a, Tensor)][-2:]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the factors."""
        return self.matrices[0].dtype

    def __str__(self) -> str:
        return " x ".join(str(tuple(matrix.shape)) for matrix in self.matrices)

    def __call__(self) -> None:
        """Run it."""
        with torch.no_grad():
            self.function(*self.arguments, **self.keywords)


class Products(TorchDispatchMode):
    """Times all matrix products and convolutions that run in this context, and finds the largest one.

    Attributes:
        seconds: The time that they took together.
        largest: The one with the most operations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.largest: Product | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator."""
        kwargs = kwargs or {}
        count = flop_registry.get(func._overloadpacket)
        if count is None:
            return func(*args, **kwargs)
        started = time.process_time()
        out = func(*args, **kwargs)
        self.seconds += time.process_time() - started
        flops = count(*args, **kwargs, out_val=out)
        if self.largest is None or flops > self.largest.flops:
            self.largest = Product(func, args, kwargs, flops)
        return out


class Step:
    """The training step of a method with its default configuration, on random inputs.

    Args:
        name: Name of the method.
        towers: One tower per modality.
        setting: How the step is run. Unless the prefix is computed, the inputs are the prefix's output.
    """

    def __init__(self, name: str, towers: Mapping[str, Tower], setting: TrainingSetting) -> None:
        torch.manual_seed(0)
        self.setting = setting
        self.task = get_task(DEFAULT_TASK).of_size(CLASSES)
        self.method = build_method(name, {}, setting.context(towers, CLASSES)).eval()
        generator = torch.Generator().manual_seed(0)
        self.inputs: dict[str, ModalityInput] = {
            m: random_inputs(self.method.tower(m), setting.batch_size, generator, sizes=setting.sizes)
            for m in self.method.modalities
        }
        self.labels = torch.arange(setting.batch_size) % CLASSES
        if setting.prefix != "computed":
            with setting.autocast(self.labels.device):
                for modality, sequence in self.method.prefix(self.inputs).items():
                    self.inputs[modality] = replace(sequence, tokens=sequence.tokens.float().contiguous())
        self.optimizer = setting.make_optimizer(self.method, learning_rate=1e-4)
        self.method.train()

    def __call__(self) -> None:
        """Run the step."""
        training_step(self.method, self.inputs, self.labels, self.task, self.setting, self.optimizer)


@dataclass(frozen=True)
class Speed:
    """The speed of a step, and of its largest matrix product alone.

    Attributes:
        method: Name of the method.
        precision: Precision of the step.
        seconds: Shortest processor time of a step.
        flops: Floating-point operations of matrix products and convolutions in a step.
        product: The shapes of the largest product's factors.
        dtype: Their type.
        product_flops: Floating-point operations of that product.
        product_seconds: Shortest processor time of that product alone.
        in_products: Share of the step's time that all matrix products and convolutions take.
        threads: Number of threads of both.
    """

    method: str
    precision: str
    seconds: float
    flops: int
    product: str
    dtype: str
    product_flops: int
    product_seconds: float
    in_products: float
    threads: int

    @classmethod
    def of(cls, name: str, towers: Mapping[str, Tower], setting: TrainingSetting, repeats: int) -> Self:
        """Measure a method.

        Args:
            name: Name of the method.
            towers: One tower per modality.
            setting: How the step is run.
            repeats: Number of times that the step and the product are timed; the shortest times count.
        """
        step = Step(name, towers, setting)
        step()  # the first step makes the optimizer's state
        counter = FlopCounterMode(display=False)
        with counter:
            step()
        with Products() as first:
            step()
        product = first.largest
        assert product is not None
        times = max(1, round(LONG_ENOUGH / _seconds(product)))
        steps, alone, inside = [], [], []
        for _ in range(repeats):
            steps.append(_seconds(step))
            alone.append(_seconds(lambda: [product() for _ in range(times)]) / times)
            with Products() as products:
                step()
            inside.append(products.seconds)
        return cls(
            name,
            setting.precision,
            min(steps),
            counter.get_total_flops(),
            str(product),
            str(product.dtype).removeprefix("torch."),
            product.flops,
            min(alone),
            min(inside) / min(steps),
            torch.get_num_threads(),
        )

    @property
    def rate(self) -> float:
        """Operations per second of the step."""
        return self.flops / self.seconds

    @property
    def product_rate(self) -> float:
        """Operations per second of the largest product alone."""
        return self.product_flops / self.product_seconds

    @property
    def share(self) -> float:
        """The step's rate as a share of the product's."""
        return self.rate / self.product_rate


def _seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def main() -> None:
    """Measure the methods, print the speeds and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="NAME")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["bf16-frozen", "fp32"])
    parser.add_argument("--everything", action="store_true", help="run the frozen layers in every step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "step_time.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as in a trial, which gets one CPU
    towers = {m: load_tower(resolve_encoder(m, name)) for m, name in ENCODERS.items()}
    setting = SETTING.as_run(cached=not arguments.everything)
    speeds = []
    table = Table(
        title=f"a training step as {'computed' if arguments.everything else 'a search runs it'}, one thread",
        title_justify="left",
        box=None,
    )
    for column in ("method", "precision"):
        table.add_column(column)
    for column in ("ms", "GFLOP", "GFLOP/s", "largest product alone", "share", "time in products"):
        table.add_column(column, justify="right")
    for precision, name in itertools.product(arguments.precisions, arguments.methods):
        speed = Speed.of(name, towers, replace(setting, precision=precision), arguments.repeats)
        speeds.append(speed)
        table.add_row(
            name,
            precision,
            f"{speed.seconds * 1e3:.1f}",
            f"{speed.flops / 1e9:.2f}",
            f"{speed.rate / 1e9:.1f}",
            f"{speed.product_rate / 1e9:.1f}",
            f"{speed.share:.0%}",
            f"{speed.in_products:.0%}",
        )
    Console(highlight=False).print(table)
    document = {
        "batch_size": SETTING.batch_size,
        "text_length": SETTING.text_length,
        "image_size": SETTING.image_size,
        "encoders": ENCODERS,
        "prefix": setting.prefix,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "rows": [
            {**vars(s), "rate": s.rate, "product_rate": s.product_rate, "share": s.share} for s in speeds
        ],
    }
    arguments.json.parent.mkdir(exist_ok=True)
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
