"""Encoders in folders whose files are damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from trainables.errors import UserError
from trainables.towers import load_tower, resolve_encoder


@pytest.fixture
def bert(tiny_encoders, tmp_path) -> Path:
    """The folder of an encoder, to be damaged."""
    return Path(shutil.copytree(tiny_encoders["bert"], tmp_path / "bert"))


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_file_that_cannot_be_read_is_named(bert) -> None:
    (bert / "model.safetensors").unlink()
    (bert / "model.safetensors").mkdir()
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        resolve_encoder("text", str(bert)).fingerprint()


def test_settings_that_make_no_model_are_named(bert) -> None:
    _change(bert / "config.json", hidden_dropout_prob=-1.0)
    with pytest.raises(UserError, match=r"its settings make no model .dropout probability has to be between"):
        load_tower(resolve_encoder("text", str(bert)), weights=False)


def test_an_encoder_that_is_moved_is_the_same(tiny_encoders, tmp_path) -> None:
    for family, modality in (("bert", "text"), ("vit", "image")):
        moved = tmp_path / family
        shutil.copytree(tiny_encoders[family], moved)
        before = resolve_encoder(modality, str(tiny_encoders[family])).fingerprint()
        assert resolve_encoder(modality, str(moved)).fingerprint() == before
        (moved / "config.json").write_text(
            (moved / "config.json").read_text().replace('"hidden_act": "gelu"', '"hidden_act": "relu"')
        )
        assert resolve_encoder(modality, str(moved)).fingerprint() != before
