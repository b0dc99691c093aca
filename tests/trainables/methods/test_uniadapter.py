"""UniAdapter: what modalities share, and where it stands."""

from __future__ import annotations

import torch

from tests.trainables.methods.paper import tiny_towers
from tests.trainables.methods.tuning import HEAD, build, logits, trained_at_base_size
from trainables.methods.uniadapter import SCALE

WIDTH, D = 768, 128


def test_down_projections_are_shared_and_up_projections_not() -> None:
    """Table 1 has 35.9 M, as its Adapter has five times ours."""
    shared = 2 * WIDTH + D * WIDTH + D
    assert trained_at_base_size("uniadapter") == 12 * (shared + 2 * (D * WIDTH + WIDTH)) + HEAD


def test_starts_as_linear() -> None:
    towers = tiny_towers(text="bert", image="vit", title="distilbert")
    assert torch.equal(logits(build("uniadapter", towers), towers), logits(build("linear", towers), towers))


def test_is_added_beside_the_feed_forward_network() -> None:
    towers = tiny_towers(text="bert", image="vit")
    method = build("uniadapter", towers, n_layers=1)
    inputs = {"pixel_values": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))}
    tower, adapter = method.tower("image"), method.adapters[0]
    with torch.no_grad():
        torch.nn.init.normal_(adapter.up["image"].weight)
        before = towers["image"].encode(inputs, 3)
        plain = towers["image"].layer(3, before).tokens
        adapted = tower.layer(3, before).tokens
        # The network's input: after the attention's residual, normalised
        layer = towers["image"].layers[3]
        residual = before.tokens + layer.attention(layer.layernorm_before(before.tokens), None)[0]
        seen = layer.layernorm_after(residual)
        down = adapter.down["48"]
        hidden = torch.relu(down[1](down[0](seen)))
        expected = plain + SCALE * (hidden @ adapter.up["image"].weight.T)
    assert torch.allclose(adapted, expected, atol=1e-5)


def test_layers_are_paired_from_the_top_and_share_where_widths_are_equal() -> None:
    method = build("uniadapter", tiny_towers(text="bert", image="vit", title="distilbert"))
    paired = [(set(adapter.up), set(adapter.down)) for adapter in method.adapters]
    assert paired == [({"text", "image", "title"}, {"32", "48"})] * 3 + [({"image"}, {"48"})]
