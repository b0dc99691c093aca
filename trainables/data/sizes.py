"""What a dataset's modalities suggest: their encoders, and the sizes of a sample's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainables.data.kinds import typical_text_length
from trainables.data.kinds.features import column_facts
from trainables.data.source import Dataset
from trainables.errors import UserError
from trainables.towers import FEATURES_PREFIX, EncoderSource, InputSizes

#: The most vectors that a new encoder of extracted features takes by default; longer sequences are cut.
_MOST_VECTORS = 512


def default_encoders(
    dataset: Dataset, modalities: Sequence[str], named: Mapping[str, str], by_kind: Mapping[str, str]
) -> dict[str, str]:
    """Return the name of each modality's encoder.

    Args:
        dataset: The dataset.
        modalities: The modalities to use; none means all.
        named: Names of encoders by modality.
        by_kind: Names of the encoders for modalities that are not named, by kind. Extracted features get a
            new encoder that has the size of their vectors.

    Raises:
        UserError: If the dataset lacks a modality, or if a modality has no encoder.
    """
    dataset.require((*modalities, *named))
    found = {}
    for modality, where in dataset.modalities.items():
        if modalities and modality not in modalities:
            continue
        if modality in named:
            found[modality] = named[modality]
        elif where.kind in by_kind:
            found[modality] = by_kind[where.kind]
        elif where.kind == "features":
            facts = column_facts(dataset, modality)
            length = min(facts["length"], _MOST_VECTORS)
            found[modality] = f"{FEATURES_PREFIX}dim={len(facts['mean'])},max_length={length}"
        else:
            raise UserError(
                f"dataset '{dataset.name}': modality '{modality}' needs an encoder of {where.kind}: give "
                f"--encoder {modality}=NAME, or leave it out with --modalities"
            )
    return found


def input_sizes(
    dataset: Dataset,
    encoders: Mapping[str, EncoderSource],
    *,
    text_length: int | None = None,
    image_size: int | None = None,
    audio_seconds: float | None = None,
    feature_length: int | None = None,
) -> InputSizes:
    """Return the sizes of a sample's inputs: what is given, or else what suits the data and the encoders.

    Args:
        dataset: The dataset.
        encoders: The encoder of each modality.
        text_length: Number of tokens; None lets 99 % of the training texts of each modality fit.
        image_size: Side of the images in pixels; None is that of the encoders.
        audio_seconds: Length of sounds.
        feature_length: Number of vectors; None lets the longest training sequence fit.
    """
    usual = InputSizes()
    texts, images, features = (
        [modality for modality in encoders if dataset.modalities[modality].kind == kind]
        for kind in ("text", "image", "features")
    )
    return InputSizes(
        text_length
        or max((typical_text_length(dataset, m, encoders[m]) for m in texts), default=usual.text_length),
        image_size or max((encoders[m].image_size or 0 for m in images), default=0) or usual.image_size,
        audio_seconds or usual.audio_seconds,
        feature_length
        or max((column_facts(dataset, m)["length"] for m in features), default=usual.feature_length),
    )
