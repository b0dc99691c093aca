"""Checks an encoder before anything is done with it."""

from __future__ import annotations

import inspect

import torch

from trainables.errors import UserError
from trainables.towers.base import InputSizes, Tower
from trainables.towers.damage import first_line
from trainables.towers.loading import check_fit, load_tower
from trainables.towers.processing import image_statistics, normalizes_sounds
from trainables.towers.source import EncoderSource
from trainables.towers.speech import SpeechTower, WhisperTower
from trainables.towers.swin import SwinTower
from trainables.towers.tokenizer import load_tokenizer

#: Largest difference between what a tower and its model compute, as a share of the largest output.
_CLOSE = 1e-3


def check_encoder(source: EncoderSource) -> None:
    """Check that an encoder can be used: its weights, what makes its inputs, and that its tower is right.

    The tower is run once, on a small input, and compared with the library's own model: a configuration may
    hold a setting that the tower does not know.

    Args:
        source: The resolved encoder.

    Raises:
        UserError: If it cannot be used. The message says what is wrong with it.
    """
    source.weights_location()
    if not source.from_seed:
        check_fit(source)
    match source.kind:
        case "text":
            load_tokenizer(source)
        case "image":
            image_statistics(source)
        case "audio":
            normalizes_sounds(source)
    tower = load_tower(source)
    try:
        apart = _difference(tower, source)
    except Exception as error:  # what settings of another type or size raise has no class in common
        raise UserError(f"encoder '{source.name}': cannot be run ({first_line(error)})") from error
    if not apart <= _CLOSE:
        raise UserError(
            f"encoder '{source.name}': its config.json has a setting that is not supported: run layer by "
            f"layer, it does not compute what it does as a whole (outputs differ by {apart:.0%})"
        )


@torch.no_grad()
def _difference(tower: Tower, source: EncoderSource) -> float:
    """Return how far a tower is from its model, as a share of the model's largest output."""
    inputs = tower.example_inputs(1, _small(tower, source))
    if "input_ids" in inputs:
        count = inputs["input_ids"].shape[1]
        inputs["input_ids"] = torch.arange(count)[None] % source.config.vocab_size
    else:
        generator = torch.Generator().manual_seed(0)
        for name, value in inputs.items():
            if value.is_floating_point():
                inputs[name] = torch.randn(value.shape, generator=generator)
    ours = tower.finish(tower.encode(inputs, tower.depth)).tokens
    if isinstance(tower, WhisperTower):  # whose model takes sounds of one length only, half a minute
        return 0.0 if bool(ours.isfinite().all()) else float("nan")
    taken = inspect.signature(tower.model.forward).parameters
    options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in taken else {}
    theirs = tower.model(**inputs, **options).last_hidden_state
    return float((ours - theirs).abs().max() / theirs.abs().max())


def _small(tower: Tower, source: EncoderSource) -> InputSizes:
    """Return sizes of an input that is quick to encode."""
    match source.kind:
        case "text":
            return InputSizes(text_length=min(8, source.max_text_length))
        case "image":
            # Swin's model fails for maps that are smaller than its windows
            swin = isinstance(tower, SwinTower)
            return InputSizes(
                image_size=int(source.config.image_size if swin else 2 * source.config.patch_size)
            )
        case "audio":
            assert isinstance(tower, SpeechTower)
            _, longest = tower.seconds_of(source.config)
            return InputSizes(audio_seconds=min(0.5, longest or 0.5))
        case _:
            return InputSizes(feature_length=8)
