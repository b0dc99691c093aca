"""PMF: prompt-based multimodal fusion with interactive prompts on the deep layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from trainables.methods.base import (
    FusionMethod,
    FusionOutput,
    MethodConfig,
    MethodContext,
    option,
    register_method,
)
from trainables.methods.parts import MeanHead, check_fused_layers, expand, gaussian_prompts
from trainables.towers import ALL, NONE, ModalityInput, Sequence, Tower


@dataclass(frozen=True)
class PMFConfig(MethodConfig):
    """Configuration of ``pmf``; the defaults are the paper's M = 4 and L_f = depth - 2."""

    n_fusion_layers: int = option(
        2, "top layers of every encoder that are fused; L_f = depth - n_fusion_layers", low=1, other=1
    )
    n_query_prompts: int = option(4, "query prompts (QP) a layer and modality", low=0, other=0)
    n_query_context_prompts: int = option(
        4, "query context prompts (QCP) a layer and modality", low=0, other=0
    )
    n_fusion_context_prompts: int = option(
        4, "fusion context prompts (FCP) a layer and modality", low=0, other=0
    )
    translator_width: int | None = option(
        None, "bottleneck of the translators; none: half the widest encoder", low=1, other=8
    )


class Translator(nn.Sequential):
    """Maps query outputs to another modality's width (Eq. 5): Linear, ReLU, Linear."""

    def __init__(self, source_width: int, hidden: int, target_width: int) -> None:
        super().__init__(nn.Linear(source_width, hidden), nn.ReLU(), nn.Linear(hidden, target_width))


class FusionLayer(nn.Module):
    """The prompts and translators of one fused layer (Sec. 3.3, Fig. 3).

    Nothing is shared between layers, modalities or directions.

    Args:
        widths: Hidden size of each modality's encoder.
        config: Prompt lengths and translator width.
    """

    def __init__(self, widths: Mapping[str, int], config: PMFConfig) -> None:
        super().__init__()
        self.n_query = config.n_query_prompts
        self.query = _prompts(widths, config.n_query_prompts)
        # Without a query there is nothing to give context to
        self.query_context = _prompts(widths, config.n_query_context_prompts if self.n_query else 0)
        self.fusion_context = _prompts(widths, config.n_fusion_context_prompts)
        hidden = config.translator_width or max(widths.values()) // 2
        pairs = [(a, b) for a in widths for b in widths if a != b] if self.n_query else []
        self.translators = nn.ModuleDict(
            {f"{a}_to_{b}": Translator(widths[a], hidden, widths[b]) for a, b in pairs}
        )

    def forward(
        self, towers: Mapping[str, Tower], sequences: Mapping[str, Sequence], *, last: bool
    ) -> dict[str, Sequence]:
        """Run every tower's next layer, fused.

        Args:
            towers: One tower a modality.
            sequences: Their tokens (B, T, D), each before the layer to fuse.
            last: Whether nothing but pooling follows.

        Returns:
            The tokens after it: as many as before, or after the last layer those that are pooled.
        """
        queries = {m: self._ask(towers[m], sequence) for m, sequence in sequences.items() if self.n_query}
        fused = {}
        for modality, sequence in sequences.items():
            answers = [
                self.translators[f"{other}_to_{modality}"](query)
                for other, query in queries.items()
                if other != modality
            ]
            extra = [*_expand(self.fusion_context, modality, sequence), *answers]
            tower = towers[modality]
            kept = tower.POOLED if last else ALL
            fused[modality] = tower.layer(
                sequence.layer, sequence.prompted(*extra), tokens=kept, prompts=NONE
            )
        return fused

    def _ask(self, tower: Tower, sequence: Sequence) -> Tensor:
        """Querying stage (Eq. 3-4): the query prompts' outputs, shape (B, n_query, D)."""
        context = _expand(self.query_context, tower.modality, sequence)
        query = _expand(self.query, tower.modality, sequence)
        asked = sequence.prompted(*context, *query)
        answer = tower.layer(sequence.layer, asked, tokens=NONE, prompts=slice(-self.n_query, None)).prompts
        assert answer is not None
        return answer


@register_method(
    "pmf",
    description="interactive prompts (query, query context, fusion context) on the deep layers",
    source="Li et al., CVPR 2023 (PMF), Sec. 3",
)
class PMF(FusionMethod):
    """Prompt-based Multimodal Fusion (Li et al., CVPR 2023, Sec. 3, Eq. 2-7).

    Below L_f every encoder runs on its own. In each of the top n layers, a querying stage runs the frozen
    layer on ``[x; QCP; QP]`` and keeps the query prompts' outputs; translators map them to the other
    modality, where the fusion stage runs the same frozen layer on ``[x; FCP; answers]`` and drops what was
    added. Linear heads on the [CLS] tokens are averaged before the softmax. Encoders of different depth
    fuse the same number of top layers (Sec. 4.6). With more than two modalities every other one's answers
    are added, by one translator a direction; for two this is the paper.

    Departures from the authors' released code, which leaves the fusion context prompts untrained by a
    misspelt attribute and fails for zero of them or for fusing all layers: here they train, as the paper
    says ("red boxes", Fig. 3), and both settings work.

    Raises:
        UserError: If more layers are to be fused than the shallowest encoder has, or an encoder is causal.
    """

    config_class = PMFConfig

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        towers = {m: self.tower(m) for m in self.towers}
        check_fused_layers("pmf", config.n_fusion_layers, towers)
        self.fusion_layers = nn.ModuleList(
            FusionLayer({m: tower.layer_width(tower.depth - n) for m, tower in towers.items()}, config)
            for n in range(config.n_fusion_layers, 0, -1)
        )
        self.head = MeanHead(self.widths, context.n_classes)

    def prefix_layers(self) -> dict[str, int]:
        """The layers below L_f = depth - n_fusion_layers."""
        return {m: self.tower(m).depth - self.config.n_fusion_layers for m in self.towers}

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        towers = {m: self.tower(m) for m in self.towers}
        sequences = self.prefix(batch)
        for number, layer in enumerate(self.fusion_layers, start=1):
            sequences = layer(towers, sequences, last=number == len(self.fusion_layers))
        return FusionOutput(self.head({m: towers[m].pooled(s) for m, s in sequences.items()}))


def _prompts(widths: Mapping[str, int], length: int) -> nn.ParameterDict:
    """One learned sequence of shape (1, length, D) a modality; empty where the length is 0."""
    return nn.ParameterDict({m: gaussian_prompts(length, width) for m, width in widths.items() if length})


def _expand(prompts: nn.ParameterDict, modality: str, sequence: Sequence) -> list[Tensor]:
    """The modality's prompts for every sample of the batch: a list of one tensor, or none."""
    return [expand(prompts[modality], sequence)] if modality in prompts else []
