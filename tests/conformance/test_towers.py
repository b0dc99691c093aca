"""What every tower must satisfy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import IMAGE_FAMILIES, TEXT_FAMILIES
from trainables.towers import FAMILIES, NONE, InputSizes, Tower, load_tower, resolve_encoder

ALL = [*TEXT_FAMILIES, *IMAGE_FAMILIES]
SIZES = InputSizes(text_length=10, image_size=32)

#: What callers may want of a layer.
WANTED: list[dict[str, Any]] = [
    {"tokens": slice(0, 1), "prompts": NONE},
    {"tokens": slice(0, 4), "prompts": NONE},
    {"tokens": NONE, "prompts": slice(-1, None)},
    {"tokens": slice(0, 1)},
]


def _tower(encoders: dict[str, Path], family: str, attention: str = "eager") -> Tower:
    source = resolve_encoder(FAMILIES[family].modality, str(encoders[family]))
    return load_tower(source, attention=attention)


def _inputs(family: str, *, padded: bool) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    if family in IMAGE_FAMILIES:
        return {"pixel_values": torch.randn(3, 3, 32, 32, generator=generator)}
    mask = torch.ones(3, 10, dtype=torch.long)
    ids = torch.randint(5, 64, (3, 10), generator=generator)
    if padded:
        mask[1, 6:] = 0
        mask[2, 3:] = 0
        ids[mask == 0] = 1 if family == "roberta" else 0
    return {"input_ids": ids, "attention_mask": mask}


def _run(tower: Tower, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return tower.finish(tower.encode(inputs, tower.depth)).tokens


def test_every_family_is_covered() -> None:
    assert set(ALL) == set(FAMILIES)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ALL)
def test_steps_equal_the_library_forward(tiny_encoders, family, attention, padded) -> None:
    tower = _tower(tiny_encoders, family, attention)
    inputs = _inputs(family, padded=padded)
    with torch.no_grad():
        ours = _run(tower, inputs)
        theirs = tower.model(**inputs).last_hidden_state
    real = inputs.get("attention_mask", torch.ones(ours.shape[:2])).bool()
    assert (ours - theirs)[real].abs().max() < 1e-5


@pytest.mark.parametrize("family", ALL)
def test_steps_are_a_chain(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    inputs = _inputs(family, padded=True)
    with torch.no_grad():
        half = tower.encode(inputs, 2)
        assert half.layer == 2
        assert torch.equal(tower.encode(half, tower.depth).tokens, tower.encode(inputs, tower.depth).tokens)
    assert half.tokens.shape == (3, half.tokens.shape[1], tower.width)
    with pytest.raises(ValueError, match="past layer"):
        tower.encode(half, 1)


@pytest.mark.parametrize("family", ALL)
def test_prompts_are_seen_and_can_be_dropped(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    with torch.no_grad():
        before = tower.embed(_inputs(family, padded=True))
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


@pytest.mark.parametrize("family", ALL)
def test_blind_prompts_do_not_see_tokens(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    prompts = torch.randn(3, 2, tower.layer_width(0), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        one = tower.embed(_inputs(family, padded=True))
        other = replace(one, tokens=one.tokens.roll(1, dims=2))
        blind = [tower.layer(0, s.prompted(prompts), blind=True) for s in (one, other)]
        seeing = [tower.layer(0, s.prompted(prompts)) for s in (one, other)]
    assert torch.allclose(blind[0].prompts, blind[1].prompts, atol=1e-6)
    if not tower.PROMPTS_FIRST:
        assert not torch.allclose(seeing[0].prompts, seeing[1].prompts, atol=1e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ALL)
def test_a_prefix_of_keys_and_values_is_seen(tiny_encoders, family, attention) -> None:
    tower = _tower(tiny_encoders, family, attention)
    generator = torch.Generator().manual_seed(3)
    keys, values = (torch.randn(3, 2, tower.layer_width(0), generator=generator) for _ in range(2))
    with torch.no_grad():
        before = tower.embed(_inputs(family, padded=True))
        plain = tower.layer(0, before)
        far = tower.layer(0, before, prefix=(keys, values))
        assert far.tokens.shape == plain.tokens.shape
        assert not torch.allclose(far.tokens, plain.tokens, atol=1e-3)
        # Copies of what is there change nothing: no prefix at all is the same as one of length 0.
        nothing = tower.layer(0, before, prefix=(keys[:, :0], values[:, :0]))
    assert torch.allclose(nothing.tokens, plain.tokens, atol=1e-5)


@pytest.mark.parametrize("wanted", WANTED, ids=str)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ALL)
def test_skipping_unused_outputs_changes_nothing(tiny_encoders, family, attention, wanted) -> None:
    tower = _tower(tiny_encoders, family, attention)
    results = []
    for skip in (False, True):
        tower.skip_unused = skip
        start = tower.embed(_inputs(family, padded=True))
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
    fork.layers[0].train()
    assert not tower.layers[0].training
    inputs = _inputs(family, padded=True)
    with torch.no_grad():
        assert torch.equal(_run(tower, inputs), _run(trained.eval(), inputs))


@pytest.mark.parametrize("family", ALL)
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
    inputs = _inputs(family, padded=True)
    assert torch.equal(_run(tower, inputs), _run(tower, inputs))


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_padding_never_changes_real_tokens(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    inputs = _inputs(family, padded=True)
    short = {name: value[2:3, :3] for name, value in inputs.items()}
    with torch.no_grad():
        assert torch.allclose(_run(tower, inputs)[2:3, :3], _run(tower, short), atol=1e-5)


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_takes_other_image_sizes(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    with torch.no_grad():
        small = tower.embed({"pixel_values": torch.zeros(1, 3, 16, 16)})
    assert small.tokens.shape[1] < tower.embed({"pixel_values": torch.zeros(1, 3, 32, 32)}).tokens.shape[1]
