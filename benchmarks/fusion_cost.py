"""What the sequence fusion alone costs, factorised and not: the Wander paper's Table 6.

Three sequences are fused into one token by SF-OP (Eq. 10), SF-VF (Eq. 8) and SF (Eq. 13) in batches of 24, as
in the paper. It reduces features and lengths first, to sizes that it does not state; the defaults here are
those of the methods ``sf_op`` and ``sf_vf``. Time is the median of a forward and a backward pass on this
machine's GPU, or without one on its CPU. Memory is what a step with Adam holds in tensors, predicted for a
GPU, and operations are those of the forward pass. Both are the same on every machine.

    python benchmarks/fusion_cost.py [--features 16] [--length 8] [--width 768] [--rank 8] [--repeats 20]
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.memory import estimate
from trainables.methods.sequence_fusion import (
    FusionShape,
    OuterProductFusion,
    SequenceFusion,
    VectorFusionOfTokens,
)
from trainables.step.precision import default_device

MODALITIES = 3
#: Form by the paper's name, with what its Table 6 prints: GPU time in s, memory in MB, FLOPs.
FORMS = {
    "SF-OP": (OuterProductFusion, (9.16, 3300, 0.003)),
    "SF-VF": (VectorFusionOfTokens, (7.87, 622, 0.002)),
    "SF": (SequenceFusion, (0.015, 348, 0.002)),
}


def loss(fusion: nn.Module, batch: list[Tensor]) -> Tensor:
    """Return a scalar that depends on all that is fused."""
    fused: Tensor = fusion(batch)
    return fused.square().mean()


def operations(fusion: nn.Module, batch: list[Tensor]) -> int:
    """Return the number of floating-point operations of the matrix products in a forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        fusion(batch)
    return counter.get_total_flops()


def seconds(fusion: nn.Module, batch: list[Tensor], repeats: int) -> float:
    """Return the median time of a forward and a backward pass, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        loss(fusion, batch).backward()
        if batch[0].is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=int, default=16, help="width of each sequence (default: 16)")
    parser.add_argument("--length", type=int, default=8, help="tokens of each sequence (default: 8)")
    parser.add_argument("--width", type=int, default=768, help="width of the fused token (default: 768)")
    parser.add_argument("--rank", type=int, default=8, help="both ranks (default: 8)")
    parser.add_argument("--batch-size", type=int, default=24, help="samples (default: 24)")
    parser.add_argument("--repeats", type=int, default=20, help="timed passes (default: 20)")
    given = parser.parse_args()
    device = default_device()
    shape = FusionShape(
        (given.length,) * MODALITIES, (given.features,) * MODALITIES, 1, given.width, given.rank, given.rank
    )
    batch = [torch.randn(given.batch_size, given.length, given.features, device=device)] * MODALITIES
    table = Table(title=f"fusion of {MODALITIES} sequences on this {device}; in brackets the paper")
    for heading in ("form", "parameters", "time", "memory", "operations"):
        table.add_column(heading, justify="left" if heading == "form" else "right")
    for name, (form, printed) in FORMS.items():
        fusion = form(shape).to(device)
        held = estimate(
            partial(form, shape), batch, loss, partial(torch.optim.Adam, lr=1e-3), precision="fp32"
        )
        table.add_row(
            name,
            f"{sum(parameter.numel() for parameter in fusion.parameters()):,}",
            f"{seconds(fusion, batch, given.repeats) * 1e3:.2f} ms ({printed[0]} s)",
            f"{held.total / 1e6:.1f} MB ({printed[1]} MB)",
            f"{operations(fusion, batch) / 1e9:.4f} G ({printed[2]})",
        )
    Console(highlight=False, width=120).print(table)


if __name__ == "__main__":
    main()
