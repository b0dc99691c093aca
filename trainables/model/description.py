"""What a trained model is: its configuration, its task and what it reads, as a JSON file in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from trainables.errors import UserError
from trainables.towers import EncoderSource, resolve_encoder
from trainables.towers.bag_of_words import PREFIX as BAG_OF_WORDS

#: The files and folders of a model.
CONFIG, WEIGHTS, CARD, PLUGINS, ENCODERS = (
    "config.json",
    "weights.safetensors",
    "README.md",
    "plugins",
    "encoders",
)
#: Increases when models are written in another way.
FORMAT = 1

#: Begins the fields of a probe's configuration that say how a modality is read.
_POOLING = "pooling."


@dataclass(frozen=True)
class Input:
    """What a model reads of one modality.

    Attributes:
        kind: Kind of the modality: text, image, audio or features.
        column: Column of the dataset from which the model has learnt.
        encoder: Name of the encoder.
        revision: The encoder's commit on the hub; None if it is from elsewhere.
        fingerprint: Hash of the encoder, and of its tokeniser or image processing.
        pooling: How the encoder's vector is read from its tokens.
        facts: How values are brought to the encoder's inputs, see ``Kind.facts``.
        folder: Folder with a copy of the encoder, relative to the model's; None if the model has none.
    """

    kind: str
    column: str
    encoder: str
    revision: str | None
    fingerprint: str
    pooling: str
    facts: dict[str, Any]
    folder: str | None = None

    def source(self, modality: str, model: Path) -> EncoderSource:
        """Return the encoder, at its revision, or the copy of it; it need not be the one that is described.

        Args:
            modality: Name of the modality.
            model: Folder of the model.

        Raises:
            UserError: If there is no such encoder.
        """
        name = self.encoder
        if self.folder is not None:
            prefix = BAG_OF_WORDS if name.startswith(BAG_OF_WORDS) else ""
            name = f"{prefix}{model.absolute() / self.folder}"
        return resolve_encoder(modality, name, self.pooling, self.kind, self.revision)


@dataclass(frozen=True)
class ModelDescription:
    """A trained model, without its weights. All of it is JSON.

    Attributes:
        configuration: ``method`` and its fields, with all else that a search's trial has. That of a probe has
            ``method`` ``probe``, or ``probe:text`` for one modality, ``strength``, and ``pooling.text`` for
            each modality.
        task: ``Task.to_dict`` of the task, as it was tuned on the validation split.
        setting: The fields of the ``TrainingSetting`` with which the model was trained.
        inputs: What is read of each modality of the search, in its order.
        plugins: The user's plugins, as paths relative to the model's folder.
        about: What people may want to know: search, dataset, metrics and so on. Loading does not read it.
    """

    configuration: dict[str, Any]
    task: dict[str, Any]
    setting: dict[str, Any]
    inputs: dict[str, Input]
    plugins: list[str]
    about: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object from which ``from_dict`` restores the description."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the description that ``to_dict`` has returned; unknown entries are ignored.

        Raises:
            KeyError: If an entry is missing.
            TypeError: If an input is not of that form.
        """
        own = {field.name: values[field.name] for field in fields(cls)}
        inputs = {modality: Input(**described) for modality, described in own["inputs"].items()}
        return cls(**{**own, "inputs": inputs})


def configuration_of(name: str, strength: float, poolings: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration of a probe.

    Args:
        name: ``probe``, or ``probe:text`` for one modality.
        strength: Weight of its penalty.
        poolings: How each modality is read.
    """
    read = {f"{_POOLING}{modality}": pooling for modality, pooling in poolings.items()}
    return {"method": name, "strength": strength, **read}


def poolings_of(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Return how a probe reads each modality; nothing for the configuration of a method."""
    start = _POOLING
    return {key.removeprefix(start): value for key, value in configuration.items() if key.startswith(start)}


def read_description(folder: Path) -> ModelDescription:
    """Return the description of the model in a folder. Its weights are not read, only looked for.

    Raises:
        UserError: If there is no such folder, or no model in it that this version reads.
    """
    values = read_config(folder)
    try:
        found = ModelDescription.from_dict(values)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"model '{folder}': its {CONFIG} is damaged ({error})") from error
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise UserError(f"model '{folder}': its {WEIGHTS} is missing")
    size, expected = weights.stat().st_size, values["weights"]["bytes"]
    if size != expected:
        raise UserError(f"model '{folder}': its {WEIGHTS} has {size:,} of {expected:,} bytes")
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a model's ``config.json``.

    Raises:
        UserError: If there is none that this version reads.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "there is no such folder"
        raise UserError(f"model '{folder}': {what}; accepted: the folder of a trained model")
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"model '{folder}': the folder has no {CONFIG}; accepted: that of a trained model")
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"model '{folder}': its {CONFIG} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"model '{folder}': its {CONFIG} is no JSON ({error})") from error
    if not isinstance(values, dict) or "format" not in values or "configuration" not in values:
        raise UserError(f"model '{folder}': its {CONFIG} is of no trained model")
    if values["format"] != FORMAT:
        raise UserError(f"model '{folder}': is of the format {values['format']}; this version reads {FORMAT}")
    return values
