"""How an encoder wants its images and sounds: what the files beside its weights state."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.errors import UserError
from trainables.notices import tell
from trainables.towers.damage import damage
from trainables.towers.hub import hub_reachable
from trainables.towers.source import EncoderSource
from trainables.towers.speech import SAMPLE_RATE

#: The files that may state it, and the entry in which processors of several modalities keep it.
FILES = ("processor_config.json", "preprocessor_config.json")
_ENTRIES = {"image": "image_processor", "audio": "feature_extractor"}

#: Largest value of a pixel, and the factor that image processors scale pixels by if they state none.
_BRIGHTEST = 255
_USUAL_FACTOR = 1 / _BRIGHTEST


def image_statistics(encoder: EncoderSource) -> tuple[list[float], list[float]]:
    """Return the mean and deviation that an image encoder's pixels, from 0 to 1, are normalised by.

    Encoders that want pixels in another range (``do_rescale``, ``rescale_factor``), or as they are
    (``do_normalize``), get them by a mean and a deviation that have the same effect. If the mean or
    the deviation is not stated, ImageNet's is taken, and a line says so.

    Returns:
        The mean and the deviation of red, green and blue.

    Raises:
        UserError: If what is stated cannot be read, or makes no sense.
    """
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    file, stated = _stated(encoder)
    mean, std = [0.0] * 3, [1.0] * 3
    if _switch(encoder, file, stated, "do_normalize"):
        missing = [entry for entry in ("image_mean", "image_std") if stated.get(entry) is None]
        if missing and encoder.location is not None:
            entries = " and ".join(missing)
            tell(f"encoder '{encoder.name}': no file states {entries} of its pixels; ImageNet's is taken")
        mean = _channels(encoder, file, stated, "image_mean", IMAGENET_DEFAULT_MEAN)
        std = _channels(encoder, file, stated, "image_std", IMAGENET_DEFAULT_STD)
    factor = 1.0
    if _switch(encoder, file, stated, "do_rescale"):
        factor = _number(encoder, file, "rescale_factor", stated.get("rescale_factor", _USUAL_FACTOR))
        if factor <= 0:
            raise _wrong(encoder, file, "rescale_factor", factor, "a number above 0")
    if min(std) <= 0:
        raise _wrong(encoder, file, "image_std", std, "three numbers above 0")
    brightest = _BRIGHTEST * factor
    if not math.isclose(brightest, 1):
        mean, std = ([value / brightest for value in values] for values in (mean, std))
    if not 0 <= min(mean) <= max(mean) <= 1:
        wanted = f"three numbers from 0 to {brightest:g}, the range of its pixels"
        raise _wrong(encoder, file, "image_mean", stated.get("image_mean"), wanted)
    return mean, std


def normalizes_sounds(encoder: EncoderSource) -> bool:
    """Return whether an audio encoder was trained on normalised waveforms; the library's default is yes.

    Raises:
        UserError: If what is stated cannot be read, or is for sounds of another sampling rate.
    """
    file, stated = _stated(encoder)
    rate = stated.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise _wrong(encoder, file, "sampling_rate", rate, f"{SAMPLE_RATE}")
    return _switch(encoder, file, stated, "do_normalize")


def processing_files(location: str, revision: str | None = None) -> list[Path]:
    """Return the files that state how an encoder wants its inputs, fetched from the hub if need be.

    Args:
        location: The encoder's folder or hub name.
        revision: The commit on the hub.
    """
    from transformers.utils import cached_file

    # Without this check, transformers retries an unreachable hub for half a minute
    local = os.path.isdir(location) or not hub_reachable()
    found = (
        cached_file(
            location,
            file,
            local_files_only=local,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        for file in FILES
    )
    return [Path(path) for path in found if path is not None]


def _stated(encoder: EncoderSource) -> tuple[str, Mapping[str, Any]]:
    """Return the name of the file that states an encoder's processing, and what it states; maybe nothing."""
    if encoder.location is None:
        return FILES[-1], {}
    for path in processing_files(encoder.location, encoder.revision):
        reason = damage(path)
        stated = None if reason else json.loads(path.read_bytes())
        if not isinstance(stated, dict):
            raise UserError(f"encoder '{encoder.name}': its {path.name} {reason or 'holds no JSON object'}")
        if path.name == FILES[0]:
            stated = stated.get(_ENTRIES[encoder.kind])
        if isinstance(stated, dict):
            return path.name, stated
    return FILES[-1], {}


def _switch(encoder: EncoderSource, file: str, stated: Mapping[str, Any], entry: str) -> bool:
    """Return an entry that is true or false; true if it is not stated."""
    value = stated.get(entry)
    if value is None:
        return True
    if not isinstance(value, bool):
        raise _wrong(encoder, file, entry, value, "true or false")
    return value


def _channels(
    encoder: EncoderSource, file: str, stated: Mapping[str, Any], entry: str, default: list[float]
) -> list[float]:
    """Return a number for each of three channels; one that is stated alone is for all of them."""
    values = stated.get(entry)
    if values is None:
        return list(default)
    values = values if isinstance(values, list) else [values] * 3
    if len(values) != 3:
        raise _wrong(encoder, file, entry, values, "three numbers, of red, green and blue")
    return [_number(encoder, file, entry, value) for value in values]


def _number(encoder: EncoderSource, file: str, entry: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(encoder, file, entry, value, "finite numbers")
    return float(value)


def _wrong(encoder: EncoderSource, file: str, entry: str, value: Any, accepted: str) -> UserError:
    shown = json.dumps(value)
    return UserError(
        f"encoder '{encoder.name}': its {file} states {entry} {shown[:80]}; accepted: {accepted}"
    )
