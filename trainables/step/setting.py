"""Everything that changes the memory and the result of a training step, beside the configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from trainables.errors import UserError, unknown
from trainables.methods import MethodContext
from trainables.towers import ATTENTION, InputSizes, Tower

#: fp32; bf16: bfloat16 autocast; bf16-frozen: autocast, and the frozen weight matrices stored in bfloat16.
PRECISIONS = ("fp32", "bf16", "bf16-frozen")
#: How an optimiser goes through its parameters: one by one, all in a few calls, or in one kernel.
OPTIMIZER_KERNELS = ("single", "foreach", "fused")
#: What a step does about the frozen lower layers: runs them, takes their output from a cache while their
#: weights stay on the device, or takes it from a cache and keeps the weights off the device.
PREFIXES = ("computed", "cached", "offloaded")
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True)
class TrainingSetting:
    """How a step is run. Recorded with every trial; predictions are for one of these.

    Raises:
        UserError: If a value is not among those accepted.
    """

    batch_size: int = field(default=32, metadata={"help": "samples an optimisation step"})
    gradient_accumulation: int = field(
        default=1, metadata={"help": "parts that a step's samples are run in, one after the other"}
    )
    text_length: int = field(default=128, metadata={"help": "text tokens a sample, padding included"})
    image_size: int = field(default=224, metadata={"help": "side of the square image in pixels"})
    audio_seconds: float = field(default=5.0, metadata={"help": "length of a sound, padding included"})
    feature_length: int = field(
        default=50, metadata={"help": "vectors of a sequence of extracted features, padding included"}
    )
    precision: str = field(
        default="fp32",
        metadata={
            "help": "fp32, bf16 for bfloat16 autocast, or bf16-frozen to store the frozen matrices so, too"
        },
    )
    attention: str = field(default="eager", metadata={"help": "attention kernel: eager or sdpa"})
    encoder_dropout: bool = field(
        default=True,
        metadata={"help": "dropout active in frozen encoder layers that the gradient passes through"},
    )
    gradient_checkpointing: bool = field(
        default=False,
        metadata={"help": "keep only the inputs of layers that the gradient crosses, and run them twice"},
    )
    prefix: str = field(
        default="computed",
        metadata={
            "help": "frozen lower layers: computed in every step, cached, or offloaded (cached, and their "
            "weights off the device)"
        },
    )
    skip_unused: bool = field(
        default=False, metadata={"help": "do not compute outputs of encoder layers that nothing reads"}
    )
    optimizer: str = field(default="adamw", metadata={"help": "adamw, or sgd with momentum 0.9"})
    optimizer_kernel: str = field(
        default="single",
        metadata={"help": "single: one tensor at a time; foreach: all together; fused: in one kernel"},
    )
    weight_decay: float = field(default=1e-4, metadata={"help": "weight decay of the optimiser"})

    def __post_init__(self) -> None:
        for name, known in (
            ("precision", PRECISIONS),
            ("attention", ATTENTION),
            ("prefix", PREFIXES),
            ("optimizer", OPTIMIZERS),
            ("optimizer_kernel", OPTIMIZER_KERNELS),
        ):
            if getattr(self, name) not in known:
                raise unknown(name.replace("_", " "), getattr(self, name), known)
        for name in ("batch_size", "gradient_accumulation", "text_length", "image_size", "feature_length"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")
        if self.batch_size % self.gradient_accumulation:
            raise UserError(
                f"--gradient-accumulation {self.gradient_accumulation}: must divide --batch-size, "
                f"{self.batch_size}"
            )
        if self.audio_seconds <= 0:
            raise UserError(f"--audio-seconds {self.audio_seconds}: must be more than 0")

    @property
    def sizes(self) -> InputSizes:
        """Sizes of a sample's inputs."""
        return InputSizes(self.text_length, self.image_size, self.audio_seconds, self.feature_length)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return dataclasses.asdict(self)

    def context(self, towers: Mapping[str, Tower], output_size: int) -> MethodContext:
        """Return what a method is built over, so that its steps run as this setting says."""
        return MethodContext(
            towers,
            output_size,
            self.sizes,
            self.encoder_dropout,
            self.gradient_checkpointing,
            self.skip_unused,
            torch.bfloat16 if self.precision == "bf16-frozen" else None,
        )

    def as_run(self, *, cached: bool) -> TrainingSetting:
        """Return how a search runs the steps of this setting: with as little work as leads to the same.

        Args:
            cached: Whether the output of the frozen lower layers is cached.
        """
        prefix = "cached" if cached and self.prefix == "computed" else self.prefix
        return dataclasses.replace(self, skip_unused=True, prefix=prefix)

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return the context that forward passes run in."""
        if self.precision != "fp32":
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return nullcontext()

    def make_optimizer(self, parameters: list[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        """Return the optimiser of the trained parameters."""
        options: dict[str, Any] = {"momentum": 0.9} if self.optimizer == "sgd" else {}
        # Never left to PyTorch: its default is foreach on GPUs only, which needs temporaries as large as
        # all gradients together, so that the peak would depend on the device.
        return OPTIMIZERS[self.optimizer](
            parameters,
            lr=learning_rate,
            weight_decay=self.weight_decay,
            foreach=self.optimizer_kernel == "foreach",
            fused=self.optimizer_kernel == "fused",
            **options,
        )
