"""Full fine-tuning: every encoder trains entirely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainables.methods.base import register_method
from trainables.methods.config import MethodConfig
from trainables.methods.late_concat import LateConcat
from trainables.methods.space import FINE_TUNING, DefaultSpace


@dataclass(frozen=True)
class FullFinetuneConfig(MethodConfig):
    """Configuration of ``full_finetune``, which has no options."""

    train_encoders: ClassVar[bool] = True


@register_method(
    "full_finetune",
    description="all encoders fine-tuned, linear classifier on the concatenated pooled vectors",
    source="Wander paper, Sec. 4.2, Table 1",
    space=DefaultSpace("all encoders fine-tuned", {}, [{"learning_rate": 5e-5}], FINE_TUNING),
)
class FullFinetune(LateConcat):
    """Full fine-tuning (Wander paper, Table 1), which computes the same function as PMF's LateConcat.

    outputs = W [pool(text); pool(image); …] + b. Everything trains.

    The paper counts 220 M parameters on UPMC-Food 101 with BERT-base and ViT-B/16, where this method has
    195 M. The paper's host additionally has a transformer over the tokens of both encoders and a hidden layer
    in the head. Two such transformer layers of the same width give 206 to 211 M, four give 217 to 225 M.
    """

    config_class = FullFinetuneConfig
