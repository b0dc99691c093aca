"""Adapter: sizes, start and LayerNorms."""

from __future__ import annotations

import torch

from tests.trainables.methods.paper import tiny_towers
from tests.trainables.methods.tuning import HEAD, build, logits, trained_at_base_size

LAYERS, WIDTH = 24, 768
NORMS = LAYERS * 2 * 2 * WIDTH


def test_two_adapters_a_layer() -> None:
    """2 d D + d + D weights each. Table 1's 24.9 M and 50.1 M need five times as many modules."""
    for d in (64, 128):
        expected = LAYERS * 2 * (2 * d * WIDTH + d + WIDTH) + HEAD
        assert trained_at_base_size("adapter", bottleneck=d) == expected + NORMS
        assert trained_at_base_size("adapter", bottleneck=d, train_norms=False) == expected


def test_starts_near_linear() -> None:
    towers = tiny_towers(text="bert", image="vit")
    linear = logits(build("linear", towers), towers)
    adapted = logits(build("adapter", towers), towers)
    assert not torch.equal(adapted, linear)
    assert torch.allclose(adapted, linear, atol=1e-2)


def test_stands_between_sublayer_and_residual() -> None:
    """A bias of the last adapter of an encoder that normalises in front shifts the residual stream."""
    towers = tiny_towers(text="bert", image="vit")
    method = build("adapter", towers)
    last = method.tower("image").layers[-1]
    with torch.no_grad():
        before = method.tower("image").encode({"pixel_values": torch.ones(1, 3, 32, 32)}, 4).tokens
        last.mlp.fc2.update[2].bias += 1.0
        after = method.tower("image").encode({"pixel_values": torch.ones(1, 3, 32, 32)}, 4).tokens
    assert torch.allclose(after, before + 1, atol=1e-5)


def test_norms_train_on_copies() -> None:
    towers = tiny_towers(text="bert", image="vit")
    method = build("adapter", towers, n_layers=1)
    trained = {n for n, p in method.named_parameters() if p.requires_grad}
    norms = {n for n in trained if "norm" in n.lower()}
    # Two norms of two weights in the top layer of each
    assert len(norms) == 8
    assert all("layer.2." in n or "layers.3." in n for n in norms)
    with torch.no_grad():
        for name in norms:
            method.get_parameter(name).fill_(7.0)
    assert not any((p == 7.0).all() for tower in towers.values() for p in tower.parameters())
    without = build("adapter", towers, n_layers=1, train_norms=False)
    assert trained - norms == {n for n, p in without.named_parameters() if p.requires_grad}
