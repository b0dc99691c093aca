"""Aurora: the update written out, chunks, and what is shared."""

from __future__ import annotations

import torch
from torch import nn

from tests.trainables.methods.paper import tiny_towers
from tests.trainables.methods.tuning import HEAD, build, logits, trained_at_base_size
from trainables.methods.aurora import SharedFactors

WIDTH, R = 768, 128


def test_trained_parameters_are_nearly_the_papers() -> None:
    """Table 1 has 2.6 M: the core, two factors, 4 + 4 + 4 vectors a layer and the head."""
    expected = R**3 + 2 * WIDTH * R + 24 * 12 * R + HEAD
    assert trained_at_base_size("aurora") == expected
    assert round(expected / 1e6, 1) == 2.5


def test_starts_as_linear() -> None:
    towers = tiny_towers(text="bert", image="vit")
    ours, linear = logits(build("aurora", towers, rank=4), towers), logits(build("linear", towers), towers)
    assert torch.equal(ours, linear)


def test_update_is_the_sum_over_chunks() -> None:
    """V(U x_i (C x_3 p_io)), with C x_3 p = sum_k C[:, :, k] p[k], an incomplete chunk filled with 0."""
    torch.manual_seed(0)
    factors = SharedFactors([6], 3, 0.0)
    nn.init.normal_(factors.up["6"].weight)
    vectors, tokens = torch.randn(2, 3, 3), torch.randn(2, 4, 10)
    filled = torch.cat([tokens, torch.zeros(2, 4, 2)], dim=-1)
    u, v = factors.down["6"].weight, factors.up["6"].weight
    outputs = []
    for o in range(3):
        update = torch.zeros(2, 4, 6)
        for i, chunk in enumerate(filled.split(6, dim=-1)):
            core = sum(factors.core[:, :, k] * vectors[i, o, k] for k in range(3))
            update += chunk @ u.T @ core @ v.T
        outputs.append(update)
    assert torch.allclose(factors(6, vectors, tokens), torch.cat(outputs, dim=-1), atol=1e-5)


def test_factors_are_shared_by_all_of_a_width_and_the_core_by_all() -> None:
    method = build("aurora", tiny_towers(text="bert", image="vit", title="distilbert"), rank=4)
    shared = {n for n, p in method.named_parameters() if p.requires_grad and "factors" in n}
    assert shared == {"factors.core"} | {f"factors.{f}.{w}.weight" for f in ("down", "up") for w in (32, 48)}
    vectors = {n: p.shape for n, p in method.named_parameters() if n.endswith(".vectors")}
    assert len(vectors) == 6 * (3 + 4 + 3)
    # 32 x 64 and 48 x 64 feed-forward networks have two chunks; the second of 48 is incomplete
    assert set(vectors.values()) == {(1, 1, 4), (1, 2, 4), (2, 1, 4)}


def test_dropout_is_for_training_only() -> None:
    towers = tiny_towers(text="bert", image="vit")
    method = build("aurora", towers, rank=4, dropout=1.0)
    nn.init.normal_(method.factors.up["32"].weight)
    linear = logits(build("linear", towers), towers)
    assert not torch.allclose(logits(method, towers), linear, atol=1e-3)
    method.train()
    assert method.factors.dropout.training
