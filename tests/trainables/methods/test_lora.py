"""LoRA: the matrices it updates, the scale, and what stays shared."""

from __future__ import annotations

import warnings

import pytest
import torch

from tests.trainables.methods.paper import tiny_towers
from tests.trainables.methods.tuning import (
    HEAD,
    build,
    logits,
    predicted_at_tiny_size,
    trained_at_base_size,
)
from trainables.errors import UserError
from trainables.methods import FusionMethod

LAYERS, WIDTH = 24, 768


@pytest.mark.parametrize(
    ("targets", "sides"),
    [
        ("query+value", 2 * (WIDTH + WIDTH)),
        ("attention", 4 * (WIDTH + WIDTH)),
        ("all", 4 * (WIDTH + WIDTH) + 2 * (WIDTH + 4 * WIDTH)),
    ],
)
def test_every_updated_matrix_has_two_factors(targets, sides) -> None:
    assert trained_at_base_size("lora", targets=targets) == LAYERS * 64 * sides + HEAD


def test_starts_as_linear() -> None:
    towers = tiny_towers(text="bert", image="vit")
    assert torch.equal(logits(build("lora", towers), towers), logits(build("linear", towers), towers))


def _updated(method: FusionMethod) -> FusionMethod:
    """Make the updates differ from 0, the same for every method of a rank."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return method


def test_updates_are_scaled_by_alpha_over_rank() -> None:
    towers = tiny_towers(text="bert", image="vit")
    by_alpha = {
        alpha: logits(_updated(build("lora", towers, rank=4, alpha=alpha)), towers) for alpha in (None, 4, 2)
    }
    assert torch.equal(by_alpha[None], by_alpha[4])
    assert not torch.allclose(by_alpha[None], by_alpha[2], atol=1e-3)
    halved = _updated(build("lora", towers, rank=4))
    with torch.no_grad():
        for name, parameter in halved.named_parameters():
            if "lora_B" in name:
                parameter.mul_(0.5)
    assert torch.allclose(logits(halved, towers), by_alpha[2], atol=1e-5)


def test_frozen_weights_stay_shared_between_methods() -> None:
    towers = tiny_towers(text="bert", image="vit")
    first, second = (build("lora", towers, targets="all") for _ in range(2))
    given = {id(p) for tower in towers.values() for p in tower.parameters()}
    for method in (first, second):
        own = {n: p for n, p in method.named_parameters() if id(p) not in given}
        assert all("lora_" in n or n.startswith("head.") for n in own)
        assert {n for n, p in method.named_parameters() if p.requires_grad} == set(own)


def test_updates_the_joint_matrix_of_gpt2() -> None:
    """Its weights are stored transposed (Conv1D), and query, key and value are one matrix."""
    towers = tiny_towers(text="gpt2", image="vit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method = build("lora", towers, rank=4)
    factors = {n: p.shape for n, p in method.named_parameters() if "lora_" in n and "attn.c_attn" in n}
    width = towers["text"].width
    assert len(factors) == 2 * towers["text"].depth
    assert set(factors.values()) == {(4, width), (3 * width, 4)}
    before = logits(method, towers)
    assert torch.equal(before, logits(build("linear", towers), towers))
    assert not torch.allclose(logits(_updated(method), towers), before, atol=1e-3)


def test_fewer_layers_take_less_memory(tiny_encoders) -> None:
    peaks = [predicted_at_tiny_size("lora", tiny_encoders, n_layers=n) for n in (1, 2, 3, None)]
    assert peaks == sorted(peaks)
    assert len(set(peaks)) == 4
    method = build("lora", tiny_towers(text="bert", image="vit"), n_layers=1)
    assert method.prefix_layers() == {"text": 2, "image": 3}


def test_a_shallow_encoder_takes_part_with_all_of_its_layers() -> None:
    towers = tiny_towers(text="bert", image="vit")
    for layers in (4, None):
        method = build("lora", towers, n_layers=layers)
        assert method.prefix_layers() == {"text": 0, "image": 0}
    words = build("lora", tiny_towers(text="bag_of_words", image="vit"), n_layers=3)
    assert words.prefix_layers() == {"text": 0, "image": 1}


def test_refuses_more_layers_than_there_are() -> None:
    with pytest.raises(UserError, match=r"n_layers=5: must be 1 to 4, .*text 3, image 4"):
        build("lora", tiny_towers(text="bert", image="vit"), n_layers=5)
    nothing = tiny_towers(text="bag_of_words", title="bag_of_words")
    with pytest.raises(UserError, match="no encoder has any"):
        build("lora", nothing)
