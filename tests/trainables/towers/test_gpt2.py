"""What is special about a causal encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from tests.trainables.data.test_source import columns, write_dataset
from trainables.data import open_dataset, prepare
from trainables.testing.tiny import random_inputs, tiny_model
from trainables.towers import InputSizes, Sequence, load_tower, resolve_encoder
from trainables.towers.gpt2 import GPT2Tower


@pytest.fixture
def tower() -> GPT2Tower:
    return GPT2Tower("text", tiny_model("gpt2"))


@pytest.fixture
def sequence() -> Sequence:
    torch.manual_seed(0)
    tokens, prompts = torch.randn(2, 6, 32), torch.randn(2, 3, 32)
    return Sequence(tokens, torch.ones(2, 6, dtype=torch.bool), 0, prompts)


def _changed(before: Sequence, after: Sequence) -> tuple[list[bool], list[bool]]:
    """Return which tokens and which prompts differ."""
    assert before.prompts is not None
    assert after.prompts is not None
    pairs = ((before.tokens, after.tokens), (before.prompts, after.prompts))
    tokens, prompts = ([not torch.allclose(a, b) for a, b in zip(x[0], y[0], strict=True)] for x, y in pairs)
    return tokens, prompts


@pytest.mark.parametrize("prefix", [0, 2])
def test_a_position_sees_those_before_it_and_prompts_stand_in_front(tower, sequence, prefix) -> None:
    far = (torch.randn(2, prefix, 32), torch.randn(2, prefix, 32)) if prefix else None
    before = tower.layer(0, sequence, prefix_tokens=far)
    tokens = sequence.tokens.clone()
    tokens[:, 3] = torch.randn(2, 32)
    after = tower.layer(0, replace(sequence, tokens=tokens), prefix_tokens=far)
    assert _changed(before, after) == ([False] * 3 + [True] * 3, [False] * 3)
    prompts = sequence.prompts.clone()
    prompts[:, 1] = torch.randn(2, 32)
    after = tower.layer(0, replace(sequence, prompts=prompts), prefix_tokens=far)
    assert _changed(before, after) == ([True] * 6, [False, True, True])


def test_pools_the_last_real_token(tower) -> None:
    tokens = torch.arange(12.0).reshape(3, 4, 1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    assert tower.pool(Sequence(tokens, mask, 3)).flatten().tolist() == [3, 5, 8]
    assert tower.pool(Sequence(tokens, None, 3)).flatten().tolist() == [3, 7, 11]


def test_checkpoints_that_scale_attention_otherwise() -> None:
    settings = {"vocab_size": 64, "n_positions": 40, "n_embd": 32, "n_layer": 3, "n_head": 4}
    model = GPT2Model(
        GPT2Config(
            **settings, scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True, initializer_range=0.2
        )
    )
    tower = GPT2Tower("text", model)
    start = tower.embed(random_inputs(tower, 3, torch.Generator().manual_seed(0)))
    plain = tower.layer(2, start, tokens=slice(2, 4))
    tower.skip_unused = True
    assert torch.allclose(tower.layer(2, start, tokens=slice(2, 4)).tokens, plain.tokens, atol=1e-5)


def test_loads_a_language_model(tmp_path: Path) -> None:
    model = tiny_model("gpt2")
    whole = GPT2LMHeadModel(model.config)
    whole.transformer = model
    whole.save_pretrained(tmp_path)
    loaded = load_tower(resolve_encoder("text", str(tmp_path)))
    assert all(torch.equal(p, model.state_dict()[n]) for n, p in loaded.model.state_dict().items())


@pytest.mark.usefixtures("workplace")
def test_texts_are_padded_behind_with_the_end_token(tmp_path: Path, tiny_encoders) -> None:
    end, red, green = 3, 5, 6
    folder = write_dataset(
        tmp_path / "data", train=columns(3, text=["red green", None, "red red red red green"])
    )
    encoder = resolve_encoder("text", str(tiny_encoders["gpt2"]))
    data = prepare(open_dataset(str(folder)), {"text": encoder}, InputSizes(text_length=4, image_size=8))
    texts = data.split("train").inputs("text", torch.arange(3))
    assert texts["input_ids"].tolist() == [[red, green, end, end], [end] * 4, [red] * 4]
    # An empty text is one token long, not none
    assert texts["attention_mask"].sum(dim=1).tolist() == [2, 1, 4]
