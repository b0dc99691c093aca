"""Parts for methods in which the vector of one modality prompts the encoder of another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from trainables.errors import UserError
from trainables.methods.base import FusionMethod, MethodContext
from trainables.methods.config import MethodConfig, option
from trainables.methods.parts import DeepPrompts, uniform_prompts
from trainables.methods.space import SpaceContext, main_modality
from trainables.towers import Tower

#: Prompts are drawn uniformly from [-bound, bound]. The papers do not state a distribution. MoPE's released
#: code uses this bound in all layers: Xavier's for Swin-B's first stage, sqrt(6 / (3 * 4^2 + 128)).
PROMPT_BOUND = 0.185
#: The bound of the prompts in the complementary encoder, which is BERT there.
COMPLEMENTARY_BOUND = 0.3


@dataclass(frozen=True)
class ConditionalConfig(MethodConfig):
    """Options of all methods that map a vector to a prompt. By default, text prompts the image encoder."""

    main: str | None = option(
        None,
        "modality whose encoder is prompted with the other's vector; none: the first image, or else the "
        "first modality",
        other="text",
    )
    mapper_width: int | None = option(
        None, "bottleneck of the mapper; none: half the complementary encoder's width", low=1, other=8
    )


class SequentialPipeline(FusionMethod):
    """Base of methods that encode the complementary modality first and use its vector in the main encoder.

    Attributes:
        main: The modality whose pooled vector is classified; the option ``main``.
        complementary: The other modality.
        head: The linear classifier.
    """

    n_modalities = (2, 2)
    #: The kind of main modality that is preferred if the configuration names none.
    preferred: ClassVar[str] = "image"

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        self.main, self.complementary = self.direction(context, config)
        self.head = nn.Linear(self.tower(self.main).width, context.output_size)

    @classmethod
    def direction(cls, context: MethodContext, config: Any) -> tuple[str, str]:
        """Return the main modality and the complementary one (MoPE paper, Sec. 3.2).

        Raises:
            UserError: If the context lacks the main modality, or its encoder has no layers to prompt.
        """
        towers = context.towers
        main: str = config.main or main_modality(SpaceContext.of_towers(towers), cls.preferred)
        if main not in towers:
            raise UserError(f"main={main}: must be {' or '.join(towers)}")
        if towers[main].depth == 0:
            raise UserError(f"main={main}: its encoder has no layers to prompt; choose the other modality")
        return main, next(modality for modality in towers if modality != main)

    @classmethod
    def refusal(cls, encoders: SpaceContext) -> str | None:
        """Refuse encoders of which none has layers, too."""
        if not any(encoders.depths.values()):
            return "adds tokens to layers, and no encoder has any; choose another encoder"
        return super().refusal(encoders)

    def modality_of(self, name: str) -> str | None:
        """Return the modality whose encoder a parameter belongs to; all others serve the main one."""
        if name.startswith("complementary_prompts."):
            return self.complementary
        return super().modality_of(name) or self.main


class Mapper(nn.Module):
    """Maps the complementary vector to one prompt, f_m (MoPE paper, Eq. 3 and Sec. 4.1).

    f_m is a two-layer MLP with GELU: f_m(psi) = V GELU(U psi + a) + b. V and b exist once for each hidden
    size of the layers to prompt: once in most encoders, once per stage in Swin. Layers of equal size get the
    same prompt.

    Args:
        source_width: Size of the complementary vector.
        widths: Hidden sizes of the layers to prompt.
        hidden: Bottleneck width; None means half of ``source_width``.
    """

    def __init__(self, source_width: int, widths: Iterable[int], hidden: int | None) -> None:
        super().__init__()
        hidden = hidden or max(1, source_width // 2)
        self.down = nn.Sequential(nn.Linear(source_width, hidden), nn.GELU())
        self.up = nn.ModuleDict({str(width): nn.Linear(hidden, width) for width in sorted(set(widths))})

    def forward(self, vector: Tensor) -> dict[int, Tensor]:
        """Map vectors (B, source_width) to one prompt (B, 1, D) for each hidden size D."""
        hidden = self.down(vector)
        return {int(width): up(hidden)[:, None] for width, up in self.up.items()}


def static_prompts(widths: Iterable[int], length: int) -> nn.ParameterList:
    """Return learned prompts (1, length, D) for layers with these hidden sizes D."""
    return nn.ParameterList(uniform_prompts(length, width, PROMPT_BOUND) for width in widths)


def complementary_prompts(tower: Tower, length: int) -> DeepPrompts:
    """Return ``length`` prompts for each layer of the complementary encoder.

    Raises:
        UserError: If the encoder has no layers.
    """
    if tower.depth == 0:
        raise UserError(
            f"the {tower.modality} encoder has no layers to prompt; "
            "mope takes it with complementary_tuning=frozen or complementary_tuning=finetune"
        )
    return DeepPrompts(tower, length, lambda width: uniform_prompts(length, width, COMPLEMENTARY_BOUND))
