"""PMF: prompt-based multimodal fusion with interactive prompts in the deep layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from trainables.errors import UserError
from trainables.methods.base import FusionMethod, FusionOutput, MethodContext, Stage, register_method
from trainables.methods.config import MethodConfig, PerLayer, option
from trainables.methods.parts import MeanHead, check_fused_layers, expand, fusion_refusal, gaussian_prompts
from trainables.methods.space import SpaceContext
from trainables.towers import ALL, NONE, ModalityInput, Sequence, Tower


@dataclass(frozen=True)
class PMFConfig(MethodConfig):
    """Configuration of ``pmf``; the defaults are the paper's M = 4 and L_f = depth - 2.

    A prompt length is one number for all layers and modalities, or a mapping such as
    ``{"text": [4, 2], "image": [1, 8]}`` with one number per fused layer of each modality, lowest first.
    """

    n_fusion_layers: int = option(
        2, "top layers of every encoder that are fused; L_f = depth - n_fusion_layers", low=1, other=1
    )
    n_query_prompts: int | PerLayer = option(4, "query prompts (QP) a layer and modality", low=0, other=0)
    n_query_context_prompts: int | PerLayer = option(
        4, "query context prompts (QCP) a layer and modality", low=0, other=0
    )
    n_fusion_context_prompts: int | PerLayer = option(
        4, "fusion context prompts (FCP) a layer and modality", low=0, other=0
    )
    translate: bool = option(
        True, "map query outputs to the other modality by translators (f); false: pass them on", other=False
    )
    translator_width: int | None = option(
        None, "bottleneck of the translators; none: half the widest encoder", low=1, other=8
    )


#: The options that are prompt lengths.
LENGTHS = ("n_query_prompts", "n_query_context_prompts", "n_fusion_context_prompts")


@dataclass(frozen=True)
class LayerLengths:
    """Prompt lengths of one fused layer, by modality.

    Attributes:
        query: Number of query prompts.
        query_context: Number of query context prompts. It is 0 for a modality without query prompts.
        fusion_context: Number of fusion context prompts.
    """

    query: dict[str, int]
    query_context: dict[str, int]
    fusion_context: dict[str, int]

    @classmethod
    def of(cls, config: PMFConfig, modalities: Iterable[str]) -> list[LayerLengths]:
        """Return the lengths of every fused layer, lowest first.

        Raises:
            UserError: If the configuration lists other modalities, or not one length per layer.
        """
        modalities = tuple(modalities)
        kinds = [_by_layer(name, config, modalities) for name in LENGTHS]
        layers = []
        for index in range(config.n_fusion_layers):
            query, context, fusion = ({m: of[m][index] for m in modalities} for of in kinds)
            layers.append(cls(query, {m: context[m] if query[m] else 0 for m in modalities}, fusion))
        return layers

    def key(self) -> tuple[tuple[int, ...], ...]:
        """Return all lengths as a hashable key."""
        return tuple(tuple(kind.values()) for kind in (self.query, self.query_context, self.fusion_context))


def _by_layer(name: str, config: PMFConfig, modalities: tuple[str, ...]) -> PerLayer:
    """Return an option's lengths as one number per layer of each modality."""
    value, layers = getattr(config, name), config.n_fusion_layers
    if isinstance(value, int):
        return {m: [value] * layers for m in modalities}
    if set(value) != set(modalities) or any(len(lengths) != layers for lengths in value.values()):
        raise UserError(
            f"{name}={value}: must be one number, or {layers} (n_fusion_layers) for each of "
            f"{', '.join(modalities)}"
        )
    return value


class Translator(nn.Sequential):
    """Maps query outputs to another modality's width (Eq. 5): Linear, ReLU, Linear."""

    def __init__(self, source_width: int, hidden: int, target_width: int) -> None:
        super().__init__(nn.Linear(source_width, hidden), nn.ReLU(), nn.Linear(hidden, target_width))


class Untranslated(nn.Module):
    """Passes query outputs on to another modality, cut or padded with zeros if its width differs."""

    def __init__(self, target_width: int) -> None:
        super().__init__()
        self.width = target_width

    def forward(self, query: Tensor) -> Tensor:
        """Return query outputs (B, M, D) with the other modality's width."""
        return F.pad(query, (0, self.width - query.shape[-1]))


