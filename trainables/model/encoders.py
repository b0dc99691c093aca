"""The encoders of a model, found by name, and checked to be those that it was trained with."""

from __future__ import annotations

from pathlib import Path

from trainables.errors import UserError
from trainables.model.description import ModelDescription
from trainables.towers import EncoderSource


def find_encoder(description: ModelDescription, modality: str, folder: Path) -> EncoderSource:
    """Return the encoder of one of a model's modalities; its weights are not read.

    Args:
        description: The model.
        modality: The modality.
        folder: The model's folder.

    Raises:
        UserError: If there is no such encoder.
    """
    try:
        return description.inputs[modality].source(modality, folder)
    except UserError as error:
        raise UserError(f"model '{folder}': {error}") from error


def check_same(description: ModelDescription, modality: str, folder: Path, source: EncoderSource) -> None:
    """Check that an encoder is the one that a model was trained with.

    Args:
        description: The model.
        modality: The modality.
        folder: The model's folder.
        source: The encoder.

    Raises:
        UserError: If it is another one.
    """
    expected, found = description.inputs[modality].fingerprint, source.fingerprint()
    if found != expected:
        raise UserError(
            f"model '{folder}': {modality} encoder '{source.name}' is another one than the model was trained "
            f"with (fingerprint {found}, not {expected})"
        )
