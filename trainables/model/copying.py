"""Copies models, maybe with the encoders that they need."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from trainables.errors import UserError
from trainables.model.building import Parts
from trainables.model.description import ENCODERS, Input, ModelDescription, read_description
from trainables.model.encoders import check_same, find_encoder
from trainables.model.folder import check_weights, in_place_of, write_config
from trainables.towers import EncoderSource, load_tokenizer, load_tower
from trainables.towers.stated import FILE as POOLING

#: What is copied of an encoder's folder: settings and tokeniser, weights, and what its authors say of it.
_SETTINGS = (".json", ".txt", ".model")
_SAFE, _PICKLED = (".safetensors",), (".bin",)
_WORDS = ("LICENSE", "LICENCE", "NOTICE", "README")


def copy_model(source: Path, target: Path, *, standalone: bool = False) -> None:
    """Copy a model's folder, whole or not at all.

    Args:
        source: The model.
        target: The new folder.
        standalone: Whether the copy gets copies of its encoders, so that it loads on a machine that has
            neither them nor a connection to the hub. An encoder of which it reads nothing is copied without
            its weights.

    Raises:
        DiskFullError: If the disk has no space for it.
        UserError: If there is no whole model, if there is something in the new folder or it may not be
            written, or if an encoder is not there or is another one.
    """
    description = read_description(source)
    check_weights(source)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is there already; name a new folder")

    def write(made: Path) -> None:
        shutil.copytree(source, made)
        if standalone:
            used = Parts(description, source).modalities
            inputs = {
                modality: _with_copy(description, modality, source, made, weights=modality in used)
                for modality in description.inputs
            }
            write_config(made, replace(description, inputs=inputs))

    in_place_of(target, write)


def _with_copy(
    description: ModelDescription, modality: str, folder: Path, copy: Path, *, weights: bool
) -> Input:
    """Copy the encoder of one of a model's modalities, with its tokeniser or processing.

    Args:
        description: The model.
        modality: The modality.
        folder: The model's folder.
        copy: The folder of the model's copy.
        weights: Whether its weights are copied, too.

    Returns:
        What the copy of the model reads of the modality.

    Raises:
        UserError: If the encoder is not there, or is another one.
    """
    described = description.inputs[modality]
    source = find_encoder(description, modality, folder)
    if source.location is None or described.folder is not None:  # it has no files, or was copied before
        return described
    if weights:
        check_same(description, modality, folder, source)
    name = f"{ENCODERS}/{modality}"
    target = copy / name
    target.mkdir(parents=True)
    location = _local(source, weights)
    for file in _files(location, weights):
        shutil.copyfile(file, target / file.name)
    if (location / POOLING).is_file():
        (target / POOLING).parent.mkdir()
        shutil.copyfile(location / POOLING, target / POOLING)
    copied = replace(described, folder=name)
    if weights:  # that of an encoder of the hub is of its commit
        copied = replace(copied, fingerprint=copied.source(modality, copy).fingerprint())
    return copied


def _local(source: EncoderSource, weights: bool) -> Path:
    """Return the folder on this machine that holds an encoder's files; those of the hub are fetched."""
    assert source.location is not None
    if Path(source.location).is_dir():
        return Path(source.location)
    from transformers.utils import cached_file

    if weights:  # loading fetches what it needs
        load_tower(source)
        if source.kind == "text":
            load_tokenizer(source)
    config = cached_file(source.location, "config.json", revision=source.revision, local_files_only=True)
    return Path(str(config)).parent


def _files(folder: Path, weights: bool) -> Iterator[Path]:
    """Yield the files of an encoder's folder that a copy needs; pickled weights if there are no others."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    wanted: tuple[str, ...] = _SETTINGS
    if weights:
        wanted += _SAFE if any(path.suffix in _SAFE for path in files) else _PICKLED
    yield from (path for path in files if path.suffix in wanted or path.stem.upper() in _WORDS)
