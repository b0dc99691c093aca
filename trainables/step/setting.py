"""Settings that affect the memory and the result of a training step, beside the configuration.

Torch and the towers are imported inside functions, because the command line reads these settings at every
start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from trainables.errors import UserError
from trainables.options import MOST, AtLeast, AtMost, Help, MoreThan, OneOf, Settings
from trainables.step.precision import AUTO, PRECISIONS
from trainables.step.recipe import TRAINING
from trainables.units import MIB

if TYPE_CHECKING:
    import torch

    from trainables.methods import FusionMethod, MethodContext, Query
    from trainables.towers import InputSizes, Tower

#: How an optimizer updates its parameters: one by one, all together in a few calls, or in one kernel.
OPTIMIZER_KERNELS = ("single", "foreach", "fused")
#: How a step gets the output of the frozen lower layers. computed: it runs them. cached: it reads their
#: output from a cache, and their weights stay on the device. offloaded: the weights leave the device as well.
PREFIXES = ("computed", "cached", "offloaded")
#: Kinds of device that memory is predicted for.
TARGETS = ("cuda", "cpu")
#: Class in ``torch.optim`` by name of the optimizer.
OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}

#: Heading in ``--help`` of the options that describe a sample.
SAMPLES = "Data and encoders"


def _attention_kernels() -> Iterable[str]:
    from trainables.towers import ATTENTION

    return ATTENTION


@dataclass(frozen=True, kw_only=True)
class PrecisionSettings(Settings):
    """The number format of a training step, which may depend on the devices."""

    panel: ClassVar[str | None] = "Trials"

    precision: Annotated[
        str,
        Help(
            "Number format of the step. fp32 is full precision, bf16 runs it under bfloat16 autocast, and "
            "bf16-frozen stores the frozen weight matrices in bfloat16 as well. auto is bf16-frozen where "
            "the devices compute in bfloat16 natively, else fp32."
        ),
        OneOf((AUTO, *PRECISIONS)),
    ] = AUTO


@dataclass(frozen=True, kw_only=True)
class StepSettings(PrecisionSettings):
    """The settings of a training step that do not depend on the data and the encoders."""

    batch_size: Annotated[
        int, Help("Number of samples in one optimization step.", metavar="N"), AtLeast(1), AtMost(MOST)
    ] = 32
    gradient_accumulation: Annotated[
        int,
        Help(
            "Number of parts that a step's samples are run in, one after the other, which takes less memory. "
            "It must divide the batch size.",
            metavar="N",
        ),
        AtLeast(1),
    ] = 1
    attention: Annotated[
        str,
        Help(
            "Attention kernel. eager keeps all attention weights in memory, sdpa uses PyTorch's fused "
            "kernels.",
            metavar="eager|sdpa",
        ),
        OneOf(_attention_kernels),
    ] = "eager"
    target: Annotated[
        str,
        Help(
            "Kind of device that memory is predicted for, wherever the search itself runs. cuda counts what "
            "a GPU's kernels save, what its allocator reserves, and the CUDA context. cpu counts the tensors "
            "of a step on a CPU."
        ),
        OneOf(TARGETS),
    ] = "cuda"
    expandable_segments: Annotated[
        bool,
        Help(
            "With --target cuda, predict for PyTorch's allocator as it is with "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, which leaves fewer gaps. Trials on GPUs run "
            "so if their environment says so.",
            flag="--expandable-segments",
        ),
    ] = False
    encoder_dropout: Annotated[
        bool, Help("Apply dropout in frozen encoder layers that the gradient passes through.")
    ] = True
    optimizer: Annotated[
        str,
        Help(
            "Optimizer of the trained parameters: AdamW, Adam, or SGD with momentum 0.9. The weight decay of "
            "the last two is a penalty, which is part of the gradient."
        ),
        OneOf(tuple(OPTIMIZERS)),
    ] = "adamw"
    optimizer_kernel: Annotated[
        str,
        Help(
            "How the optimizer goes through the parameters. single updates one tensor after the other, "
            "foreach all of them together, and fused does so in one kernel."
        ),
        OneOf(OPTIMIZER_KERNELS),
    ] = "single"
    prefix: Annotated[
        str,
        Help(
            "How a step gets the output of the frozen lower layers. computed runs them in every step, cached "
            "reads their output from a cache, and offloaded also keeps their weights off the device."
        ),
        OneOf(PREFIXES),
    ] = "computed"
    weight_decay: Annotated[
        float,
        Help(
            "Weight decay of the optimizer. Only weight matrices decay: no biases, norms and prompts.",
            metavar="RATE",
            panel=TRAINING,
        ),
        AtLeast(0),
        AtMost(1),
    ] = 1e-4
    clip_norm: Annotated[
        float | None,
        Help(
            "Largest norm of a step's gradient; a longer one is shortened. A supernet's is 1 by default.",
            metavar="NORM",
            panel=TRAINING,
            default="no limit",
        ),
        MoreThan(0),
        AtMost(1e9),
    ] = None
    label_smoothing: Annotated[
        float,
        Help(
            "Share of a label that is spread evenly over all classes in training. Only for classification.",
            metavar="SHARE",
            panel=TRAINING,
        ),
        AtLeast(0),
        AtMost(1),
    ] = 0
    modality_learning_rates: Annotated[
        str | None,
        Help(
            "Learning rates of what trains for one modality, such as its encoder's prompts, as multiples of "
            "the configuration's: text=1.25,image=0.5. What serves several modalities has the "
            "configuration's.",
            metavar="MODALITY=FACTOR[,…]",
            panel=TRAINING,
            default="1 for all",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        read_rates(self.modality_learning_rates)
        if self.batch_size % self.gradient_accumulation:
            raise UserError(
                f"--gradient-accumulation {self.gradient_accumulation}: must divide --batch-size, "
                f"{self.batch_size}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingSetting(StepSettings):
    """All settings of a training step. They are recorded with every trial, and each prediction is for one.

    Raises:
        UserError: If a value is not accepted.
    """

    #: The number format itself, which is no option: ``auto`` says nothing about a step.
    precision: Annotated[str, OneOf(PRECISIONS)] = "fp32"
    gradient_checkpointing: Annotated[
        bool,
        Help(
            "Keep only the inputs of layers that the gradient passes through, and run these layers a second "
            "time in the backward pass. This takes less memory and more time."
        ),
    ] = False
    skip_unused: Annotated[
        bool,
        Help(
            "Skip the parts of encoder layers whose output nothing reads, as searches do.",
            flag="--skip-unused",
        ),
    ] = False
    text_length: Annotated[
        int,
        Help("Number of tokens that each text is padded to.", metavar="N", panel=SAMPLES),
        AtLeast(1),
        AtMost(MOST),
    ] = 128
    #: Side of the square image in pixels. Its option belongs to the encoders, which supply the default.
    image_size: Annotated[int, AtLeast(1), AtMost(MOST)] = 224
    audio_seconds: Annotated[
        float,
        Help("Length in seconds that each sound is padded to.", metavar="SECONDS", panel=SAMPLES),
        MoreThan(0),
        AtMost(MOST),
    ] = 5.0
    feature_length: Annotated[
        int,
        Help(
            "Number of vectors that each sequence of extracted features is padded to.",
            metavar="N",
            panel=SAMPLES,
        ),
        AtLeast(1),
        AtMost(MOST),
    ] = 50

    #: CUDA compute capability of the target and bytes of a process's CUDA context there.
    compute_capability: Annotated[float, MoreThan(0)] = 8.0
    context_bytes: Annotated[int, AtLeast(0)] = 500 * MIB

    @classmethod
    def of(cls, step: StepSettings, **others: Any) -> TrainingSetting:
        """Return a setting with a user's choices, and with fields given by name in addition or instead."""
        return cls(**{**step.to_dict(), **others})

    @property
    def sizes(self) -> InputSizes:
        """The sizes of a sample's inputs."""
        from trainables.towers import InputSizes

        return InputSizes(self.text_length, self.image_size, self.audio_seconds, self.feature_length)

    def context(
        self, towers: Mapping[str, Tower], output_size: int, query: Query | None = None
    ) -> MethodContext:
        """Return the context from which a method is built to run under this setting."""
        import torch

        from trainables.methods import MethodContext

        return MethodContext(
            towers,
            output_size,
            self.sizes,
            self.encoder_dropout,
            self.gradient_checkpointing,
            self.skip_unused,
            torch.bfloat16 if self.precision == "bf16-frozen" else None,
            query,
        )

    def as_run(self, *, cached: bool) -> TrainingSetting:
        """Return the setting that a search uses in place of this one, to get the same results with less work.

        Args:
            cached: Whether the output of the frozen lower layers is cached.
        """
        prefix = "cached" if cached and self.prefix == "computed" else self.prefix
        return dataclasses.replace(self, skip_unused=True, prefix=prefix)

    def of_inference(self) -> TrainingSetting:
        """Return the setting of a forward pass without gradient that computes all samples of a step at once.

        It is the same for settings that differ only in what training does.
        """
        return dataclasses.replace(
            self,
            gradient_accumulation=1,
            gradient_checkpointing=False,
            prefix="computed",
            skip_unused=False,
            weight_decay=0.0,
            clip_norm=None,
            label_smoothing=0.0,
            optimizer="adamw",
            modality_learning_rates=None,
        )

    def same_memory(self) -> TrainingSetting:
        """Return the setting that stands for all whose steps need the same memory as this one's.

        Predictions are made for it, so that a search over a rate does not predict for each of its values.
        """
        return dataclasses.replace(
            self,
            weight_decay=float(self.weight_decay > 0),
            clip_norm=None if self.clip_norm is None else 1.0,
            label_smoothing=float(self.label_smoothing > 0),
            modality_learning_rates=",".join(f"{name}=1" for name in sorted(self.modality_rates)) or None,
        )

    def autocast(self, device: torch.device, *, cached: bool = True) -> AbstractContextManager[Any]:
        """Return the context manager for forward passes on a device.

        Args:
            device: The device.
            cached: Whether a trained weight is cast once in the context, and its copy is kept.
        """
        if self.precision != "fp32":
            import torch

            return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=cached)
        return nullcontext()

    @property
    def modality_rates(self) -> dict[str, float]:
        """The factors of ``modality_learning_rates`` by modality."""
        return read_rates(self.modality_learning_rates)

    def make_optimizer(
        self, method: FusionMethod, learning_rate: float, head_learning_rate: float = 1.0
    ) -> torch.optim.Optimizer:
        """Return the optimizer of a method's trained parameters.

        Args:
            method: The method.
            learning_rate: Learning rate of what is neither the head nor of a modality with its own.
            head_learning_rate: That of the head, as a multiple of ``learning_rate``.

        Raises:
            UserError: If ``modality_learning_rates`` names a modality that the method does not get.
        """
        rates = self.modality_rates
        for modality in rates.keys() - method.context.towers.keys():
            raise UserError(
                f"--modality-learning-rates {modality}: no such modality; there are: "
                f"{', '.join(method.context.towers)}"
            )
        groups = [
            {
                "params": group.parameters,
                "lr": learning_rate
                * (head_learning_rate if group.head else 1)
                * rates.get(group.modality or "", 1),
                "weight_decay": self.weight_decay if group.decays else 0.0,
            }
            for group in method.parameter_groups(rates)
        ]
        return self.optimizer_of(groups, learning_rate)

    def optimizer_of(self, parameters: Any, learning_rate: float) -> torch.optim.Optimizer:
        """Return the optimizer of some parameters.

        Args:
            parameters: The parameters, or groups of them, as PyTorch's optimizers take them.
            learning_rate: Learning rate of all groups that have none of their own.
        """
        import torch

        kind: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, OPTIMIZERS[self.optimizer])
        options: dict[str, Any] = {"momentum": 0.9} if self.optimizer == "sgd" else {}
        # Both are always given. PyTorch's default is foreach on GPUs only. It needs temporaries as large as
        # all gradients of a group together, so the peak would depend on the device.
        return kind(
            parameters,
            lr=learning_rate,
            foreach=self.optimizer_kernel == "foreach",
            fused=self.optimizer_kernel == "fused",
            **options,
        )


def read_rates(text: str | None) -> dict[str, float]:
    """Return the factors in a text such as ``text=1.25,image=0.5``, by modality.

    >>> read_rates("text=1.25, image=.5")
    {'text': 1.25, 'image': 0.5}

    Raises:
        UserError: If the text is not of that form.
    """
    rates = {}
    for part in text.split(",") if text else ():
        modality, _, factor = (word.strip() for word in part.partition("="))
        try:
            rates[modality] = float(factor)
        except ValueError:
            rates[modality] = 0
        if not modality or not 0 < rates[modality] <= 1e6:
            raise UserError(
                f"--modality-learning-rates {text}: write MODALITY=FACTOR with factors above 0, e.g. "
                "text=1.25,image=0.5"
            )
    return rates
