"""Everything that changes the memory and the result of a training step, beside the configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from trainables.errors import UserError, unknown
from trainables.towers import ATTENTION, InputSizes

PRECISIONS = ("fp32", "bf16")
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
    text_length: int = field(default=128, metadata={"help": "text tokens a sample, padding included"})
    image_size: int = field(default=224, metadata={"help": "side of the square image in pixels"})
    audio_seconds: float = field(default=5.0, metadata={"help": "length of a sound, padding included"})
    feature_length: int = field(
        default=50, metadata={"help": "vectors of a sequence of extracted features, padding included"}
    )
    precision: str = field(default="fp32", metadata={"help": "fp32, or bf16 for bfloat16 autocast"})
    attention: str = field(default="eager", metadata={"help": "attention kernel: eager or sdpa"})
    encoder_dropout: bool = field(
        default=True,
        metadata={"help": "dropout active in frozen encoder layers that the gradient passes through"},
    )
    optimizer: str = field(default="adamw", metadata={"help": "adamw, or sgd with momentum 0.9"})
    weight_decay: float = field(default=1e-4, metadata={"help": "weight decay of the optimiser"})

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("attention", ATTENTION), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        for name in ("batch_size", "text_length", "image_size", "feature_length"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")
        if self.audio_seconds <= 0:
            raise UserError(f"--audio-seconds {self.audio_seconds}: must be more than 0")

    @property
    def sizes(self) -> InputSizes:
        """Sizes of a sample's inputs."""
        return InputSizes(self.text_length, self.image_size, self.audio_seconds, self.feature_length)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return dataclasses.asdict(self)

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return the context that forward passes run in."""
        if self.precision == "bf16":
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return nullcontext()

    def make_optimizer(self, parameters: list[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        """Return the optimiser of the trained parameters."""
        options: dict[str, Any] = {"momentum": 0.9} if self.optimizer == "sgd" else {}
        # One tensor at a time: the multi-tensor variants, a default on GPUs only, need temporaries as
        # large as all gradients together, and would make the peak depend on the device.
        return OPTIMIZERS[self.optimizer](
            parameters, lr=learning_rate, weight_decay=self.weight_decay, foreach=False, **options
        )
