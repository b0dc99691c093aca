"""LateConcat: a linear classifier on the concatenated pooled vectors of fine-tuned encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from trainables.methods.base import MethodContext, register_method
from trainables.methods.config import MethodConfig, option
from trainables.methods.linear import Linear
from trainables.methods.space import DefaultSpace
from trainables.parameters import Choices


@dataclass(frozen=True)
class LateConcatConfig(MethodConfig):
    """Configuration of ``late_concat``."""

    train_encoders: bool = option(
        True, "fine-tune the encoders (as in the paper); false leaves `linear`", other=False
    )


@register_method(
    "late_concat",
    description="linear classifier on the concatenated pooled vectors, encoders fine-tuned",
    source="Li et al., CVPR 2023 (PMF), Sec. 4.2",
    space=DefaultSpace(
        "late concatenation, frozen and fine-tuned",
        {"train_encoders": Choices((False, True))},
        [{"train_encoders": True, "learning_rate": 2e-5}, {"train_encoders": False, "learning_rate": 3e-4}],
        learning_rates=(1e-5, 1e-2),
    ),
)
class LateConcat(Linear):
    """Fine-tuned late concatenation (PMF paper, Sec. 4.2, "LateConcat").

    The method computes the same function as ``linear``, but all parameters of the encoders train too.
    """

    config_class: ClassVar[type[MethodConfig]] = LateConcatConfig

    @classmethod
    def trained_encoders(cls, context: MethodContext, config: Any) -> frozenset[str]:
        """Return all modalities if the encoders train, else none."""
        return frozenset(context.towers) if config.train_encoders else frozenset()
