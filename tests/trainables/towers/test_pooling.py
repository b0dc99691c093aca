"""How an encoder's vector is read: as its files state, as the user asks, or as its family is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.trainables.towers.test_bundled import needs_minilm
from trainables.errors import UserError
from trainables.towers import load_tower, resolve_encoder, resolve_encoders


@pytest.fixture
def folder(tiny_encoders, tmp_path) -> Path:
    """A text encoder to whose folder a test adds what sentence-transformers writes."""
    return Path(shutil.copytree(tiny_encoders["bert"], tmp_path / "encoder"))


def _state(folder: Path, content: Any) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(content))


def _switches(*on: str) -> dict[str, Any]:
    ways = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken")
    switches = {f"pooling_mode_{way}": way in on for way in ways}
    return {"word_embedding_dimension": 32, **switches, "include_prompt": True}


STATED = [
    (_switches("cls_token"), "cls"),
    (_switches("mean_tokens"), "mean"),
    (_switches("max_tokens"), "max"),
    (_switches("lasttoken"), "last"),
    ({"embedding_dimension": 32, "pooling_mode": "cls"}, "cls"),
    ({"embedding_dimension": 32, "pooling_mode": "mean"}, "mean"),
    ({"embedding_dimension": 32, "pooling_mode": "lasttoken"}, "last"),
    ({"embedding_dimension": 32, "pooling_mode": ["max"]}, "max"),
]


@pytest.mark.parametrize(("content", "pooling"), STATED)
def test_an_encoder_is_read_as_its_folder_states(folder, content, pooling) -> None:
    _state(folder, content)
    source = resolve_encoder("text", str(folder))
    assert source.pooling == load_tower(source).pooling == pooling
    assert resolve_encoder("text", str(folder), "last").pooling == "last"
    assert resolve_encoder("text", f"bow:{folder}").pooling == "mean", "of the words, whatever is stated"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_switches("mean_sqrt_len_tokens"), "mean_sqrt_len_tokens"),
        (_switches("mean_tokens", "max_tokens"), "mean_tokens and max_tokens"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode": ["cls", "mean"]}, "cls and mean"),
        (_switches(), "no pooling that could be read"),
        ([1], "no pooling that could be read"),
    ],
)
def test_what_is_not_supported_is_said_in_a_line(folder, capsys, content, words) -> None:
    _state(folder, content)
    assert resolve_encoder("text", str(folder)).pooling == "cls"
    said = f"encoder '{folder}': 1_Pooling/config.json states {words}, which is not supported; cls is taken\n"
    assert capsys.readouterr().err == said


def test_what_the_family_does_not_take_is_not_supported(tiny_encoders, tmp_path, capsys) -> None:
    folder = Path(shutil.copytree(tiny_encoders["gpt2"], tmp_path / "gpt2"))
    _state(folder, _switches("cls_token"))
    assert resolve_encoder("text", str(folder)).pooling == "last"
    assert "states cls_token, which is not supported; last is taken" in capsys.readouterr().err


def test_a_repository_in_the_local_cache_is_read_as_it_states(folder, tmp_path, monkeypatch) -> None:
    commit = "0" * 40
    repository = tmp_path / "hub" / "models--somebody--encoder"
    _state(folder, _switches("mean_tokens"))
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    source = resolve_encoder("text", "somebody/encoder")
    assert (source.location, source.pooling) == ("somebody/encoder", "mean")
    shutil.rmtree(repository / "snapshots" / commit / "1_Pooling")
    assert resolve_encoder("text", "somebody/encoder").pooling == "cls"


@needs_minilm
def test_minilm_is_read_at_the_mean() -> None:
    assert resolve_encoder("text", "minilm").pooling == "mean"


def test_cached_features_and_prepared_data_serve_every_pooling(folder) -> None:
    before = resolve_encoder("text", str(folder)).fingerprint()
    _state(folder, _switches("mean_tokens"))
    for pooling in (None, "max"):
        assert resolve_encoder("text", str(folder), pooling).fingerprint() == before


def test_refuses_a_pooling_of_no_modality(tiny_encoders) -> None:
    names = {"text": str(tiny_encoders["bert"]), "image": str(tiny_encoders["vit"])}
    found = resolve_encoders(names, {"image": "mean"})
    assert {m: source.pooling for m, source in found.items()} == {"text": "cls", "image": "mean"}
    with pytest.raises(UserError, match="--pooling audio=mean: no encoder of that modality; there are: text"):
        resolve_encoders(names, {"audio": "mean"})
