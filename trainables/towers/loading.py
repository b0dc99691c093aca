"""Load encoders as towers; every weight of a tower comes from the encoder's file."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from trainables.errors import UserError
from trainables.notices import tell
from trainables.towers.base import Tower
from trainables.towers.configs import quiet
from trainables.towers.damage import first_line, why
from trainables.towers.source import EncoderSource

#: Attention kernels that a tower can run with.
ATTENTION = ("eager", "sdpa")

#: The number of a layer in a weight's name.
_INDEX = re.compile(r"\b[0-9]+\.")

#: What torch says of a pickled object that is none of its own.
_FOREIGN = re.compile("Unsupported (global|class)")

#: No trained weight is larger; integers that are read as such, and damaged numbers, are.
_LARGEST = 1e6


def load_tower(source: EncoderSource, *, attention: str = "eager", weights: bool = True) -> Tower:
    """Load an encoder as a tower, frozen, in float32 and in evaluation mode.

    Args:
        source: The resolved encoder.
        attention: Attention kernel, one of ``ATTENTION``.
        weights: Whether to load the weights. If not, parameters are allocated but not initialised.

    Raises:
        UserError: If the weights are missing, cannot be loaded, or do not fit the configuration.
    """
    return load_model(source, attention=attention, weights=weights)[1]


def load_model(
    source: EncoderSource, *, attention: str = "eager", weights: bool = True
) -> tuple[nn.Module, Tower]:
    """Load the model of an encoder, and return it with the tower that is made from it; see ``load_tower``."""
    config = copy.deepcopy(source.config)
    config._attn_implementation = attention
    report: Mapping[str, Any] = {}
    if not weights:
        from transformers.initialization import no_init_weights

        with no_init_weights():
            model = _new(source, config)
    elif source.from_seed:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = _new(source, config)
    else:
        model, report = _stored(source, config)
    parameters = dict(model.named_parameters())
    tower = source.family.tower(source.modality, model)
    if weights:
        _check_complete(source, parameters, tower, report)
        _check_values(source, tower)
        _tell_unused(source, tower, report)
    tower.pooling = source.pooling
    tower.pretrained = not source.from_seed
    return model, tower


def check_fit(source: EncoderSource) -> None:
    """Check that the files of an encoder hold all weights of its tower, in their shapes.

    The numbers are not read, and nothing is allocated: settings of absurd sizes take no memory.

    Raises:
        UserError: If weights are missing, cannot be loaded, or do not fit the configuration.
    """
    model, report = _stored(source, copy.deepcopy(source.config), device_map="meta")
    parameters = dict(model.named_parameters())
    _check_complete(source, parameters, source.family.tower(source.modality, model), report)


def _new(source: EncoderSource, config: Any) -> nn.Module:
    family = source.family
    try:
        model: nn.Module = family.model_class()(config, **family.options())
    except MemoryError:
        raise
    except Exception as error:  # what settings of another type or size raise has no class in common
        reason = first_line(error)
        raise UserError(f"encoder '{source.name}': its settings make no model ({reason})") from error
    return model


def _stored(source: EncoderSource, config: Any, **options: Any) -> tuple[nn.Module, Mapping[str, Any]]:
    """Load the model from its files, and return it with the library's report on how they fit."""
    location, family = source.weights_location(), source.family
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(f"encoder '{source.name}': its weights are quantised; name those that are not")
    quiet()
    try:
        model, report = family.model_class().from_pretrained(
            location,
            config=config,
            dtype=torch.float32,
            weights_only=True,
            ignore_mismatched_sizes=True,  # they are in the report
            output_loading_info=True,
            revision=source.revision or "main",
            **family.options(),
            **options,
        )
    except MemoryError:
        raise
    except Exception as error:  # what a malformed file raises has no class in common
        if isinstance(error, UnpicklingError):
            if _FOREIGN.search(str(error)):
                raise UserError(
                    f"encoder '{source.name}': its weights are pickled with objects that would run code; use "
                    "weights in a safetensors file"
                ) from error
            error = UnpicklingError("its file was not written by torch.save")
        reason = why(error, location, partial(_of_weights, Path(location)))
        raise UserError(f"encoder '{source.name}': cannot load its weights ({reason})") from error
    if report["error_msgs"]:
        reason = report["error_msgs"][0].strip().splitlines()[0]
        raise UserError(f"encoder '{source.name}': cannot load its weights ({reason})")
    return model, report


