"""SequentialFuse and P-SequentialFuse: the vector of one modality as a token in the encoder of the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.methods.base import FusionOutput, MethodContext, register_method
from trainables.methods.conditional import (
    ConditionalConfig,
    Mapper,
    SequentialPipeline,
    complementary_prompts,
    static_prompts,
)
from trainables.methods.config import option
from trainables.methods.parts import expand, run_prompted
from trainables.methods.space import (
    FINE_TUNING,
    PROMPT_LENGTHS,
    DefaultSpace,
    SpaceContext,
    main_modality,
    modalities,
)
from trainables.towers import ModalityInput


@dataclass(frozen=True)
class SequentialFuseConfig(ConditionalConfig):
    """Configuration of ``sequential_fuse``."""


@dataclass(frozen=True)
class PSequentialFuseConfig(ConditionalConfig):
    """Configuration of ``p_sequential_fuse``; the prompt length l = 6 is the paper's value."""

    prompt_length: int = option(6, "static prompts a layer of the main encoder", low=1, other=2)
    complementary_prompt_length: int = option(
        4, "prompts a layer of the complementary encoder", low=1, other=2
    )


@register_method(
    "sequential_fuse",
    description="one modality's vector mapped to a token in every layer of the other, both fine-tuned",
    source="Jiang et al., 2023 (MoPE), Sec. 4.3",
    space=DefaultSpace(
        "one mapped token a layer, both encoders fine-tuned: direction",
        {"main": modalities},
        lambda context: [{"main": main_modality(context), "learning_rate": 1e-4}],
        FINE_TUNING,
    ),
)
class SequentialFuse(SequentialPipeline):
    """SequentialFuse (MoPE paper, Sec. 4.3): the pipeline of ``mope`` with only a mapped prompt.

    psi_y = E_y(y) is the pooled vector of the complementary encoder. Every layer of the main encoder runs on
    [x; f_m(psi_y)], where f_m is the mapper of ``mope``, shared by all layers. The output of the added token
    is dropped after each layer. outputs = W pool(x) + b. Both encoders train.

    The released code maps only from image to text. Here the option ``main`` sets the direction.
    """

    config_class = SequentialFuseConfig

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        tower = self.tower(self.main)
        widths = (tower.layer_width(index) for index in range(tower.depth))
        self.mapper = Mapper(self.tower(self.complementary).width, widths, config.mapper_width)

    @classmethod
    def trained_encoders(cls, context: MethodContext, config: Any) -> frozenset[str]:
        """Return both modalities."""
        return frozenset(context.towers)

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        tower = self.tower(self.main)
        mapped = self.mapper(self.tower(self.complementary).pooled(batch[self.complementary]))
        vector = run_prompted(
            tower, tower.encode(batch[self.main], 0), lambda index: [mapped[tower.layer_width(index)]]
        )
        return FusionOutput(self.head(vector))


@register_method(
    "p_sequential_fuse",
    description="one modality's vector mapped to a prompt of the other, static prompts in both, both frozen",
    source="Jiang et al., 2023 (MoPE), Sec. 4.3",
    space=DefaultSpace(
        "one mapped token a layer, both encoders prompted: direction, prompt length",
        {"main": modalities, "prompt_length": PROMPT_LENGTHS},
        lambda context: [{"main": main_modality(context), "prompt_length": 6, "learning_rate": 5e-4}],
    ),
)
class PSequentialFuse(SequentialPipeline):
    """P-SequentialFuse (MoPE paper, Sec. 4.3): ``sequential_fuse`` with prompts in frozen encoders.

    Layer i of the main encoder runs on [x; P_s,i; f_m(psi_y)] with its own l static prompts P_s,i. Layer i of
    the complementary encoder runs on [y; Q_i]. Prompts, mapper and classifier train. The method is ``mope``
    without dynamic prompts; ``MoPE`` explains the defaults.
    """

    config_class = PSequentialFuseConfig
    elastic = ("prompt_length", "complementary_prompt_length", "mapper_width")

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        tower, complementary = self.tower(self.main), self.tower(self.complementary)
        widths = [tower.layer_width(index) for index in range(tower.depth)]
        self.static = static_prompts(widths, config.prompt_length)
        self.mapper = Mapper(complementary.width, widths, config.mapper_width)
        self.complementary_prompts = complementary_prompts(complementary, config.complementary_prompt_length)

    @classmethod
    def refusal(cls, encoders: SpaceContext) -> str | None:
        """Refuse an encoder without layers, too."""
        if (modality := encoders.without_layers) is not None:
            return f"prompts layers, and the {modality} encoder has none; choose another encoder"
        return super().refusal(encoders)

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        tower, complementary = self.tower(self.main), self.tower(self.complementary)
        sequences = self.untouched(batch)
        sequence = sequences[self.main]
        mapped = self.mapper(self.complementary_prompts(complementary, sequences[self.complementary]))
        vector = run_prompted(
            tower,
            sequence,
            lambda index: [expand(self.static[index], sequence), mapped[tower.layer_width(index)]],
        )
        return FusionOutput(self.head(vector))
