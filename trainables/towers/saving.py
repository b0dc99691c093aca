"""Writes an encoder with other weights as a folder, which can be named as an encoder like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from trainables.errors import UserError
from trainables.towers.loading import load_model
from trainables.towers.processing import processing_files
from trainables.towers.source import EncoderSource
from trainables.towers.stated import FILE, stating


def save_encoder(source: EncoderSource, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write an encoder with trained weights, its tokeniser or processing, and its pooling.

    The folder is in Hugging Face's layout: ``resolve_encoder(modality, str(folder))`` takes it.

    Args:
        source: The encoder from which training began.
        weights: The trained weights by their names in the tower; the others stay.
        folder: The folder to write; it does not exist yet.

    Raises:
        UserError: If the encoder is the word embeddings of another one (``bow:NAME``).
    """
    model: Any
    model, tower = load_model(source)
    if not hasattr(model, "save_pretrained"):
        raise UserError(f"encoder '{source.name}' is a part of an encoder, and cannot be saved on its own")
    # The tower has the model's own weights, maybe under other names
    foreign = tower.load_state_dict(dict(weights), strict=False).unexpected_keys
    assert not foreign, f"no weights of encoder '{source.name}': {foreign[:3]}"
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    _copy_processing(source, folder)
    stated = folder / FILE
    stated.parent.mkdir()
    stated.write_text(json.dumps(stating(source.pooling), indent=1))


def _copy_processing(source: EncoderSource, folder: Path) -> None:
    """Write into a folder what turns texts, images or sounds into the encoder's inputs."""
    from transformers import AutoTokenizer

    if source.location is None:
        return
    if source.family.kind == "text":
        tokenizer = AutoTokenizer.from_pretrained(
            source.location, trust_remote_code=False, revision=source.revision or "main"
        )
        tokenizer.save_pretrained(folder)
        return
    for path in processing_files(source.location, source.revision):
        shutil.copyfile(path, folder / path.name)
