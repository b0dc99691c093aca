"""UniAdapter: what modalities share, and where it stands."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.trainables.methods.paper import random_batch, tiny_towers
from tests.trainables.methods.tuning import HEAD, build, logits, trained_at_base_size
from trainables.methods import FusionMethod
from trainables.methods.uniadapter import SCALE

WIDTH, D = 768, 128


def test_down_projections_are_shared_and_up_projections_not() -> None:
    """Table 1 has 35.9 M, as its Adapter has five times ours."""
    shared = 2 * WIDTH + D * WIDTH + D
    assert trained_at_base_size("uniadapter") == 12 * (shared + 2 * (D * WIDTH + WIDTH)) + HEAD


def test_starts_as_linear() -> None:
    towers = tiny_towers(text="bert", image="vit", title="distilbert")
    assert torch.equal(logits(build("uniadapter", towers), towers), logits(build("linear", towers), towers))


@pytest.mark.parametrize("placement", ["paper", "released"])
def test_stands_beside_the_feed_forward_network_of_an_encoder_that_normalises_first(placement) -> None:
    towers = tiny_towers(text="bert", image="vit")
    method = build("uniadapter", towers, n_layers=1, placement=placement)
    inputs = {"pixel_values": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))}
    tower = method.tower("image")
    with torch.no_grad():
        before = towers["image"].encode(inputs, 3)
        plain = towers["image"].layer(3, before).tokens
        adapted = _adapting(method, "image", lambda: tower.layer(3, before).tokens)
        layer = towers["image"].layers[3]
        residual = before.tokens + layer.attention(layer.layernorm_before(before.tokens), None)[0]
        # The network's input is normalised; in the released code the adapter reads it before that
        seen = residual if placement == "released" else layer.layernorm_after(residual)
        assert torch.allclose(adapted, plain + _summand(method, "image", seen), atol=1e-5)


@pytest.mark.parametrize("placement", ["paper", "released"])
def test_stands_beside_the_feed_forward_network_of_one_that_normalises_last(placement) -> None:
    towers = tiny_towers(text="bert", image="vit")
    method = build("uniadapter", towers, n_layers=1, placement=placement)
    tower = method.tower("text")
    with torch.no_grad():
        before = towers["text"].encode(random_batch(towers)["text"], 2)
        plain = towers["text"].layer(2, before).tokens
        adapted = _adapting(method, "text", lambda: tower.layer(2, before).tokens)
        layer = towers["text"].layers[2]
        seen = layer.attention(before.tokens, towers["text"]._bias(before, None, blind=False))[0]
        summand = _summand(method, "text", seen)
        inside = layer.output.LayerNorm(seen + layer.output.dense(layer.intermediate(seen)) + summand)
        assert torch.allclose(adapted, plain + summand if placement == "released" else inside, atol=1e-5)


def _adapting(method: FusionMethod, modality: str, run: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Run a layer with an adapter that is not zero."""
    torch.manual_seed(0)
    torch.nn.init.normal_(method.adapters[0].up[modality].weight)
    return run()


def _summand(method: FusionMethod, modality: str, seen: torch.Tensor) -> torch.Tensor:
    """The adapter's output for what it sees."""
    down = method.adapters[0].down[str(seen.shape[-1])]
    hidden = torch.relu(down[1](down[0](seen)))
    return SCALE * (hidden @ method.adapters[0].up[modality].weight.T)


def test_layers_are_paired_from_the_top_and_share_where_widths_are_equal() -> None:
    method = build("uniadapter", tiny_towers(text="bert", image="vit", title="distilbert"))
    paired = [(set(adapter.up), set(adapter.down)) for adapter in method.adapters]
    assert paired == [({"text", "image", "title"}, {"32", "48"})] * 3 + [({"image"}, {"48"})]
