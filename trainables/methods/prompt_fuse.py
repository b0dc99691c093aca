"""PromptFuse and BlindPrompt: a frozen text encoder reads the image as one token, with learned prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from trainables.methods.base import FusionMethod, FusionOutput, MethodContext, register_method
from trainables.methods.config import MethodConfig, option
from trainables.methods.mmbt import entered_modality, entering_refusal
from trainables.methods.parts import expand, gaussian_prompts
from trainables.methods.space import PROMPT_LENGTHS, DefaultSpace, SpaceContext
from trainables.towers import ALL, NONE, ModalityInput


@dataclass(frozen=True)
class PromptFuseConfig(MethodConfig):
    """Configuration of ``prompt_fuse`` and ``blind_prompt``; the default is the paper's value."""

    n_prompts: int = option(20, "prompts at the text encoder's input", low=1, other=5)


@register_method(
    "prompt_fuse",
    description="the image's pooled vector and learned prompts at the input of the frozen text encoder",
    source="Liang et al., Findings of ACL 2022 (PromptFuse); Li et al., CVPR 2023 (PMF), Sec. 4.2",
    space=DefaultSpace(
        "prompts at the text encoder's input: length",
        {"n_prompts": PROMPT_LENGTHS},
        [{"n_prompts": 20, "learning_rate": 2e-3}],
    ),
)
class PromptFuse(FusionMethod):
    """PromptFuse (Liang et al., Findings of ACL 2022) with encoders, as in the PMF paper's comparison.

    outputs = W pool(text([words; P; image])) + b. P are learned prompts that enter at the input and pass
    through all layers; the image token is the pooled vector of the image encoder. Neither is pooled. Both
    encoders are frozen; only P, W and b train. With more than two modalities, each one except text gives one
    token.

    A vector whose size differs from the text encoder's hidden size passes through a learned linear map.
    Vectors of the same size are used directly, as in the paper.

    Departures from the released code, which uses the encoder-decoder BART: a classifier reads the pooled
    vector, in the PMF paper [CLS]. P is drawn from N(0, 0.02) (PMF paper, Sec. 4.3), not from the vocabulary.
    P and the image token get neither position embeddings nor trained LayerNorms.
    """

    config_class = PromptFuseConfig
    elastic = ("n_prompts",)

    #: Positions of prompts that attend only to one another; see ``Tower.layer``.
    blind: bool | slice = False

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        self.main = entered_modality(SpaceContext.of_towers(context.towers))
        self.sides = [m for m in self.towers if m != self.main]
        width = self.tower(self.main).layer_width(0)
        self.prompts = gaussian_prompts(config.n_prompts, width)
        self.maps = nn.ModuleDict(
            {m: nn.Linear(self.widths[m], width) for m in self.sides if self.widths[m] != width}
        )
        self.head = nn.Linear(self.tower(self.main).width, context.output_size)

    @classmethod
    def refusal(cls, encoders: SpaceContext) -> str | None:
        """Refuse a text encoder without layers, too."""
        return super().refusal(encoders) or entering_refusal(encoders)

    def untouched_layers(self) -> dict[str, int]:
        """Return 0 layers for the text encoder and all layers for the others."""
        return {m: 0 if m == self.main else self.tower(m).depth for m in self.towers}

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        vectors = {m: self.vector(batch, m) for m in self.sides}
        with self.gradient(self.main):
            sequence = self.tower(self.main).encode(batch[self.main], 0)
        entering = [self.maps[m](v) if m in self.maps else v for m, v in vectors.items()]
        tower = self.tower(self.main)
        sequence = sequence.prompted(expand(self.prompts, sequence), *(v[:, None] for v in entering))
        for index in range(tower.depth):
            last = index == tower.depth - 1
            sequence = tower.layer(
                index,
                sequence,
                tokens=tower.pooled_positions if last else ALL,
                prompts=NONE if last else ALL,
                blind=self.blind,
            )
        return FusionOutput(self.head(tower.pooled(sequence)))


@register_method(
    "blind_prompt",
    description="PromptFuse whose prompts attend to themselves only, not to image and text",
    source="Liang et al., Findings of ACL 2022 (BlindPrompt); Li et al., CVPR 2023 (PMF), Sec. 4.2",
    space=DefaultSpace(
        "prompts at the input that see only each other: length",
        {"n_prompts": PROMPT_LENGTHS},
        [{"n_prompts": 20, "learning_rate": 2e-3}],
    ),
)
class BlindPrompt(PromptFuse):
    """BlindPrompt (Liang et al., 2022): ``prompt_fuse`` with prompts that attend only to one another.

    The image token does not count as a prompt: image and text attend to each other.
    """

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        self.blind = slice(0, config.n_prompts)
