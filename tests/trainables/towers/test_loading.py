"""Weights that do not come from the encoder's file, or cannot."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.errors import UserError
from trainables.notices import pending
from trainables.towers import check_encoder, load_tower, resolve_encoder

Weights = dict[str, Tensor]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 438000000\n"
LAYER = "encoder.layer.1."


@pytest.fixture
def bert(tiny_encoders: dict[str, Path], tmp_path: Path) -> Path:
    """The folder of an encoder with three layers and 53 weights, to be damaged."""
    return Path(shutil.copytree(tiny_encoders["bert"], tmp_path / "bert"))


def _rewrite(folder: Path, change: Callable[[Weights], Weights]) -> None:
    path = folder / "model.safetensors"
    save_file(
        {name: weight.clone() for name, weight in change(load_file(path)).items()}, path, {"format": "pt"}
    )


def _refusal(folder: Path, prefix: str = "") -> str:
    with pytest.raises(UserError) as refused:
        load_tower(resolve_encoder("text", f"{prefix}{folder}"))
    assert "\n" not in str(refused.value)
    return str(refused.value).replace(str(folder), "FOLDER")


def _cut(name: str, rows: int) -> Callable[[Weights], Weights]:
    return lambda weights: {**weights, name: weights[name][:rows]}


def _with(name: str, value: float) -> Callable[[Weights], Weights]:
    return lambda weights: {**weights, name: torch.full_like(weights[name], value)}


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (
            lambda weights: {f"module.encoder_q.{name}": weight for name, weight in weights.items()},
            "none of the weights of the family 'bert', such as 'embeddings.word_embeddings.weight', but for "
            "example 'module.encoder_q.embeddings.LayerNorm.bias'",
        ),
        (lambda weights: {}, "its file has none of the weights of the family 'bert'"),
        (
            lambda weights: {name: weight for name, weight in weights.items() if LAYER not in name},
            f"lacks 16 of the 53 weights that its config.json asks for, the first '{LAYER}attention.self.",
        ),
        (
            _cut("embeddings.word_embeddings.weight", 30),
            "'embeddings.word_embeddings.weight' is 30 x 32 in its file, and 64 x 32 by its config.json",
        ),
        (
            _with(f"{LAYER}output.dense.bias", float("nan")),
            f"'{LAYER}output.dense.bias' holds numbers that no trained weight has, nan to nan",
        ),
        (
            _with(f"{LAYER}output.dense.bias", float("inf")),
            "holds numbers that no trained weight has, inf to inf",
        ),
        (
            _with(f"{LAYER}output.dense.weight", 0.0),
            f"all numbers of '{LAYER}output.dense.weight' are 0; its file",
        ),
        (
            lambda weights: {name: (1e9 * weight).to(torch.int32) for name, weight in weights.items()},
            "holds numbers that no trained weight has",
        ),
    ],
    ids=["other names", "none", "a layer missing", "another shape", "nan", "inf", "zeros", "integers"],
)
def test_weights_that_do_not_fit_are_refused(bert, change, refusal) -> None:
    _rewrite(bert, change)
    assert refusal in _refusal(bert)


def _older(weights: Weights) -> Weights:
    """Return weights by the names that they have in the first files of BERT."""
    names = [n.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta") for n in weights]
    renamed = {f"bert.{name}": weight for name, weight in zip(names, weights.values(), strict=True)}
    heads = {"cls.predictions.bias": torch.zeros(64), "bert.pooler.dense.weight": torch.zeros(32, 32)}
    return {**renamed, **heads, "bert.embeddings.position_ids": torch.arange(40)[None]}


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [(_older, 0), (lambda weights: {name: weight.half() for name, weight in weights.items()}, 1e-2)],
    ids=["names of older files and heads", "half precision"],
)
def test_differences_without_an_effect_are_none(bert, change, tolerance) -> None:
    before = load_tower(resolve_encoder("text", str(bert))).state_dict()
    _rewrite(bert, change)
    for prefix in ("", "bow:"):
        after = load_tower(resolve_encoder("text", f"{prefix}{bert}")).state_dict()
        assert prefix or after.keys() == before.keys()
        for name, weight in after.items():
            known = before[name.replace("model.word", "model.embeddings.word")]
            assert weight.dtype == known.dtype
            assert torch.allclose(weight, known, atol=tolerance, rtol=0)


def test_layers_that_are_left_out_are_told(bert) -> None:
    pending()
    load_tower(resolve_encoder("text", str(bert)))
    assert not pending()
    path = bert / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": 2}))
    assert load_tower(resolve_encoder("text", str(bert))).depth == 2
    assert pending() == [
        f"encoder '{bert}': 16 weights of layers in its file are not used by its config.json, the first "
        "'encoder.layer.2.attention.output.LayerNorm.bias'"
    ]


def test_a_bag_of_words_needs_the_words_alone(bert) -> None:
    _rewrite(bert, lambda weights: {n: w for n, w in weights.items() if "word_embeddings" in n})
    assert load_tower(resolve_encoder("text", f"bow:{bert}")).width == 32
    _rewrite(bert, lambda weights: {f"other.{name}": weight for name, weight in weights.items()})
    assert "has none of the weights" in _refusal(bert, "bow:")


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def _flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:2] + bytes([content[2] ^ 0xFF]) + content[3:])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_text(POINTER), "is a Git LFS pointer and not the file: run `git lfs pull`"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (_cut_off, "is cut off or damaged (Error while deserializing header"),
        (_flip, "is cut off or damaged (Error while deserializing header"),
    ],
    ids=["pointer", "empty", "cut off", "flipped"],
)
def test_the_file_that_cannot_be_read_is_named(bert, damage, reason) -> None:
    damage(bert / "model.safetensors")
    for prefix in ("", "bow:"):
        found = _refusal(bert, prefix)
        assert found.startswith(
            f"encoder '{prefix}FOLDER': cannot load its weights (model.safetensors {reason}"
        )


def test_a_folder_without_weights_is_refused(bert) -> None:
    (bert / "model.safetensors").unlink()
    assert "cannot load its weights (Error no file named model.safetensors" in _refusal(bert)


@pytest.fixture
def shards(bert: Path) -> Path:
    """The folder of the encoder, with its weights in several files."""
    model: Any = load_tower(resolve_encoder("text", str(bert))).model
    (bert / "model.safetensors").unlink()
    model.save_pretrained(bert, max_shard_size="40KB")
    return bert


def test_a_shard_is_not_left_out(shards) -> None:
    assert load_tower(resolve_encoder("text", str(shards))).depth == 3
    index = shards / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    shard = shards / content["weight_map"][f"{LAYER}output.dense.weight"]
    kept = {name: file for name, file in content["weight_map"].items() if file != shard.name}
    index.write_text(json.dumps({**content, "weight_map": kept}))
    assert re.search("its file lacks .* of the 53 weights", _refusal(shards))
    index.write_text(json.dumps(content))
    shard.unlink()
    assert f"cannot load its weights (No such file or directory: FOLDER/{shard.name}" in _refusal(shards)
    for broken in ("{}", "[]", "{"):
        index.write_text(broken)
        assert "cannot load its weights (" in _refusal(shards)
    shard.write_text(POINTER)
    index.write_text(json.dumps(content))
    assert f"cannot load its weights ({shard.name} is a Git LFS pointer" in _refusal(shards)


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (lambda weights: {"state_dict": weights, "epoch": 3}, "has none of the weights"),
        (
            lambda weights: {name: weight.tolist() for name, weight in weights.items()},
            "cannot load its weights (",
        ),
        (lambda weights: list(weights.values()), "cannot load its weights ("),
        (lambda weights: 3, "cannot load its weights ("),
        (
            lambda weights: {name: w.numpy() for name, w in weights.items()},
            "pickled with objects that would run",
        ),
    ],
    ids=["nested", "lists", "a list", "a number", "arrays"],
)
def test_pickled_weights_are_tensors_by_name(bert, content, refusal) -> None:
    weights = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    torch.save(content(weights), bert / "pytorch_model.bin")
    assert refusal in _refusal(bert)


@pytest.mark.parametrize("content", [POINTER, "", "no weights"], ids=["pointer", "empty", "text"])
def test_what_is_no_pickle_is_not_taken_for_one(bert, content) -> None:
    (bert / "model.safetensors").unlink()
    (bert / "pytorch_model.bin").write_text(content)
    assert "cannot load its weights (" in _refusal(bert)
    assert ("Git LFS pointer" in _refusal(bert)) == (content == POINTER)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"hidden_dropout_prob": -1.0}, "dropout probability has to be between"),
        ({"hidden_size": -32}, "its settings make no model"),
        ({"hidden_act": "none"}, "its settings make no model"),
        ({"pad_token_id": 99}, "Padding_idx must be within num_embeddings"),
    ],
)
def test_settings_that_make_no_model_are_named(bert, values, reason) -> None:
    path = bert / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(UserError, match=reason):
        load_tower(resolve_encoder("text", str(bert)), weights=False)
    with pytest.raises(UserError, match=f"encoder '{bert}': "):
        check_encoder(resolve_encoder("text", str(bert)))
