"""Wander: a low-rank sequence multimodal adapter, and the variants that its paper compares it with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.errors import UserError
from trainables.methods.base import FusionMethod, FusionOutput, MethodContext, register_method
from trainables.methods.config import MethodConfig, option
from trainables.methods.parts import listed
from trainables.methods.sequence_fusion import (
    CP_FORMS,
    PRODUCT_OF_SUMS,
    SUM_OF_PRODUCTS,
    Fusion,
    FusionShape,
    OuterProductFusion,
    SequenceFusion,
    VectorFusion,
    VectorFusionOfTokens,
)
from trainables.methods.space import (
    Declared,
    DefaultSpace,
    SpaceContext,
)
from trainables.parameters import Choices, Range
from trainables.towers import ModalityInput, Sequence

#: Largest number of parameters of an unfactorised fusion: about as many as an encoder has.
MOST_PARAMETERS = 100_000_000

#: Default limits of prod d_m and prod l_m in an unfactorised fusion. They reduce each of three modalities to
#: 16 features and 8 positions, which gives 3.1 M parameters at width 768 (Table 5: 3.5 M).
DEFAULT_FEATURES, DEFAULT_POSITIONS = 16**3, 8**3

#: Widths that spaces search.
WIDTHS = Range(8, 128, log=True)
#: Ranks that spaces search. The paper shows ranks up to about 16 (Fig. 5); its default is 8.
RANKS = Range(1, 16, log=True)
#: Both CP forms, the cheaper one first.
FORMS = Choices((PRODUCT_OF_SUMS, SUM_OF_PRODUCTS))

#: Gain of He et al.: ReLU halves the mean square of its input, and GELU does so approximately.
NONLINEAR_GAIN = 2**0.5


@dataclass(frozen=True)
class WanderConfig(MethodConfig):
    """Configuration of ``wander``. The ranks are the paper's; the width is its smaller one for Food-101."""

    width: int = option(64, "d, width of the down-projections", low=1, other=8)
    rank_hidden: int = option(8, "R_h, rank of the feature factors", low=1, other=2)
    rank_time: int = option(8, "R_t, rank of the time factors", low=1, other=2)
    target_length: int = option(
        1, "d_t, tokens of the fused sequence; at most as many as the longest modality's", low=1, other=3
    )
    n_layers: int = option(1, "top layers of every encoder that a Wander follows", low=1, other=2)
    cp: str = option(
        SUM_OF_PRODUCTS,
        "reading of Eq. 13: its second or its third line",
        other=PRODUCT_OF_SUMS,
        choices=CP_FORMS,
    )
    nonlinearity: bool = option(True, "GELU after the down-projections", other=False)
    residual: bool = option(
        True, "add the fused tokens to the encoders' own; false: replace these", other=False
    )


def reduced_sizes(n_modalities: int) -> tuple[int, int]:
    """Return the default width and length to which ``sf_op`` and ``sf_vf`` reduce each modality."""
    return _root(DEFAULT_FEATURES, n_modalities), _root(DEFAULT_POSITIONS, n_modalities)


