"""An encoder of the hub is that of one commit, whatever its name stands for later."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from trainables.errors import UserError
from trainables.towers import load_tokenizer, load_tower, resolve_encoder

OLD, NEW = "1" * 40, "2" * 40


@pytest.fixture
def hub(tiny_encoders, tmp_path, monkeypatch) -> Path:
    """A local copy of a repository with two commits: another encoder has taken the name of the first."""
    repository = tmp_path / "hub" / "models--somebody--encoder"
    shutil.copytree(tiny_encoders["bert"], repository / "snapshots" / OLD)
    shutil.copytree(tiny_encoders["gpt2"], repository / "snapshots" / NEW)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(NEW)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return repository


def test_a_revision_is_loaded_whole(hub, tiny_encoders) -> None:
    newest = resolve_encoder("text", "somebody/encoder")
    assert (newest.revision, newest.config.model_type) == (NEW, "gpt2")
    source = resolve_encoder("text", "somebody/encoder", revision=OLD)
    assert (source.revision, source.config.model_type) == (OLD, "bert")
    assert source.fingerprint() != newest.fingerprint()
    stored = load_tower(resolve_encoder("text", str(tiny_encoders["bert"]))).state_dict()
    loaded = load_tower(source).state_dict()
    assert all(torch.equal(weight, stored[name]) for name, weight in loaded.items())
    assert load_tokenizer(source)("")["input_ids"] == [2, 3]  # [CLS] and [SEP], which GPT-2's does not add


def test_word_embeddings_are_those_of_the_revision(hub) -> None:
    old = resolve_encoder("text", "bow:somebody/encoder", revision=OLD)
    assert old.revision == OLD
    assert old.fingerprint() != resolve_encoder("text", "bow:somebody/encoder").fingerprint()
    assert load_tower(old).width == 32


def test_what_is_not_of_the_hub_has_no_revision(tiny_encoders) -> None:
    assert resolve_encoder("text", str(tiny_encoders["bert"]), revision=OLD).revision is None


def test_a_revision_that_is_not_there_is_refused(hub) -> None:
    with pytest.raises(UserError, match="no hub name that can be loaded"):
        resolve_encoder("text", "somebody/encoder", revision="3" * 40)
