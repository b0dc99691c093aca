"""Encoders of somebody else: nothing that comes with them is run."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.errors import UserError
from trainables.towers import load_tokenizer, load_tower, resolve_encoder

CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import BertConfig, BertModel, BertTokenizerFast
class Config(BertConfig):
    model_type = "theirs"
class Model(BertModel):
    config_class = Config
class Tokenizer(BertTokenizerFast): ...
"""


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that code of an encoder would write; whoever is asked says yes."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "was run"


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def folder(tiny_encoders: dict[str, Path], tmp_path: Path, marker: Path) -> Path:
    """A text encoder of a supported family that names code of its own, too."""
    folder = shutil.copytree(tiny_encoders["bert"], tmp_path / "theirs")
    (folder / "code_of_theirs.py").write_text(CODE.format(marker=str(marker)))
    named = {"AutoConfig": "code_of_theirs.Config", "AutoModel": "code_of_theirs.Model"}
    _edit(folder / "config.json", auto_map=named)
    return folder


def test_a_family_that_is_known_is_loaded_without_its_code(folder, marker) -> None:
    for name in (str(folder), f"bow:{folder}"):
        assert load_tower(resolve_encoder("text", name)).width
    assert not marker.exists()


@pytest.mark.parametrize("prefix", ["", "bow:"])
def test_a_family_of_its_own_is_refused_and_not_run(folder, marker, prefix) -> None:
    _edit(folder / "config.json", model_type="theirs")
    with pytest.raises(UserError, match=f"^encoder '{folder}': comes with code of its own, which is never"):
        resolve_encoder("text", f"{prefix}{folder}")
    assert not marker.exists()


@pytest.mark.parametrize("complete", [True, False])
def test_the_code_of_a_tokeniser_is_not_run(folder, marker, complete) -> None:
    named = {"AutoTokenizer": ["code_of_theirs.Tokenizer", "code_of_theirs.Tokenizer"]}
    _edit(folder / "tokenizer_config.json", tokenizer_class="Theirs", auto_map=named)
    encoder = resolve_encoder("text", str(folder))
    if complete:
        assert load_tokenizer(encoder)("a")["input_ids"]
    else:
        (folder / "tokenizer.json").unlink()
        with pytest.raises(UserError, match="comes without a tokeniser that can be loaded"):
            load_tokenizer(encoder)
    assert not marker.exists()


class _Marks:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("prefix", ["", "bow:"])
def test_pickled_weights_are_loaded_only_as_numbers(folder, marker, prefix) -> None:
    tower = load_tower(resolve_encoder("text", str(folder)))
    weights = tower.model.state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert load_tower(resolve_encoder("text", f"{prefix}{folder}")).width
    torch.save({**weights, "more": _Marks(marker)}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="its weights are pickled with objects that would run code"):
        load_tower(resolve_encoder("text", f"{prefix}{folder}"))
    assert not marker.exists()