class Adapter(nn.Module):
    """SF(sigma(Down(h))), the adapter of Eq. 14 without its skip connection.

    Args:
        widths: Hidden size of each modality's tokens.
        width: Width d of the down-projections.
        fusion: Fusion of the projected sequences.
        nonlinearity: Whether GELU follows the projections.
        lengths: Number of positions to which each modality's sequence is averaged; None keeps all tokens.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        width: int,
        fusion: Fusion,
        *,
        nonlinearity: bool,
        lengths: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.down = nn.ModuleDict({m: _down(size, width) for m, size in widths.items()})
        self.fusion = fusion
        self.nonlinearity = nonlinearity
        self.lengths = lengths

    def forward(self, sequences: Mapping[str, Sequence]) -> Tensor:
        """Fuse one sequence per modality into tokens (B, d_t, d_h)."""
        return self.fusion([self._project(m, sequence) for m, sequence in sequences.items()])

    def _project(self, modality: str, sequence: Sequence) -> Tensor:
        hidden = self.down[modality](sequence.tokens)
        if self.nonlinearity:
            hidden = F.gelu(hidden)
        if sequence.mask is not None:
            hidden = hidden.masked_fill(~sequence.mask[..., None], 0)
        return hidden if self.lengths is None else _average(hidden, sequence.mask, self.lengths[modality])


class _FusedOutputs(FusionMethod):
    """Classifies the fused tokens, or the encoders' pooled vectors with the fused tokens added."""

    def _make_head(self, *, residual: bool) -> nn.Linear:
        size = sum(self.widths.values()) if residual else max(self.widths.values())
        return nn.Linear(size, self.context.output_size)

    def _read(self, outputs: Mapping[str, Sequence], fused: Tensor, *, residual: bool) -> Tensor:
        """Return the head's input for outputs (B, l_m, d_m) and fused tokens (B, d_t, d_h)."""
        vector = fused.mean(dim=1)
        if not residual:
            return vector
        pooled = {m: self.tower(m).pool(output) for m, output in outputs.items()}
        return torch.cat([p + vector[:, : p.shape[1]] for p in pooled.values()], dim=-1)

    def _finished(self, sequences: Mapping[str, Sequence]) -> dict[str, Sequence]:
        """Return the encoders' outputs for sequences that have passed all layers."""
        return {m: self.tower(m).finish(sequence) for m, sequence in sequences.items()}


#: What ``wander`` searches. After the last layer the fused tokens are averaged, which makes a larger d_t a
#: larger rank. The released code has d_t = d.
SEARCHED: dict[str, Declared] = {
    "n_layers": lambda name, context: Range(1, max(1, context.depth)),
    "width": WIDTHS,
    "rank_hidden": RANKS,
    "rank_time": RANKS,
    "target_length": Range(1, 64, log=True),
    "cp": FORMS,
    "nonlinearity": Choices((False, True)),
    "residual": Choices((False, True)),
}


