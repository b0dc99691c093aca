"""What every tower must satisfy."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import (
    AUDIO_FAMILIES,
    IMAGE_FAMILIES,
    OTHER_FAMILIES,
    SIZES,
    TEXT_FAMILIES,
    encoder_name,
    random_inputs,
    real_length,
)
from tests.tasks import classification
from trainables.memory import MemoryPredictor, measure_memory
from trainables.methods import MethodContext, build_method
from trainables.step.setting import TrainingSetting
from trainables.towers import FAMILIES, NONE, Tower, load_tower, resolve_encoder

ALL = [*TEXT_FAMILIES, *IMAGE_FAMILIES, *AUDIO_FAMILIES, *OTHER_FAMILIES]
LAYERED = [family for family in ALL if family != "bag_of_words"]

#: What callers may want of a layer.
WANTED: list[dict[str, Any]] = [
    {"tokens": slice(0, 1), "prompts": NONE},
    {"tokens": slice(0, 4), "prompts": NONE},
    {"tokens": NONE, "prompts": slice(-1, None)},
    {"tokens": slice(0, 1)},
]


def _tower(encoders: dict[str, Path], family: str, attention: str = "eager") -> Tower:
    modality = FAMILIES[family].modality or "video"
    return load_tower(resolve_encoder(modality, encoder_name(encoders, family)), attention=attention)


def _inputs(tower: Tower, *, padded: bool = True) -> dict[str, torch.Tensor]:
    return random_inputs(tower, 3, torch.Generator().manual_seed(1), padded)


def _run(tower: Tower, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return tower.finish(tower.encode(inputs, tower.depth)).tokens


def test_every_family_is_covered() -> None:
    assert set(ALL) == set(FAMILIES)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ALL)
def test_steps_equal_the_library_forward(tiny_encoders, family, attention, padded) -> None:
    tower = _tower(tiny_encoders, family, attention)
    if family == "whisper" and padded:
        pytest.skip("the library does not mask what pads a spectrogram")
    inputs = _inputs(tower, padded=padded)
    with torch.no_grad():
        ours = tower.finish(tower.encode(inputs, tower.depth))
        theirs = tower.model(**inputs).last_hidden_state
    assert ours.tokens.shape == theirs.shape
    real = torch.ones(theirs.shape[:2], dtype=torch.bool) if ours.mask is None else ours.mask
    assert (ours.tokens - theirs)[real].abs().max() < 1e-5


@pytest.mark.parametrize("family", LAYERED)
def test_steps_are_a_chain(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    inputs = _inputs(tower)
    with torch.no_grad():
        half = tower.encode(inputs, 2)
        assert half.layer == 2
        assert torch.equal(tower.encode(half, tower.depth).tokens, tower.encode(inputs, tower.depth).tokens)
    assert half.tokens.shape == (3, half.tokens.shape[1], tower.layer_width(1))
    with pytest.raises(ValueError, match="past layer"):
        tower.encode(half, 1)


@pytest.mark.parametrize("family", LAYERED)
def test_prompts_are_seen_and_can_be_dropped(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    with torch.no_grad():
        before = tower.embed(_inputs(tower))
        prompts = torch.ones(3, 2, tower.layer_width(0))
        after = tower.layer(0, before.prompted(prompts))
        plain = tower.layer(0, before)
        dropped = tower.layer(0, before.prompted(prompts), prompts=NONE)
    assert after.tokens.shape == plain.tokens.shape
    assert after.prompts.shape == prompts.shape
    assert plain.prompts is None
    assert dropped.prompts is None
    assert torch.equal(after.tokens, dropped.tokens)
    assert after.mask is None or torch.equal(after.mask, plain.mask)
    assert not torch.allclose(after.tokens, plain.tokens)


@pytest.mark.parametrize("family", LAYERED)
def test_blind_prompts_do_not_see_tokens(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    prompts = torch.randn(3, 2, tower.layer_width(0), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        one = tower.embed(_inputs(tower))
        other = replace(one, tokens=one.tokens.roll(1, dims=2))
        blind = [tower.layer(0, s.prompted(prompts), blind=True) for s in (one, other)]
        seeing = [tower.layer(0, s.prompted(prompts)) for s in (one, other)]
    assert torch.allclose(blind[0].prompts, blind[1].prompts, atol=1e-6)
    if not tower.PROMPTS_FIRST:
        assert not torch.allclose(seeing[0].prompts, seeing[1].prompts, atol=1e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", LAYERED)
def test_a_prefix_of_keys_and_values_is_seen(tiny_encoders, family, attention) -> None:
    tower = _tower(tiny_encoders, family, attention)
    generator = torch.Generator().manual_seed(3)
    keys, values = (torch.randn(3, 2, tower.layer_width(0), generator=generator) for _ in range(2))
    with torch.no_grad():
        before = tower.embed(_inputs(tower))
        plain = tower.layer(0, before)
        far = tower.layer(0, before, prefix_tokens=(keys, values))
        assert far.tokens.shape == plain.tokens.shape
        assert not torch.allclose(far.tokens, plain.tokens, atol=1e-3)
        # Copies of what is there change nothing: no prefix at all is the same as one of length 0.
        nothing = tower.layer(0, before, prefix_tokens=(keys[:, :0], values[:, :0]))
    assert torch.allclose(nothing.tokens, plain.tokens, atol=1e-5)


@pytest.mark.parametrize("wanted", WANTED, ids=str)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", LAYERED)
def test_skipping_unused_outputs_changes_nothing(tiny_encoders, family, attention, wanted) -> None:
    tower = _tower(tiny_encoders, family, attention)
    results = []
    for skip in (False, True):
        tower.skip_unused = skip
        start = tower.embed(_inputs(tower))
        prompt = torch.randn(3, 2, tower.layer_width(1), generator=torch.Generator().manual_seed(3))
        prompt.requires_grad_()
        out = tower.layer(1, start.prompted(prompt), **wanted)
        kept = torch.cat([t for t in (out.tokens, out.prompts) if t is not None], dim=1)
        (kept**2).sum().backward()
        results.append((out, kept, prompt.grad))
    (plain, kept, gradient), (skipped, skipped_kept, skipped_gradient) = results
    assert torch.allclose(kept, skipped_kept, atol=1e-5)
    assert torch.allclose(gradient, skipped_gradient, rtol=1e-3, atol=1e-4)
    assert plain.mask is None or torch.equal(plain.mask, skipped.mask)
    assert plain.layer == skipped.layer == 2


@pytest.mark.parametrize("family", ALL)
def test_a_fork_shares_weights_and_nothing_else(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    fork, trained = tower.fork(), tower.fork(trained=True)
    own = dict(tower.named_parameters())
    assert all(p is own[n] and not p.requires_grad for n, p in fork.named_parameters())
    assert all(p is not own[n] and p.requires_grad for n, p in trained.named_parameters())
    fork.layers.train()
    assert not any(layer.training for layer in tower.layers)
    inputs = _inputs(tower)
    with torch.no_grad():
        assert torch.equal(_run(tower, inputs), _run(trained.eval(), inputs))


@pytest.mark.parametrize("family", LAYERED)
def test_names_its_matrices_and_sublayers(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    for layer in tower.layers:
        for path in tower.MATRICES.values():
            assert layer.get_submodule(path).weight.dim() == 2
        for path in tower.SUBLAYERS.values():
            assert layer.get_submodule(path) is not None
    assert set(tower.SUBLAYERS) == {"attention", "feed_forward"}
    attention = {"query", "key", "value"} if "query" in tower.MATRICES else {"query_key_value"}
    assert set(tower.MATRICES) == attention | {"output", "up", "down"}


@pytest.mark.parametrize("family", ALL)
def test_counts_its_tokens(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    for layer in (0, tower.depth):
        with torch.no_grad():
            tokens = tower.encode(tower.example_inputs(2, SIZES), layer).tokens
        assert tokens.shape[1] == tower.token_count(layer, SIZES)


@pytest.mark.parametrize("family", ALL)
def test_is_frozen_and_deterministic(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    assert not any(p.requires_grad for p in tower.parameters())
    inputs = _inputs(tower)
    assert torch.equal(_run(tower, inputs), _run(tower, inputs))


@pytest.mark.parametrize("family", [*TEXT_FAMILIES, *AUDIO_FAMILIES, *OTHER_FAMILIES])
def test_padding_changes_neither_real_tokens_nor_the_pooled_vector(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    if getattr(tower.model.config, "feat_extract_norm", None) == "group":
        pytest.skip("its group norm is over the padding too, in the library as here")
    inputs = _inputs(tower)
    length = real_length(inputs["attention_mask"])
    short = {
        name: value[1:2, :, :length] if name == "input_features" else value[1:2, :length]
        for name, value in inputs.items()
    }
    with torch.no_grad():
        cut = _run(tower, short)
        assert torch.allclose(_run(tower, inputs)[1:2, : cut.shape[1]], cut, atol=1e-5)
        assert torch.allclose(tower.pooled(inputs)[1:2], tower.pooled(short), atol=1e-5)


@pytest.mark.parametrize("family", ALL)
def test_pooling_reads_the_positions_that_it_says(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    inputs = _inputs(tower)
    with torch.no_grad():
        whole = tower.pool(tower.finish(tower.encode(inputs, tower.depth)))
        assert torch.allclose(tower.pooled(inputs), whole, atol=1e-6)
    assert whole.shape == (3, tower.width)


@pytest.mark.parametrize("family", ALL)
def test_every_parameter_trains_with_the_encoder(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family).fork(trained=True)
    (tower.pooled(_inputs(tower)) ** 3).sum().backward()
    # A bias of the attention's keys shifts all scores of a query alike: softmax cannot see it.
    silent = [
        name
        for name, p in tower.named_parameters()
        if (p.grad is None or not p.grad.any()) and "key" not in name and "k_" not in name
    ]
    assert not silent


@pytest.mark.parametrize("family", ALL)
def test_its_training_memory_is_predicted(tiny_encoders, family) -> None:
    setting = TrainingSetting(batch_size=2, **dataclasses.asdict(SIZES))
    modality = FAMILIES[family].modality or "video"
    other = "image" if modality == "text" else "text"
    names = {
        modality: encoder_name(tiny_encoders, family),
        other: str(tiny_encoders["vit" if other == "image" else "bert"]),
    }
    sources = {m: resolve_encoder(m, name) for m, name in names.items()}
    towers = {m: load_tower(source) for m, source in sources.items()}
    method = build_method("late_concat", {}, MethodContext(towers, 3, SIZES))
    inputs = {m: random_inputs(tower, 2, torch.Generator()) for m, tower in towers.items()}
    real = measure_memory(method, inputs, torch.zeros(2, dtype=torch.long), setting, classification(3))
    assert MemoryPredictor(sources, classification(3), setting).predict("late_concat", {}) == real


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_takes_other_image_sizes(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    with torch.no_grad():
        small = tower.embed({"pixel_values": torch.zeros(1, 3, 16, 16)})
    assert small.tokens.shape[1] < tower.embed({"pixel_values": torch.zeros(1, 3, 32, 32)}).tokens.shape[1]
