"""Swin: windows, shifts, patch merging, and prompts among them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from trainables.testing.tiny import tiny_model
from trainables.towers import NONE, InputSizes, Sequence, Tower, load_tower, resolve_encoder
from trainables.towers.swin import SwinTower


def _tower(image_size: int = 32, attention: str = "eager", pooling: bool = False, **settings: Any) -> Tower:
    """A tower whose relative position bias is not zero, as it is in a fresh model."""
    import transformers as hf

    torch.manual_seed(0)
    defaults = {"embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4}
    config = hf.SwinConfig(
        image_size=image_size, patch_size=4, initializer_range=0.1, **{**defaults, **settings}
    )
    config._attn_implementation = attention
    model = hf.SwinModel(config, add_pooling_layer=pooling)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias_table"):
                parameter.normal_()
    return SwinTower("image", model)


def _random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _pixels(side: int) -> dict[str, torch.Tensor]:
    return {"pixel_values": _random(2, 3, side, side)}


def _run(tower: Tower, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return tower.finish(tower.encode(inputs, tower.depth)).tokens


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    ("image_size", "window"),
    [(32, 4), (32, 3), (36, 3), (52, 3), (52, 5)],
    ids=["even", "padded windows", "odd map", "odd maps", "padded and odd"],
)
def test_equals_the_library_with_and_without_its_blocks(image_size, window, attention) -> None:
    tower = _tower(image_size, attention, window_size=window)
    inputs = _pixels(image_size)
    with torch.no_grad():
        theirs = tower.model(**inputs).last_hidden_state
        sequence = tower.embed(inputs)
        for index in range(tower.depth):
            nothing = torch.zeros(2, 0, tower.layer_width(index))
            sequence = tower.layer(index, sequence, prefix_tokens=(nothing, nothing))
    assert (tower.finish(sequence).tokens - theirs).abs().max() < 1e-5
    assert (_run(tower, inputs) - theirs).abs().max() < 1e-5


def test_drops_what_the_library_drops() -> None:
    rates = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2, "drop_path_rate": 0.5}
    tower = _tower(window_size=3, **rates)
    start = replace(tower.embed(_pixels(32)), layer=1)
    nothing = torch.zeros(2, 0, tower.layer_width(1))
    results = []
    for prefix in (None, None, (nothing, nothing)):
        torch.manual_seed(len(results) > 0)
        results.append(tower.train().layer(1, start, prefix_tokens=prefix).tokens)
    assert not torch.allclose(results[0], results[1], atol=1e-3)
    assert torch.allclose(results[1], results[2], atol=1e-5)


def test_pools_like_the_library() -> None:
    tower = _tower(pooling=True)
    with torch.no_grad():
        theirs = tower.model(**_pixels(32)).pooler_output
        assert torch.allclose(tower.pooled(_pixels(32)), theirs, atol=1e-5)


def test_a_small_image_does_not_change_what_larger_ones_give() -> None:
    tower, inputs = _tower(), _pixels(32)
    before = _run(tower, inputs)
    assert _run(tower, _pixels(16)).shape == (2, 4, 48)
    assert torch.equal(_run(tower, inputs), before)


def test_a_map_smaller_than_a_window_is_one_window() -> None:
    """The same as a model whose windows are as small as the map and that knows the same distances."""
    large = _tower(16, depths=(2,), num_heads=(2,), window_size=7)
    small = _tower(16, depths=(2,), num_heads=(2,), window_size=4)
    state = large.model.state_dict()
    for name, table in state.items():
        if name.endswith("bias_table"):
            # Distances -6 to 6, of which a window of 4 has -3 to 3
            state[name] = table.unflatten(0, (13, 13))[3:10, 3:10].flatten(0, 1)
    small.model.load_state_dict(state)
    assert torch.allclose(_run(large, _pixels(16)), _run(small, _pixels(16)), atol=1e-6)


def test_counts_tokens_and_widths_of_every_layer() -> None:
    tower = _tower(52, depths=(2, 1, 2), num_heads=(2, 4, 8))
    with torch.no_grad():
        sequences = [tower.encode(_pixels(52), layer) for layer in range(tower.depth + 1)]
    counts = [tower.token_count(layer, InputSizes(image_size=52)) for layer in range(tower.depth + 1)]
    # Merging starts the next stage: it is not part of the last block's output
    assert counts == [169, 169, 169, 49, 16, 16]
    assert [sequence.tokens.shape[1] for sequence in sequences] == counts
    assert [tower.layer_width(layer) for layer in range(tower.depth)] == [24, 24, 48, 96, 96]
    assert [sequence.tokens.shape[2] for sequence in sequences[1:]] == [24, 24, 48, 96, 96]
    assert tower.width == 96
    with pytest.raises(IndexError, match="5 layers, no layer 5"):
        tower.layer_width(5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_prompts_stand_in_every_window_and_are_averaged_over_them(attention) -> None:
    """A block over four windows does to each what it does to a map that is this window alone."""
    tower = _tower(attention=attention)
    # Without feed-forward network the mean over the windows is that of the block's outputs.
    torch.nn.init.zeros_(tower.layers[0].mlp.fc2.weight)
    grid, prompts = _random(2, 8, 8, 24), _random(2, 3, 24, seed=2)
    with torch.no_grad():
        whole = tower.layer(0, Sequence(grid.flatten(1, 2), None, 0, prompts))
        parts = [
            tower.layer(0, Sequence(grid[:, i : i + 4, j : j + 4].flatten(1, 2), None, 0, prompts))
            for i in (0, 4)
            for j in (0, 4)
        ]
    tokens = whole.tokens.unflatten(1, (8, 8))
    windows = [tokens[:, i : i + 4, j : j + 4].flatten(1, 2) for i in (0, 4) for j in (0, 4)]
    for window, part in zip(windows, parts, strict=True):
        assert torch.allclose(window, part.tokens, atol=1e-5)
    mean = torch.stack([part.prompts for part in parts]).mean(dim=0)
    assert torch.allclose(whole.prompts, mean, atol=1e-5)
    assert not torch.allclose(parts[0].prompts, parts[1].prompts, atol=1e-3)


def test_prompts_are_seen_in_shifted_windows() -> None:
    tower = _tower()
    grid, prompts = _random(2, 8, 8, 24), _random(2, 3, 24, seed=2)
    with torch.no_grad():
        whole = tower.layer(1, Sequence(grid.flatten(1, 2), None, 1, prompts))
        # Shifted by two, one window covers rows and columns 2 to 5.
        part = tower.layer(1, Sequence(grid[:, 2:6, 2:6].flatten(1, 2), None, 1, prompts))
    assert torch.allclose(
        whole.tokens.unflatten(1, (8, 8))[:, 2:6, 2:6].flatten(1, 2), part.tokens, atol=1e-5
    )


def test_a_prefix_is_seen_in_every_window() -> None:
    tower = _tower()
    start = Sequence(_random(2, 64, 24), None, 0)
    prefix = (_random(2, 3, 24, seed=2), _random(2, 3, 24, seed=3))
    with torch.no_grad():
        plain = tower.layer(0, start)
        difference = (
            (tower.layer(0, start, prefix_tokens=prefix).tokens - plain.tokens).abs().amax(dim=(0, 2))
        )
    assert difference.min() > 1e-3


def test_blind_prompts_see_one_another_and_the_prefix_only() -> None:
    tower = _tower()
    one = Sequence(_random(2, 64, 24), None, 0, _random(2, 3, 24, seed=2))
    other = replace(one, tokens=_random(2, 64, 24, seed=5))
    prefix = (_random(2, 3, 24, seed=3), _random(2, 3, 24, seed=4))
    with torch.no_grad():
        both = [tower.layer(0, s, blind=slice(1, None), prefix_tokens=prefix).prompts for s in (one, other)]
        without = tower.layer(0, one, blind=slice(1, None)).prompts
    assert torch.allclose(both[0][:, 1:], both[1][:, 1:], atol=1e-6)
    assert not torch.allclose(both[0][:, :1], both[1][:, :1], atol=1e-3)
    assert not torch.allclose(both[0][:, 1:], without[:, 1:], atol=1e-3)


def test_prompts_left_over_from_the_stage_before_are_merged_with_themselves() -> None:
    tower = _tower()
    old = _random(2, 3, 24, seed=2)
    merging = tower.model.encoder.layers[0].downsample
    with torch.no_grad():
        start = tower.encode(_pixels(32), 2)
        # A map of 2 x 2 equal patches for each prompt
        new = merging(old.flatten(0, 1)[:, None].repeat(1, 4, 1), (2, 2)).unflatten(0, (2, 3))[:, :, 0]
        left_over = tower.layer(2, start.prompted(old))
        added = tower.layer(2, start.prompted(new))
    assert left_over.prompts.shape == (2, 3, 48)
    assert torch.allclose(left_over.prompts, added.prompts, atol=1e-5)
    assert torch.allclose(left_over.tokens, added.tokens, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_everything_trains_in_a_trained_fork(attention) -> None:
    # Blocks of the second stage see a map of 4 x 4 in windows of 3
    tower = _tower(attention=attention, window_size=3).fork(trained=True)
    tower.pooled(_pixels(32)).square().mean().backward()
    assert all(p.grad is not None for p in tower.parameters())
    tower.zero_grad()
    sequence = tower.embed(_pixels(32))
    for index in range(tower.depth):
        sequence = tower.layer(
            index, sequence.prompted(_random(2, 2, tower.layer_width(index))), prompts=NONE
        )
    tower.pooled(sequence).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tower.parameters())


def test_the_tiny_model_of_the_conformance_suite_pads_and_shifts() -> None:
    config = tiny_model("swin").config
    sides = [config.image_size // config.patch_size // 2**stage for stage in range(len(config.depths))]
    assert all(side > config.window_size and side % config.window_size for side in sides)


@pytest.mark.parametrize(("name", "size"), [("swin-tiny", 27_519_354), ("swin-base", 86_743_224)])
def test_architectures_have_the_released_models_size(name, size) -> None:
    """The released models' 28,288,354 and 87,768,224 less their classifiers of 1,000 classes."""
    source = resolve_encoder("image", f"arch:{name}")
    with FakeTensorMode():
        tower = load_tower(source, weights=False)
    assert sum(p.numel() for p in tower.parameters()) == size
    assert (source.depth, source.width) == (tower.depth, tower.width)
    assert [tower.token_count(layer, InputSizes()) for layer in (0, 2, 3, tower.depth)] == [
        3136,
        3136,
        784,
        49,
    ]
