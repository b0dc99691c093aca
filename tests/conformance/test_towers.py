"""What every tower must satisfy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import IMAGE_FAMILIES, TEXT_FAMILIES
from trainables.towers import FAMILIES, Tower, load_tower, resolve_encoder

ALL = [*TEXT_FAMILIES, *IMAGE_FAMILIES]


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
def test_added_tokens_are_seen_and_can_be_dropped(tiny_encoders, family) -> None:
    tower = _tower(tiny_encoders, family)
    with torch.no_grad():
        before = tower.embed(_inputs(family, padded=True))
        length = before.tokens.shape[1]
        after = tower.layer(0, before.append(torch.ones(3, 2, tower.width)), slice(0, length))
        plain = tower.layer(0, before)
    assert after.tokens.shape == plain.tokens.shape
    assert after.mask is None or after.mask.shape == plain.mask.shape
    assert not torch.allclose(after.tokens, plain.tokens)


@pytest.mark.parametrize("keep", [slice(0, 1), slice(-2, None), slice(0, 4)])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ALL)
def test_skipping_unused_outputs_changes_nothing(tiny_encoders, family, attention, keep) -> None:
    tower = _tower(tiny_encoders, family, attention)
    results = []
    for skip in (False, True):
        tower.skip_unused = skip
        start = tower.embed(_inputs(family, padded=True))
        prompt = torch.randn(3, 2, tower.width, generator=torch.Generator().manual_seed(3))
        prompt.requires_grad_()
        out = tower.layer(1, start.append(prompt), keep)
        (out.tokens**2).sum().backward()
        results.append((out, prompt.grad))
    (plain, plain_gradient), (skipped, skipped_gradient) = results
    assert torch.allclose(plain.tokens, skipped.tokens, atol=1e-5)
    assert torch.allclose(plain_gradient, skipped_gradient, rtol=1e-3, atol=1e-4)
    assert plain.mask is None or torch.equal(plain.mask, skipped.mask)
    assert plain.layer == skipped.layer == 2


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
