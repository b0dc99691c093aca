"""MaPLe: deep prompts of one modality, from which the other modalities' prompts are computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from trainables.errors import UserError
from trainables.methods.base import FusionMethod, FusionOutput, MethodContext, register_method
from trainables.methods.config import MethodConfig, option
from trainables.methods.parts import MeanHead, expand, gaussian_prompts, listed
from trainables.methods.space import PROMPT_LENGTHS, DefaultSpace, SpaceContext, top_layers
from trainables.towers import ALL, NONE, ModalityInput, Sequence, Tower


@dataclass(frozen=True)
class MaPLeConfig(MethodConfig):
    """Configuration of ``maple``; the defaults are the paper's two prompts and, for 12 layers, J = 9."""

    n_prompts: int = option(2, "prompts a layer and modality", low=1, other=4)
    n_prompted_layers: int | None = option(
        None,
        "bottom layers with own prompts, J; none: three quarters of the shallowest encoder's, 9 of 12",
        low=1,
        other=1,
    )


def three_quarters(depth: int) -> int:
    """Return the default number of prompted layers, J."""
    return max(1, round(0.75 * depth))


@register_method(
    "maple",
    description="deep text prompts, from which linear maps compute the other modalities'",
    source="Khattak et al., CVPR 2023 (MaPLe); Wander paper, Sec. 4.2",
    space=DefaultSpace(
        "prompts coupled between modalities: length, prompted bottom layers",
        {"n_prompted_layers": top_layers, "n_prompts": PROMPT_LENGTHS},
        lambda context: [
            {
                "n_prompted_layers": three_quarters(context.depth),
                "n_prompts": 2,
                "learning_rate": 3.5e-3,
            }
        ],
    ),
)
class MaPLe(FusionMethod):
    """Multi-modal prompt learning (Khattak et al., CVPR 2023, Sec. 3.2) over unimodal encoders.

    The first modality (text) has learned prompts P_j, drawn from N(0, 0.02), for each of its lowest J layers.
    The next modality has the prompts F_j(P_j), where F_j is a linear map with bias for layer j. Layers 1 to J
    replace the outputs of the previous layer's prompts by their own prompts. Above layer J, the outputs of
    its prompts pass through the remaining layers. The outputs of linear heads on the pooled vectors are
    averaged, as in ``pmf``: MaPLe's own classifier compares CLIP's image and text vectors, which unimodal
    encoders do not have.

    With more modalities, the prompts of each are mapped from those of the previous one in the given order,
    as in the Wander paper (Sec. 4.2). Encoders of different depth are coupled layer by layer from the bottom.
    The first prompts are random too; they are not initialised with the words "a photo of".

    Raises:
        UserError: If ``n_prompted_layers`` exceeds the depth of the shallowest encoder.
    """

    config_class = MaPLeConfig
    elastic = ("n_prompts", "n_prompted_layers")

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        depths = self.depths
        shallowest = min(depths.values())
        n_layers = config.n_prompted_layers or three_quarters(shallowest)
        if n_layers > shallowest:
            raise UserError(
                f"n_prompted_layers={n_layers}: must be at most the depth of the shallowest encoder "
                f"(layers: {listed(depths)})"
            )
        widths = {m: [self.tower(m).layer_width(index) for index in range(n_layers)] for m in self.towers}
        first = widths[self.modalities[0]]
        self.prompts = nn.ParameterList(gaussian_prompts(config.n_prompts, width) for width in first)
        self.couplings = nn.ModuleDict(
            {
                target: nn.ModuleList(map(nn.Linear, widths[source], widths[target]))
                for source, target in pairwise(widths)
            }
        )
        self.head = MeanHead(self.widths, context.output_size)

    @classmethod
    def refusal(cls, encoders: SpaceContext) -> str | None:
        """Refuse encoders without layers, too."""
        if (modality := encoders.without_layers) is not None:
            return f"prompts layers, and the {modality} encoder has none; choose another encoder"
        return super().refusal(encoders)

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        prompts: list[Tensor] = list(self.prompts)
        vectors = {}
        for modality, sequence in self.untouched(batch).items():
            if modality in self.couplings:
                couplings: Iterable[nn.Module] = self.couplings[modality]  # type: ignore[assignment]
                prompts = [coupling(p) for coupling, p in zip(couplings, prompts, strict=True)]
            vectors[modality] = _run(self.tower(modality), sequence, prompts)
        return FusionOutput(self.head(vectors))


def _run(tower: Tower, sequence: Sequence, prompts: list[Tensor]) -> Tensor:
    """Run a tower with separate prompts (1, M, D) for each of its lowest layers and pool; shape (B, D)."""
    for index in range(tower.depth):
        if index < len(prompts):
            sequence = sequence.prompted(expand(prompts[index], sequence))
        last = index == tower.depth - 1
        sequence = tower.layer(
            index,
            sequence,
            tokens=tower.pooled_positions if last else ALL,
            # These outputs are replaced by the next layer's prompts, or nothing reads them
            prompts=NONE if last or index + 1 < len(prompts) else ALL,
        )
    return tower.pooled(sequence)
