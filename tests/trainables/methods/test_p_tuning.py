"""P-tuning v2: sizes and what the prefixes do."""

from __future__ import annotations

import torch

from tests.trainables.methods.paper import tiny_towers
from tests.trainables.methods.tuning import (
    HEAD,
    HOST_HEAD,
    build,
    logits,
    predicted_at_tiny_size,
    trained_at_base_size,
)


def test_a_key_and_a_value_a_layer_and_position() -> None:
    """Table 1's 6.2 M are 150 of them and the head of its host."""
    for length in (20, 150):
        assert trained_at_base_size("p_tuning", length=length) == 24 * 2 * length * 768 + HEAD
    assert round((24 * 2 * 150 * 768 + HOST_HEAD) / 1e6, 1) == 6.2


def test_tokens_attend_to_the_prefixes() -> None:
    towers = tiny_towers(first="vit", second="deit")
    method = build("p_tuning", towers, length=1)
    linear = logits(build("linear", towers), towers)
    with torch.no_grad():
        for prefixes in method.prefixes.values():
            for pair in prefixes.pairs:
                pair[1] = 3.0
    assert not torch.allclose(logits(method, towers), linear, atol=1e-2)


def test_prefixes_of_zero_only_dilute_attention() -> None:
    """Many zero keys and values draw attention away from the tokens, so that they see less of each other."""
    towers = tiny_towers(text="bert", image="vit")
    method = build("p_tuning", towers, length=10_000)
    silent = build("linear", towers)
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if name.startswith("prefixes."):
                parameter.zero_()
        for m in towers:
            for layer in silent.tower(m).layers:
                path = silent.tower(m).MATRICES["value"]
                value = layer.get_submodule(path)
                nothing = torch.nn.Linear(value.in_features, value.out_features)
                for parameter in nothing.parameters():
                    parameter.zero_()
                layer.set_submodule(path, nothing)
    assert torch.allclose(logits(method, towers), logits(silent, towers), atol=5e-2)


def test_fewer_layers_take_less_memory(tiny_encoders) -> None:
    peaks = [predicted_at_tiny_size("p_tuning", tiny_encoders, n_layers=n) for n in (1, 3, None)]
    assert peaks == sorted(peaks)
    assert len(set(peaks)) == 3


def test_dropout_is_for_training_only() -> None:
    towers = tiny_towers(text="bert", image="vit")
    method = build("p_tuning", towers, dropout=0.9)
    first = logits(method, towers)
    assert torch.equal(logits(method, towers), first)
    method.train()
    assert all(prefixes.dropout.training for prefixes in method.prefixes.values())