class FusionLayer(nn.Module):
    """The prompts and translators of one fused layer (Sec. 3.3, Fig. 3).

    Layers, modalities and directions share no weights.

    Args:
        widths: Hidden size of each modality's layer.
        lengths: Prompt lengths.
        hidden: Bottleneck width of the translators; None makes none.
    """

    def __init__(self, widths: Mapping[str, int], lengths: LayerLengths, hidden: int | None) -> None:
        super().__init__()
        self.n_query = lengths.query
        self.query = _prompts(widths, lengths.query)
        self.query_context = _prompts(widths, lengths.query_context)
        self.fusion_context = _prompts(widths, lengths.fusion_context)
        pairs = [(a, b) for a in widths for b in widths if a != b and self.n_query[a]]
        self.translators = nn.ModuleDict(
            {
                f"{a}_to_{b}": Translator(widths[a], hidden, widths[b]) if hidden else Untranslated(widths[b])
                for a, b in pairs
            }
        )

    def forward(
        self, towers: Mapping[str, Tower], sequences: Mapping[str, Sequence], *, last: bool
    ) -> dict[str, Sequence]:
        """Run the next layer of every tower with fusion.

        Args:
            towers: One tower per modality.
            sequences: Each tower's tokens (B, T, D) before the layer.
            last: Whether only pooling follows.

        Returns:
            Each tower's tokens after the layer. After the last layer, only the tokens to pool.
        """
        queries = {m: self._ask(towers[m], s) for m, s in sequences.items() if self.n_query[m]}
        fused = {}
        for modality, sequence in sequences.items():
            answers = [
                self.translators[f"{other}_to_{modality}"](query)
                for other, query in queries.items()
                if other != modality
            ]
            extra = [*_expand(self.fusion_context, modality, sequence), *answers]
            tower = towers[modality]
            kept = tower.pooled_positions if last else ALL
            fused[modality] = tower.layer(
                sequence.layer, sequence.prompted(*extra), tokens=kept, prompts=NONE
            )
        return fused

    def _ask(self, tower: Tower, sequence: Sequence) -> Tensor:
        """Run the querying stage (Eq. 3-4); return the query prompts' outputs, shape (B, n_query, D)."""
        context = _expand(self.query_context, tower.modality, sequence)
        query = _expand(self.query, tower.modality, sequence)
        asked = sequence.prompted(*context, *query)
        kept = slice(-self.n_query[tower.modality], None)
        answer = tower.layer(sequence.layer, asked, tokens=NONE, prompts=kept).prompts
        assert answer is not None
        return answer


@register_method(
    "pmf",
    description="interactive prompts (query, query context, fusion context) on the deep layers",
    source="Li et al., CVPR 2023 (PMF), Sec. 3",
)
class PMF(FusionMethod):
    """Prompt-based Multimodal Fusion (Li et al., CVPR 2023, Sec. 3, Eq. 2-7).

    Below L_f the encoders run separately. Each of the top n layers has two stages. The querying stage runs
    the frozen layer on ``[x; QCP; QP]`` and keeps the query prompts' outputs. Translators map these to
    answers for the other modality. The fusion stage runs the same frozen layer on ``[x; FCP; answers]`` and
    drops the added tokens. The outputs of linear heads on the pooled vectors, in the paper the [CLS] tokens,
    are averaged before the softmax.
    Encoders of different depth fuse the same number of top layers (Sec. 4.6). With more than two modalities,
    each one receives the answers of all others, with one translator per direction.

    Departures from the authors' released code: there, a misspelt attribute leaves the fusion context prompts
    untrained, and zero of these prompts or fusion in all layers fail. Here the prompts train, as in the paper
    ("red boxes", Fig. 3), and both settings work. Table 3 has a row of query prompts without a mapping f, and
    explains it no further: with ``translate=false`` the answers are the query prompts' outputs themselves.

    Raises:
        UserError: If ``n_fusion_layers`` exceeds the shallowest encoder's depth, or an encoder is causal.
    """

    config_class = PMFConfig
    elastic = ("n_fusion_layers", *LENGTHS, "translator_width")
    stacked = ("fusion_layers",)

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        towers = {m: self.tower(m) for m in self.towers}
        check_fused_layers(config.n_fusion_layers, self.depths)
        self.lengths = LayerLengths.of(config, towers)
        layers = []
        for number, lengths in enumerate(self.lengths):
            widths = {m: t.layer_width(t.depth - config.n_fusion_layers + number) for m, t in towers.items()}
            hidden = config.translator_width or max(widths.values()) // 2
            layers.append(FusionLayer(widths, lengths, hidden if config.translate else None))
        self.fusion_layers = nn.ModuleList(layers)
        self.head = MeanHead(self.widths, context.output_size)

    @classmethod
    def refusal(cls, encoders: SpaceContext) -> str | None:
        """Refuse encoders without layers and causal ones, too."""
        return super().refusal(encoders) or fusion_refusal(encoders)

    def untouched_layers(self) -> dict[str, int]:
        """Return L_f = depth - n_fusion_layers for each tower."""
        return {m: self.tower(m).depth - self.config.n_fusion_layers for m in self.towers}

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        sequences = self.untouched(batch)
        for stage in self.stages():
            sequences = stage.run(sequences)
        return self.conclude(sequences)

    def stages(self) -> tuple[Stage, ...]:
        """Return the fused layers, lowest first."""
        towers = {m: self.tower(m) for m in self.towers}
        top = len(self.fusion_layers) - 1
        return tuple(
            Stage(
                (lengths.key(), self.config.translate, self.config.translator_width),
                partial(layer, towers, last=number == top),
            )
            for number, (layer, lengths) in enumerate(zip(self.fusion_layers, self.lengths, strict=True))
        )

    def conclude(self, sequences: Mapping[str, Sequence]) -> FusionOutput:
        """Pool each modality's sequence and average the heads' outputs."""
        return FusionOutput(self.head({m: self.tower(m).pooled(s) for m, s in sequences.items()}))


def _prompts(widths: Mapping[str, int], lengths: Mapping[str, int]) -> nn.ParameterDict:
    """Return learned prompts (1, length, D) for each modality whose length is not 0."""
    return nn.ParameterDict(
        {m: gaussian_prompts(lengths[m], width) for m, width in widths.items() if lengths[m]}
    )


def _expand(prompts: nn.ParameterDict, modality: str, sequence: Sequence) -> list[Tensor]:
    """Return a list with the modality's prompts (B, M, D), or an empty list if it has none."""
    return [expand(prompts[modality], sequence)] if modality in prompts else []
