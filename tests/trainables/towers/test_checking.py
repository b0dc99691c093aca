"""What is checked of an encoder before anything is done with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.trainables.towers.test_bundled import needs_dinov2, needs_minilm
from trainables.errors import UserError
from trainables.testing.tiny import RANDOM, encoder_name
from trainables.towers import FAMILIES, check_encoder, resolve_encoder


@pytest.mark.parametrize("family", [*FAMILIES, RANDOM])
def test_every_family_passes(tiny_encoders, family) -> None:
    kind = "features" if family == RANDOM else FAMILIES[family].kind
    check_encoder(resolve_encoder(kind, encoder_name(tiny_encoders, family)))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param("text", "minilm", marks=needs_minilm),
        pytest.param("image", "dinov2-small", marks=needs_dinov2),
    ],
)
def test_the_bundled_ones_pass(kind, name) -> None:
    check_encoder(resolve_encoder(kind, name))


def test_an_architecture_has_no_weights(tiny_encoders) -> None:
    with pytest.raises(UserError, match="is an architecture without weights"):
        check_encoder(resolve_encoder("image", "arch:vit-base"))


def _changed(folder: Path, target: Path, **values: Any) -> str:
    shutil.copytree(folder, target)
    path = target / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return str(target)


@pytest.mark.parametrize("prefix", ["", "bow:"])
def test_settings_of_absurd_sizes_take_no_memory(tiny_encoders, tmp_path, prefix) -> None:
    folder = _changed(tiny_encoders["bert"], tmp_path / "bert", vocab_size=10**12)
    with pytest.raises(UserError, match=r"weight' is 64 x 32 in its file, and 1000000000000 x 32 by"):
        check_encoder(resolve_encoder("text", f"{prefix}{folder}"))


def test_a_setting_that_the_tower_does_not_know_is_noticed(tiny_encoders, tmp_path) -> None:
    causal = _changed(tiny_encoders["bert"], tmp_path / "bert", is_decoder=True)
    with pytest.raises(UserError, match=r"its config.json has a setting that is not supported: run layer by"):
        check_encoder(resolve_encoder("text", causal))


def test_a_model_that_cannot_be_run_is_one_line(tiny_encoders, tmp_path) -> None:
    without = _changed(tiny_encoders["roberta"], tmp_path / "roberta", pad_token_id=None)
    with pytest.raises(UserError, match=f"encoder '{without}': cannot be run"):
        check_encoder(resolve_encoder("text", without))