def _first_points(context: SpaceContext) -> list[dict[str, Any]]:
    """Return points of one layer with d = 64 (Table 1) or width / 8 (Sec. 4.5), then one of two layers."""
    eighth = min(max(context.width // 8, 8), 128)
    points = [_point(64, 1), _point(eighth, 1), _point(64, 1, PRODUCT_OF_SUMS)]
    return [*points, _point(64, 2)] if context.depth > 1 else points


def _point(width: int, layers: int, cp: str = SUM_OF_PRODUCTS) -> dict[str, Any]:
    return {
        "n_layers": layers,
        "width": width,
        "rank_hidden": 8,
        "rank_time": 8,
        "target_length": 1,
        "cp": cp,
        "nonlinearity": True,
        "residual": True,
        "learning_rate": 1e-3,
    }


@register_method(
    "wander",
    description="low-rank fusion of whole token sequences, after the last layer(s) of frozen encoders",
    source="Guo et al., AAAI 2025 (Wander), Sec. 3.3",
    space=DefaultSpace(
        "Wander: width d, ranks R_h and R_t, d_t, wrapped layers (L_f), CP form, nonlinearity, residual",
        SEARCHED,
        _first_points,
    ),
)
class Wander(_FusedOutputs):
    """Low-rank sequence multimodal adapter (Wander; Eq. 14).

    Wander(h) = h + SF(sigma(Down(h))) for the token sequences h = [h_1, …, h_M] of any number of encoders.
    SF is Eq. 13 (``SequenceFusion``). sigma is GELU: the paper uses the encoders' activation, which is GELU
    in BERT and ViT. Down projects each modality to width d. A linear classifier reads the encoders'
    concatenated pooled vectors. By default, one Wander follows the last layer, as in the authors'
    experiments: nothing trains inside the encoders, no gradient enters them, and their outputs can be
    computed once. With ``n_layers = n``, a Wander with its own weights follows each of the top n layers
    (L_f = depth - n).

    The paper does not say how one fused sequence (d_t, d_h) is added to M sequences. The authors' code adds
    it to the first d_t = d tokens of the concatenated sequences and reads token 0 only, so that only one of
    its rows trains. Here d_h is the width of the widest encoder; narrower encoders use the first columns.
    Below the last layer, fused token t is added to token t of every modality. After the last layer, the mean
    of the fused tokens is added to each encoder's pooled vector. For d_t = 1, the default, and encoders that
    are read at [CLS], this equals Eq. 14. In another pooling (mean, last token, maximum), the pooled vector
    contains the fused tokens with full weight. Without the residual, the fused tokens replace the encoders'
    tokens, and the classifier reads only their mean.

    Further departures from the authors' code:

    - There, the time factors of every modality start at zero, where all gradients of a product vanish for
      ever. Here only the feature factors of the first modality start at zero (with the residual), so that
      the method starts as frozen encoders and everything trains from the second step on.
    - There, the factors are summed over their ranks before the product (``cp="product_of_sums"``, third line
      of Eq. 13). Here the default is the CP sum that the paper derives.
    - There, padding takes part in the fusion. Here it is zero, and shorter batches use the first columns of
      the time factors.

    Raises:
        UserError: If ``n_layers`` exceeds the depth of the shallowest encoder.
    """

    config_class = WanderConfig
    elastic = ("width", "rank_hidden", "rank_time", "target_length", "n_layers")
    stacked = ("adapters",)

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        depths = self.depths
        most = max(1, min(depths.values()))  # a Wander can follow an encoder without layers
        if config.n_layers > most:
            raise UserError(
                f"n_layers={config.n_layers}: must be 1 to {most}, the shallowest encoder's depth "
                f"(layers: {listed(depths)})"
            )
        self.adapters = nn.ModuleList(
            self._adapter(layers_above) for layers_above in reversed(range(config.n_layers))
        )
        self.head = self._make_head(residual=config.residual)

    def _adapter(self, layers_above: int) -> Adapter:
        config = self.config
        towers = [self.tower(m) for m in self.towers]
        widths = [
            tower.width if layers_above == 0 else tower.layer_width(tower.depth - layers_above - 1)
            for tower in towers
        ]
        lengths = tuple(tower.token_count(tower.depth - layers_above, self.context.sizes) for tower in towers)
        shape = FusionShape(
            lengths,
            (config.width,) * len(towers),
            min(config.target_length, max(lengths)),
            max(widths),
            config.rank_time,
            config.rank_hidden,
            config.cp,
        )
        gain = NONLINEAR_GAIN if config.nonlinearity else 1.0
        fusion = SequenceFusion(shape, gain=gain, zero_start=config.residual)
        return Adapter(
            dict(zip(self.towers, widths, strict=True)),
            config.width,
            fusion,
            nonlinearity=config.nonlinearity,
        )

    def untouched_layers(self) -> dict[str, int]:
        """Return the number of layers up to the first Wander: all, if only the last layer has one."""
        return {m: self.tower(m).depth - self.config.n_layers + 1 for m in self.towers}

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        sequences = self.untouched(batch)
        *lower, last = self.adapters
        for adapter in lower:
            fused = adapter(sequences)
            sequences = {
                m: self.tower(m).layer(s.layer, _insert(fused, s, residual=self.config.residual))
                for m, s in sequences.items()
            }
        outputs = self._finished(sequences)
        return FusionOutput(self.head(self._read(outputs, last(outputs), residual=self.config.residual)))


@dataclass(frozen=True)
class WanderVFConfig(MethodConfig):
    """Configuration of ``wander_vf``, with the defaults of ``wander``."""

    width: int = option(64, "d, width of the down-projections", low=1, other=8)
    rank_hidden: int = option(8, "R_h, rank of the feature factors", low=1, other=2)
    cp: str = option(
        SUM_OF_PRODUCTS,
        "reading of Eq. 7: its first or its second line",
        other=PRODUCT_OF_SUMS,
        choices=CP_FORMS,
    )


@register_method(
    "wander_vf",
    description="Wander on one vector a modality instead of sequences",
    source="Guo et al., AAAI 2025 (Wander), Sec. 4.5, Table 7",
    space=DefaultSpace(
        "Wander on single vectors: width d, rank R_h, CP form",
        {"width": WIDTHS, "rank_hidden": RANKS, "cp": FORMS},
        [{"width": 64, "rank_hidden": 8, "cp": SUM_OF_PRODUCTS, "learning_rate": 2e-3}],
    ),
)
class WanderVF(_FusedOutputs):
    """Wander with vector fusion (Wander paper, Sec. 4.5, "Wander (VF)").

    Wander(h) = h + VF(GELU(Down(h))), where VF is Eq. 7 and h is the pooled vector of each encoder.
    Everything else is as in ``wander``.
    """

    config_class = WanderVFConfig
    elastic = ("width", "rank_hidden")

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        ones = (1,) * len(self.towers)
        shape = FusionShape(
            ones,
            (config.width,) * len(ones),
            target_length=1,
            target_width=max(self.widths.values()),
            rank_hidden=config.rank_hidden,
            cp=config.cp,
        )
        fusion = VectorFusion(shape, gain=NONLINEAR_GAIN, zero_start=True)
        self.adapter = Adapter(self.widths, config.width, fusion, nonlinearity=True)
        self.head = self._make_head(residual=True)

    def untouched_layers(self) -> dict[str, int]:
        """Return all layers of every tower."""
        return self.depths

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        outputs = self._finished(self.untouched(batch))
        vectors = {
            m: Sequence(self.tower(m).pool(output)[:, None], None, output.layer)
            for m, output in outputs.items()
        }
        return FusionOutput(self.head(self._read(outputs, self.adapter(vectors), residual=True)))


@dataclass(frozen=True)
class SFOPConfig(MethodConfig):
    """Configuration of ``sf_op``; the paper does not state its reduced sizes."""

    width: int | None = option(
        None, "d, width that features are reduced to; none: the most with prod d_m <= 4096", low=1, other=8
    )
    length: int | None = option(
        None, "positions that sequences are averaged to; none: the most with prod l_m <= 512", low=1, other=4
    )


@dataclass(frozen=True)
class SFVFConfig(SFOPConfig):
    """Configuration of ``sf_vf``."""

    rank_hidden: int = option(8, "R_h, rank of the feature factors", low=1, other=2)


#: Sizes to which features are reduced; the defaults are the upper ends.
REDUCED: dict[str, Declared] = {
    "width": lambda name, context: Range(2, _reduced_point(context)["width"], log=True),
    "length": lambda name, context: Range(1, _reduced_point(context)["length"], log=True),
}


def _reduced_point(context: SpaceContext) -> dict[str, int]:
    return dict(zip(("width", "length"), reduced_sizes(len(context.widths)), strict=True))


@register_method(
    "sf_op",
    description="outer-product sequence fusion of frozen encoders' outputs: Wander's SF unfactorised",
    source="Guo et al., AAAI 2025 (Wander), Sec. 4.3, Table 5",
    space=DefaultSpace(
        "sequence fusion by outer products: width and length that features are reduced to",
        REDUCED,
        lambda context: [{**_reduced_point(context), "learning_rate": 2e-3}],
    ),
)
class SFOP(_FusedOutputs):
    """Sequence fusion by outer products (Wander paper, Eq. 10, "SF-OP").

    The classifier reads W_t (h_1 ⊗ … ⊗ h_M) W_h, where h_m are the encoders' outputs. The full tensors W_t
    and W_h have d_h * prod d_m + d_t * prod l_m parameters. Therefore the features are reduced first, as in
    the paper: a linear layer projects each modality to d dimensions, and its real tokens are averaged to a
    few positions. As in the paper, the fusion is linear in each modality and has no residual (Sec. 4.3).
    d_t is 1, because the classifier would read the mean of a longer fused sequence, and the mean of a full
    W_t over its d_t rows is one row.

    Raises:
        UserError: If the fusion would have more than ``MOST_PARAMETERS`` parameters.
    """

    config_class: ClassVar[type[MethodConfig]] = SFOPConfig
    fusion_class: ClassVar[type[OuterProductFusion | VectorFusionOfTokens]] = OuterProductFusion

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        shape = self._shape()
        width, length = shape.widths[0], max(shape.lengths)
        count = self.fusion_class.parameter_count(shape)
        if count > MOST_PARAMETERS:
            raise UserError(
                f"width={width}, length={length}: {len(shape.widths)} modalities fused without factors take "
                f"{count:,} parameters, more than {MOST_PARAMETERS:,}: lower width or length"
            )
        self.adapter = Adapter(
            self.widths,
            width,
            self.fusion_class(shape),
            nonlinearity=False,
            lengths=dict(zip(self.towers, shape.lengths, strict=True)),
        )
        self.head = self._make_head(residual=False)

    def _shape(self) -> FusionShape:
        towers = [self.tower(m) for m in self.towers]
        width, length = reduced_sizes(len(towers))
        width, length = self.config.width or width, self.config.length or length
        return FusionShape(
            tuple(min(length, t.token_count(t.depth, self.context.sizes)) for t in towers),
            (width,) * len(towers),
            target_length=1,
            target_width=max(self.widths.values()),
        )

    def untouched_layers(self) -> dict[str, int]:
        """Return all layers of every tower."""
        return self.depths

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        outputs = self._finished(self.untouched(batch))
        return FusionOutput(self.head(self._read(outputs, self.adapter(outputs), residual=False)))


@register_method(
    "sf_vf",
    description="vector fusion of every combination of frozen encoders' tokens: Wander's SF with a full W_t",
    source="Guo et al., AAAI 2025 (Wander), Sec. 4.3, Table 5",
    space=DefaultSpace(
        "sequence fusion by vectors: width and length that features are reduced to, rank R_h",
        {**REDUCED, "rank_hidden": RANKS},
        lambda context: [{**_reduced_point(context), "learning_rate": 2e-3, "rank_hidden": 8}],
    ),
)
class SFVF(SFOP):
    """Sequence fusion by vector fusion (Wander paper, Eq. 8 and 10, "SF-VF").

    The method is ``sf_op`` with W_h as a CP sum (Eq. 6). The fusion has
    R_h * d_h * sum d_m + d_t * prod l_m parameters.
    """

    config_class = SFVFConfig
    fusion_class = VectorFusionOfTokens

    def _shape(self) -> FusionShape:
        return replace(super()._shape(), rank_hidden=self.config.rank_hidden)


def _down(size: int, width: int) -> nn.Linear:
    """Return a projection that keeps the root mean square of its input (see ``sequence_fusion``)."""
    projection = nn.Linear(size, width)
    nn.init.normal_(projection.weight, std=size**-0.5)
    nn.init.zeros_(projection.bias)
    return projection


def _root(number: int, degree: int) -> int:
    """Return the largest whole number n >= 1 with n ** degree <= number."""
    return max(n for n in range(1, number + 1) if n == 1 or n**degree <= number)


def _insert(fused: Tensor, sequence: Sequence, *, residual: bool) -> Sequence:
    """Add fused tokens (B, d_t, d_h) to the first tokens of a sequence, or replace these without residual."""
    length, width = sequence.tokens.shape[1:]
    fused = fused[:, :length, :width]
    first, rest = sequence.tokens[:, : fused.shape[1]], sequence.tokens[:, fused.shape[1] :]
    return replace(sequence, tokens=torch.cat([first + fused if residual else fused, rest], dim=1))


def _average(hidden: Tensor, mask: Tensor | None, length: int) -> Tensor:
    """Average the real tokens of sequences (B, T, d) in ``length`` equal runs, shape (B, length, d).

    The average of a run without tokens is zero.

    Args:
        hidden: The sequences.
        mask: True where a token is real, shape (B, T), or None.
        length: Number of runs.
    """
    if mask is None:
        mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    position = mask.cumsum(dim=1) - 1
    run = position * length // mask.sum(dim=1, keepdim=True).clamp(min=1)
    member = (run[..., None] == torch.arange(length, device=hidden.device)) & mask[..., None]
    total = member.mT.to(hidden.dtype) @ hidden
    return total / member.sum(dim=1)[..., None].clamp(min=1)