def _of_weights(folder: Path, path: Path) -> bool:
    """Return whether a file of a folder holds weights that are read, pickled ones if there are no others."""
    if path.name.endswith((".safetensors", ".safetensors.index.json")):
        return True
    return path.name.endswith((".bin", ".bin.index.json")) and not any(folder.glob("*.safetensors"))


def _check_complete(
    source: EncoderSource, parameters: Mapping[str, nn.Parameter], tower: Tower, report: Mapping[str, Any]
) -> None:
    """Check that all weights of a tower come from the file.

    Args:
        source: The encoder.
        parameters: The weights of the model from which the tower was made, by the model's names. A tower
            drops some of them, which need not be in the file.
        tower: The tower.
        report: What the library found missing, or of another shape.
    """
    used = {id(parameter) for parameter in tower.parameters()}
    needed = [name for name, parameter in parameters.items() if id(parameter) in used]
    for name, stored, expected in report.get("mismatched_keys", ()):
        if name in needed:
            shapes = (" x ".join(map(str, shape)) for shape in (stored, expected))
            raise UserError(
                f"encoder '{source.name}': '{name}' is {next(shapes)} in its file, and {next(shapes)} by its "
                "config.json"
            )
    absent = [name for name in needed if name in report.get("missing_keys", ())]
    if not absent:
        return
    foreign = sorted(report["unexpected_keys"])
    instead = f", but for example '{foreign[0]}'" if foreign else ""
    if len(absent) == len(needed):
        raise UserError(
            f"encoder '{source.name}': its file has none of the weights of the family "
            f"'{source.config.model_type}', such as '{absent[0]}'{instead}"
        )
    raise UserError(
        f"encoder '{source.name}': its file lacks {len(absent)} of the {len(needed)} weights that its "
        f"config.json asks for, the first '{absent[0]}'"
    )


def _tell_unused(source: EncoderSource, tower: Tower, report: Mapping[str, Any]) -> None:
    """Tell that a file has weights inside of layers, or whole layers, that the configuration leaves out."""
    inside = {id(parameter) for layer in tower.layers for parameter in layer.parameters()}
    named = (name for name, parameter in tower.model.named_parameters() if id(parameter) in inside)
    before = {name[: digit.start()] for name in named if (digit := _INDEX.search(name))}
    unused = sorted(name for name in report.get("unexpected_keys", ()) if name.startswith((*before,)))
    if unused:
        tell(
            f"encoder '{source.name}': {len(unused)} weights of layers in its file are not used by its "
            f"config.json, the first '{unused[0]}'"
        )


def _check_values(source: EncoderSource, tower: Tower) -> None:
    """Check that the weights may be those of a trained model."""
    layers = {id(parameter) for layer in tower.layers for parameter in layer.parameters()}
    for name, parameter in tower.model.named_parameters():
        if not parameter.numel():
            continue
        low, high = parameter.aminmax()
        if not (low >= -_LARGEST and high <= _LARGEST):  # NaN compares as False
            raise UserError(
                f"encoder '{source.name}': '{name}' holds numbers that no trained weight has, "
                f"{low:g} to {high:g}; its file is damaged"
            )
        if id(parameter) in layers and parameter.ndim > 1 and "bias" not in name and low == high:
            raise UserError(
                f"encoder '{source.name}': all numbers of '{name}' are {low:g}; its file is incomplete"
            )
