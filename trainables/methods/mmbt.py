"""MMBT and its prompt-based variant: one modality's tokens enter the other's encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.methods.base import FusionMethod, FusionOutput, MethodContext, register_method
from trainables.methods.config import MethodConfig, option
from trainables.methods.parts import DeepPrompts, gaussian_prompts
from trainables.methods.space import FINE_TUNING, PROMPT_LENGTHS, DefaultSpace, SpaceContext, main_modality
from trainables.parameters import Range
from trainables.towers import ModalityInput, Sequence


@dataclass(frozen=True)
class MMBTConfig(MethodConfig):
    """Configuration of ``mmbt``; the default follows from Table 2 of the PMF paper."""

    n_image_tokens: int = option(
        1,
        "image tokens in the text encoder: its vector, then means of stretches of its output",
        low=1,
        other=3,
    )


@dataclass(frozen=True)
class PMMBTConfig(MethodConfig):
    """Configuration of ``p_mmbt``; the default is the paper's value."""

    n_prompts: int = option(10, "prompts a layer and encoder", low=1, other=4)


def entered_modality(encoders: SpaceContext) -> str:
    """Return the modality whose encoder takes the others' tokens: the first text, or else the first."""
    return main_modality(encoders, "text")


def entering_refusal(encoders: SpaceContext) -> str | None:
    """Return why no tokens can enter the encoder of ``entered_modality``, or None if they can."""
    main = entered_modality(encoders)
    if encoders.depths[main]:
        return None
    return f"adds tokens to layers, and the {main} encoder has none; choose another encoder"


class IntoMain(FusionMethod):
    """Base of MMBT: projected tokens of the side modality enter the main modality's encoder at layer 0.

    Attributes:
        main: Modality whose pooled vector is classified; see ``entered_modality``.
        side: The other modality, which is encoded first.
    """

    n_modalities = (2, 2)

    def __init__(self, context: MethodContext, config: Any, n_tokens: int) -> None:
        super().__init__(context, config)
        self.main = entered_modality(SpaceContext.of_towers(context.towers))
        (self.side,) = (m for m in self.towers if m != self.main)
        tower = self.tower(self.main)
        self.projection = nn.Linear(self.tower(self.side).width, tower.layer_width(0), bias=False)
        # Also serves as the projection's bias
        self.positions = gaussian_prompts(n_tokens, tower.layer_width(0))
        self.head = nn.Linear(tower.width, context.output_size)

    @classmethod
    def refusal(cls, encoders: SpaceContext) -> str | None:
        """Refuse a main encoder without layers, too."""
        return super().refusal(encoders) or entering_refusal(encoders)

    def _project(self, tokens: Tensor) -> Tensor:
        """Map the side modality's tokens (B, N, D') to the main encoder's input (B, N, D)."""
        return self.projection(tokens) + self.positions


