"""Spaces of one configuration: a method at its paper's settings, with those that the user has set."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Mapping
from typing import Any, get_type_hints

from spaces.base import SPACES, Space, get_space
from spaces.trials import AnsweringTrial, Ends
from trainables.configuration import (
    SEARCHED_RECIPE,
    SEARCHED_SETTINGS,
    recipe_changes,
    setting_changes,
    split_config,
)
from trainables.errors import UserError, unknown
from trainables.methods import get_method
from trainables.methods.config import read_value
from trainables.methods.space import SpaceContext, Trial
from trainables.parameters import Parameter, Range
from trainables.step import Recipe, TrainingSetting

#: The PMF and MBT papers' name of the first fused layer, and the option that it stands for.
FIRST_FUSED, FUSED = "L_f", "n_fusion_layers"


def single(method: str, settings: Mapping[str, str], defaults: Mapping[str, Any] | None = None) -> Space:
    """Return the space whose only member is one configuration of a method.

    It is the first point of the method's own space, with some settings replaced. A setting is a parameter of
    that space, an option of the method, or another field of a configuration. ``L_f`` is the first fused layer
    of the deepest encoder, as in the PMF paper: 10 of 12 fuses two layers of every encoder.

    Args:
        method: The method's name.
        settings: Values as texts, by name.
        defaults: Parameter values that replace those of the first point, and yield to ``settings``.

    Raises:
        UserError: If there is no such method, or if it has no space of its own.
    """
    get_method(method)
    if method not in SPACES:
        raise UserError(
            f"method '{method}' has no space, and so no first point; give it one where it registers"
        )

    def sample(trial: Trial, context: SpaceContext) -> dict[str, Any]:
        return configuration(method, settings, context, defaults)

    return Space(method, f"one configuration of {method}", sample, lambda context: [{}], method=method)


def configuration(
    method: str, settings: Mapping[str, str], context: SpaceContext, defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the configuration of ``single``.

    >>> context = SpaceContext({"text": 12, "image": 12}, {"text": 768, "image": 768})
    >>> made = configuration("pmf", {"L_f": "8", "prompt_length": "6"}, context)
    >>> made["n_fusion_layers"], made["n_query_prompts"]
    (4, 6)

    Raises:
        UserError: If there is no such setting, or if its value is not accepted.
    """
    space, spec = get_space(method), get_method(method)
    given = dict(settings)
    if FIRST_FUSED in given and FUSED in _options(method):
        given[FUSED] = _fused(given.pop(FIRST_FUSED), context)
    start = {**space.first_points(context)[0], **(defaults or {})}

    def answer(name: str, parameter: Parameter) -> Any:
        if name in given:
            return _of_parameter(name, parameter, given[name])
        return start[name] if name in start else Ends("low", {})(name, parameter)

    trial = AnsweringTrial(answer)
    config = space.sample(trial, context)
    options = split_config(config)[1]
    for name, text in given.items():
        if name in _options(method):
            options[name] = text
        elif name in _FIELDS:
            config[name] = read_value(name, text, _FIELDS[name])
        elif name not in trial.values:
            raise unknown(f"setting of {method}", name, _known(method, trial.values))
    if not 0 < config["learning_rate"] < math.inf:
        raise UserError(f"learning_rate={config['learning_rate']}: must be a number above 0")
    TrainingSetting(**setting_changes(config)), Recipe(**recipe_changes(config))  # or they refuse the values
    read = spec.config_class.from_dict(options).to_dict()
    return {**config, **{name: read[name] for name in options}}


def _fields() -> dict[str, Any]:
    """Return the types of a configuration's fields that are no options of a method, by name."""
    hints = {**get_type_hints(TrainingSetting), **get_type_hints(Recipe)}
    return {"learning_rate": float} | {name: hints[name] for name in (*SEARCHED_SETTINGS, *SEARCHED_RECIPE)}


_FIELDS = _fields()


def _options(method: str) -> set[str]:
    return {field.name for field in dataclasses.fields(get_method(method).config_class)}


def _known(method: str, parameters: Mapping[str, Any]) -> set[str]:
    """Return the names of all settings."""
    first = {FIRST_FUSED} if FUSED in _options(method) else set()
    return {*parameters, *_options(method), *_FIELDS, *first}


def _fused(text: str, context: SpaceContext) -> str:
    """Return the number of fused layers, as a text, from the first fused layer of the deepest encoder."""
    deepest, shallowest = max(context.depths.values()), context.depth
    first = read_value(FIRST_FUSED, text, int)
    if not deepest - shallowest <= first < deepest:
        raise UserError(
            f"{FIRST_FUSED}={text}: must be {deepest - shallowest} to {deepest - 1}, a layer of the deepest "
            f"encoder; the encoders have {' and '.join(map(str, context.depths.values()))} layers"
        )
    return str(deepest - first)


def _of_parameter(name: str, parameter: Parameter, text: str) -> Any:
    """Return a parameter's value from a text. Numbers need not be in the parameter's range."""
    if isinstance(parameter, Range):
        return read_value(name, text, parameter.kind)
    value = read_value(name, text, functools.reduce(operator.or_, map(type, parameter)))
    if isinstance(value, str | bool) and not parameter.holds(value):
        raise UserError(f"{name}={text}: must be {' or '.join(map(str, parameter))}")
    return value
