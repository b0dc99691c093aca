"""Fusion of several sequences into one by products of their entries: Wander's SF and its unfactorised forms.

The notation is that of Guo et al. (Wander), Sec. 3.3: sequences h_m of shape (l_m, d_m), m = 1..M, are fused
into one of shape (d_t, d_h). All functions take a list of tensors (B, l_m, d_m) whose padding is zero.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from collections.abc import Sequence as Listing
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

#: The two ways to sum the ranks in Eq. 13; see ``SequenceFusion``.
SUM_OF_PRODUCTS, PRODUCT_OF_SUMS = "sum_of_products", "product_of_sums"
CP_FORMS = (SUM_OF_PRODUCTS, PRODUCT_OF_SUMS)


@dataclass(frozen=True)
class FusionShape:
    """Sizes of a fusion.

    Attributes:
        lengths: Number of tokens l_m of each sequence; the largest number if W_t is factorised.
        widths: Width d_m of each sequence.
        target_length: Number of tokens d_t of the fused sequence.
        target_width: Width d_h of the fused sequence.
        rank_time: Rank R_t of the time factors.
        rank_hidden: Rank R_h of the feature factors.
        cp: How the ranks are summed: ``sum_of_products`` or ``product_of_sums``.
    """

    lengths: tuple[int, ...]
    widths: tuple[int, ...]
    target_length: int
    target_width: int
    rank_time: int = 1
    rank_hidden: int = 1
    cp: str = SUM_OF_PRODUCTS

    def full_time(self) -> int:
        """Return the parameter count of the unfactorised W_t (Eq. 10): d_t * prod l_m."""
        return self.target_length * math.prod(self.lengths)

    def full_features(self) -> int:
        """Return the parameter count of the unfactorised W_h (Eq. 9): d_h * prod d_m."""
        return self.target_width * math.prod(self.widths)

    def time_factors(self) -> int:
        """Return the parameter count of the CP factors of W_t (Eq. 12): R_t * d_t * sum l_m."""
        return self.rank_time * self.target_length * sum(self.lengths)

    def feature_factors(self) -> int:
        """Return the parameter count of the CP factors of W_h (Eq. 6): R_h * d_h * sum d_m."""
        return self.rank_hidden * self.target_width * sum(self.widths)


class Fusion(Protocol):
    """Interface of the fusions in this file."""

    @staticmethod
    def parameter_count(shape: FusionShape) -> int:
        """Return the number of parameters without building the fusion."""

    def __call__(self, hidden: Listing[Tensor]) -> Tensor:
        """Fuse sequences (B, l_m, d_m) into one (B, d_t, d_h)."""


class SequenceFusion(nn.Module):
    """SF (Eq. 13): W_t and W_h of Eq. 10 as CP sums.

    ``sum_of_products`` is the second line of Eq. 13, the decomposition that the paper derives:
    sum over r_t and r_h of prod_m w_t,m^{r_t} h_m (w_h,m^{r_h})^T. ``product_of_sums`` is the third line of
    Eq. 13: prod_m (sum over r_t of w_t,m) h_m (sum over r_h of w_h,m)^T. The two lines are equal only if both
    ranks are 1. The third line is an interaction of rank 1 for all R_t and R_h.

    Args:
        shape: Sizes of the fusion.
        gain: Standard deviation of the feature factors' result for an input with a root mean square of 1.
        zero_start: Whether the result is zero at first, because the feature factors of the first sequence
            start at zero.
    """

    def __init__(self, shape: FusionShape, *, gain: float = 1.0, zero_start: bool = False) -> None:
        super().__init__()
        self.cp = shape.cp
        self.time = _factors(shape.rank_time, shape.target_length, shape.lengths, shape.cp)
        self.features = _feature_factors(shape, gain, zero_start)

    @staticmethod
    def parameter_count(shape: FusionShape) -> int:
        """Return R_t * d_t * sum l_m + R_h * d_h * sum d_m (Sec. 4.4)."""
        return shape.time_factors() + shape.feature_factors()

    def forward(self, hidden: Listing[Tensor]) -> Tensor:
        """Fuse sequences (B, at most l_m, d_m) into one (B, d_t, d_h).

        A sequence that is shorter than l_m uses the first columns of its time factors.
        """
        contracted = [
            torch.einsum("rtl,bld->rtbd", _ranks(factor, self.cp)[..., : h.shape[1]], h)
            for factor, h in zip(self.time, hidden, strict=True)
        ]
        return _fuse_features(contracted, [_ranks(factor, self.cp) for factor in self.features])


class VectorFusion(nn.Module):
    """VF (Eq. 7): low-rank fusion of one vector per modality, in both CP forms.

    The bias b_h is left out because the layer that reads the result has a bias.

    Args:
        shape: Sizes of the fusion; lengths and target_length are 1.
        gain: See ``SequenceFusion``.
        zero_start: See ``SequenceFusion``.
    """

    def __init__(self, shape: FusionShape, *, gain: float = 1.0, zero_start: bool = False) -> None:
        super().__init__()
        self.cp = shape.cp
        self.features = _feature_factors(shape, gain, zero_start)

    @staticmethod
    def parameter_count(shape: FusionShape) -> int:
        """Return R_h * d_h * sum d_m."""
        return shape.feature_factors()

    def forward(self, hidden: Listing[Tensor]) -> Tensor:
        """Fuse sequences of one vector (B, 1, d_m) into one (B, 1, d_h)."""
        return _fuse_features(
            [h.transpose(0, 1)[None] for h in hidden], [_ranks(f, self.cp) for f in self.features]
        )


class VectorFusionOfTokens(nn.Module):
    """SF-VF (Eq. 8): vector fusion of every combination of tokens, then an unfactorised W_t.

    Args:
        shape: Sizes of the fusion. All sequences have exactly the lengths l_m.
    """

    def __init__(self, shape: FusionShape) -> None:
        super().__init__()
        self.features = _feature_factors(shape, gain=1.0, zero_start=False)
        self.time = _full_time(shape)

    @staticmethod
    def parameter_count(shape: FusionShape) -> int:
        """Return d_t * prod l_m + R_h * d_h * sum d_m (Sec. 4.4)."""
        return shape.full_time() + shape.feature_factors()

    def forward(self, hidden: Listing[Tensor]) -> Tensor:
        """Fuse sequences (B, l_m, d_m) into one (B, d_t, d_h)."""
        projected = [
            torch.einsum("bld,rkd->brkl", h, factor) for factor, h in zip(self.features, hidden, strict=True)
        ]
        # Each sequence in turn is contracted with W_t, so that the (l_1, …, l_M, d_h) tensor of all
        # combinations never exists
        *others, last = projected
        fused = last @ self.time.flatten(0, -2).mT
        for factor in reversed(others):
            fused = torch.einsum("brkxl,brkl->brkx", fused.unflatten(-1, (-1, factor.shape[-1])), factor)
        return fused.sum(dim=1).mT


class OuterProductFusion(nn.Module):
    """SF-OP (Eq. 10): W_t (h_1 ⊗ … ⊗ h_M) W_h with unfactorised W_t and W_h.

    Args:
        shape: Sizes of the fusion. All sequences have exactly the lengths l_m.

    Attributes:
        time: W_t, shape (d_t, l_1, …, l_M).
        features: W_h, shape (d_1, …, d_M, d_h).
    """

    def __init__(self, shape: FusionShape) -> None:
        super().__init__()
        self.features = nn.Parameter(
            torch.randn(*shape.widths, shape.target_width) * math.prod(shape.widths) ** -0.5
        )
        self.time = _full_time(shape)

    @staticmethod
    def parameter_count(shape: FusionShape) -> int:
        """Return d_t * prod l_m + d_h * prod d_m (Sec. 4.4)."""
        return shape.full_time() + shape.full_features()

    def forward(self, hidden: Listing[Tensor]) -> Tensor:
        """Fuse sequences (B, l_m, d_m) into one (B, d_t, d_h)."""
        # Contracting a sequence replaces its length axis by its width: (B, x, l_m, y) -> (B, x, d_m, y)
        fused = self.time.flatten()[None, :, None].expand(hidden[0].shape[0], -1, -1)
        for h in reversed(hidden):
            fused = torch.einsum("bxly,bld->bxdy", fused.unflatten(1, (-1, h.shape[1])), h).flatten(2)
        return fused @ self.features.flatten(0, -2)


def _fuse_features(contracted: Listing[Tensor], factors: Listing[Tensor]) -> Tensor:
    """Return sum over r_t, r_h of prod_m c_m^{r_t} (w_h,m^{r_h})^T, shape (B, d_t, d_h).

    Args:
        contracted: Sequences after the time factors, shape (R_t, d_t, B, d_m).
        factors: Feature factors, shape (R_h, d_h, d_m).
    """
    fused: Tensor = _SumOfProducts.apply(*contracted, *factors)
    return fused.transpose(0, 1)


class _SumOfProducts(Function):
    """The sum of ``_fuse_features``, shape (d_t, B, d_h), one rank r_h after the other.

    The terms of one r_h have R_t * d_t * d_h entries per sample and modality. The backward pass computes them
    again, so that the terms of all R_h ranks are not stored at once. Each rank writes over the terms of the
    one before it.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, *tensors: Tensor) -> Tensor:
        """Return the sum for sequences, followed by as many feature factors."""
        ctx.save_for_backward(*tensors)
        contracted, factors = _halves(tensors)
        fused = contracted[0].new_zeros(*contracted[0].shape[1:-1], factors[0].shape[1])
        for first, *others in _terms_by_rank(contracted, factors):
            for other in others:
                first *= other
            fused += first.sum(dim=0)
        return fused

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the sequences and of the factors."""
        contracted, factors = _halves(ctx.saved_tensors)
        rows = [c.flatten(0, -2) for c in contracted]
        of_rows = [torch.zeros_like(r) for r in rows]
        of_factors = [torch.empty_like(factor) for factor in factors]
        for rank, terms in enumerate(_terms_by_rank(contracted, factors)):
            below = list(itertools.accumulate(terms[:-1], torch.mul))
            rest = gradient  # the gradient of the product of the terms 0 to m
            for m in reversed(range(len(terms))):
                of_term = (below[m - 1].mul_(rest) if m else rest).flatten(0, -2)
                rest = terms[m].mul_(rest) if m else rest
                of_rows[m] += of_term @ factors[m][rank].to(of_term.dtype)
                of_factors[m][rank] = of_term.mT @ rows[m]
        return *(r.view_as(c) for r, c in zip(of_rows, contracted, strict=True)), *of_factors


def _halves(tensors: Listing[Tensor]) -> tuple[Listing[Tensor], Listing[Tensor]]:
    """Return the first and the second half of some tensors."""
    return tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]


def _terms_by_rank(contracted: Listing[Tensor], factors: Listing[Tensor]) -> Iterator[list[Tensor]]:
    """Yield c_m w_m^T for each r_h, shape (R_t, d_t, B, d_h) for each modality, in the same memory."""
    rows = [c.flatten(0, -2) for c in contracted]
    terms = [r.new_empty(len(r), f.shape[1]) for r, f in zip(rows, factors, strict=True)]
    for of_rank in zip(*factors, strict=True):
        for r, w, term in zip(rows, of_rank, terms, strict=True):
            torch.mm(r, w.to(r.dtype).mT, out=term)
        yield [term.view(*c.shape[:-1], -1) for term, c in zip(terms, contracted, strict=True)]


def _ranks(factor: Tensor, cp: str) -> Tensor:
    """Return the factor (R, …), summed over its ranks to (1, …) if ``cp`` is ``product_of_sums``."""
    return factor.sum(dim=0, keepdim=True) if cp == PRODUCT_OF_SUMS else factor


def _factors(rank: int, target: int, sizes: tuple[int, ...], cp: str, gain: float = 1.0) -> nn.ParameterList:
    """Return CP factors (R, target, size), one per modality.

    Each factor multiplies the root mean square of its input by ``gain``, whatever the signs and correlations
    of the input, so that the scale of a product does not depend on the number of modalities. The sum over
    the ranks adds R independent terms, whose standard deviation is therefore divided by sqrt(R). In a sum of
    products, the M factors share this divisor.
    """
    share = 1 if cp == PRODUCT_OF_SUMS else 1 / len(sizes)
    return nn.ParameterList(
        torch.randn(rank, target, size) * gain * size**-0.5 * rank ** (-0.5 * share) for size in sizes
    )


def _feature_factors(shape: FusionShape, gain: float, zero_start: bool) -> nn.ParameterList:
    """Return the factors w_h,m of shape (R_h, d_h, d_m)."""
    factors = _factors(shape.rank_hidden, shape.target_width, shape.widths, shape.cp, gain)
    if zero_start:
        nn.init.zeros_(factors[0])
    return factors


def _full_time(shape: FusionShape) -> nn.Parameter:
    """Return W_t of shape (d_t, l_1, …, l_M)."""
    return nn.Parameter(torch.randn(shape.target_length, *shape.lengths) * math.prod(shape.lengths) ** -0.5)