@register_method(
    "mmbt",
    description="projected image tokens enter the text encoder at its input, everything fine-tuned",
    source="Kiela et al., 2019 (MMBT); Li et al., CVPR 2023 (PMF), Sec. 4.2",
    space=DefaultSpace(
        "image tokens in a fine-tuned text encoder: their number",
        {"n_image_tokens": Range(1, 9)},
        [{"n_image_tokens": number, "learning_rate": 5e-5} for number in (1, 3)],
        FINE_TUNING,
    ),
)
class MMBT(IntoMain):
    """Multimodal bitransformer, as the PMF paper re-implements it with ViT and BERT (Sec. 4.2, "MMBT*").

    v_n = W image_n + p_n; outputs = V pool(text([words; v_1 … v_N])) + c, where the image tokens are not
    pooled. The N image tokens are the image encoder's pooled vector and the means of N - 1 equal stretches of
    its output tokens. Patches are ordered row by row, so that a stretch is about a horizontal strip of the
    N x 1 grid to which MMBT pools a feature map. Everything trains.

    The PMF paper does not state N, but its Table 2 implies the default N = 1: P-MMBT takes 0.08 GB more
    memory than P-LateConcat, which is about the cost of one token, and MMBT takes less than LateConcat. All
    197 tokens of a ViT would lengthen even BERT's longest sequences (512 tokens) by more than a third.

    Departures from MMBT: one vector p_n, learned from N(0, 0.02), replaces BERT's pretrained position and
    segment vectors. Image tokens come from the image encoder's final LayerNorm and skip the LayerNorm and
    dropout of BERT's embedding. There is no [SEP] between image and text. The encoders train from the first
    step on. The pooled vector, in the paper [CLS], is classified without BERT's pooler.
    """

    config_class = MMBTConfig

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config, config.n_image_tokens)

    @classmethod
    def trained_encoders(cls, context: MethodContext, config: Any) -> frozenset[str]:
        """Return both modalities."""
        return frozenset(context.towers)

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        entering = self._project(self._side_tokens(batch[self.side]))
        tower = self.tower(self.main)
        sequence = tower.encode(batch[self.main], 0).prompted(entering)
        return FusionOutput(self.head(tower.pooled(sequence)))

    def _side_tokens(self, inputs: ModalityInput) -> Tensor:
        """Encode the side modality into N tokens, shape (B, N, D)."""
        tower, n = self.tower(self.side), self.config.n_image_tokens
        if n == 1:
            return tower.pooled(inputs)[:, None]
        sequence = tower.finish(tower.encode(inputs, tower.depth))
        return torch.cat([tower.pool(sequence)[:, None], stretch_means(sequence, n - 1)], dim=1)


@register_method(
    "p_mmbt",
    description="the projected image vector enters the text encoder; deep prompts in both, both frozen",
    source="Li et al., CVPR 2023 (PMF), Sec. 4.2",
    space=DefaultSpace(
        "image token in a prompted text encoder: length",
        {"n_prompts": PROMPT_LENGTHS},
        [{"n_prompts": 10, "learning_rate": 2e-3}],
    ),
)
class PMMBT(IntoMain):
    """Prompt-based MMBT (PMF paper, Sec. 4.2, "P-MMBT").

    The method is ``mmbt`` with one image token and frozen encoders. Every layer of both encoders has its own
    prompts P_i, whose outputs are dropped. The image token passes through all layers of the text encoder:
    [x_{i+1}; v_{i+1}] = T_i([x_i; v_i; P_i]). Prompts, projection and classifier train.

    Raises:
        UserError: If the text encoder's hidden size changes between layers. The image token would then have
            the size of the lower layer and the prompts that of the upper layer.
    """

    config_class = PMMBTConfig
    elastic = ("n_prompts",)

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config, n_tokens=1)
        tower = self.tower(self.main)
        widths = sorted({tower.layer_width(index) for index in range(tower.depth)})
        if len(widths) > 1:
            raise UserError(
                f"p_mmbt: the {self.main} encoder's hidden size changes ({', '.join(map(str, widths))}); "
                "the encoder that the other modality enters must have one hidden size"
            )
        self.side_prompts = DeepPrompts(self.tower(self.side), config.n_prompts)
        self.main_prompts = DeepPrompts(tower, config.n_prompts)

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        sequences = self.untouched(batch)
        vector = self.side_prompts(self.tower(self.side), sequences[self.side])
        sequence = sequences[self.main].prompted(self._project(vector[:, None]))
        return FusionOutput(self.head(self.main_prompts(self.tower(self.main), sequence)))


def stretch_means(sequence: Sequence, n: int) -> Tensor:
    """Return the means of n equal stretches of a sequence's real tokens, shape (B, n, D).

    Stretch k of T real tokens contains those from floor(k T / n) up to, but not including,
    ceil((k + 1) T / n). If T is not a multiple of n, neighbouring stretches may share a token.
    """
    tokens = sequence.tokens
    mask = sequence.mask
    if mask is None:
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    position = (mask.cumsum(dim=1) - 1)[:, None]
    length = mask.sum(dim=1)[:, None, None]
    stretch = torch.arange(n, device=tokens.device)[None, :, None]
    inside = (position * n < (stretch + 1) * length) & ((position + 1) * n > stretch * length)
    weights = (inside & mask[:, None]).to(tokens.dtype)
    return (weights / weights.sum(dim=-1, keepdim=True)) @ tokens
