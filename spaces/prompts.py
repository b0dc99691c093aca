"""Spaces of the prompt baselines, each on its own and all together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spaces.base import (
    SPACES,
    Space,
    SpaceContext,
    Trial,
    Unordered,
    main_modality,
    method_space,
    register_space,
    suggest_layers,
    union,
)

#: Longest prompt of a layer, as in the PMF paper's study (Fig. 5).
MAX_PROMPTS = 32


def _prompts(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    return {"n_prompts": trial.suggest_int("n_prompts", 1, MAX_PROMPTS, log=True)}


def _at(length: int) -> Callable[[SpaceContext], list[dict[str, Any]]]:
    return lambda _: [{"n_prompts": length, "learning_rate": 2e-3}]


# 10 prompts a layer, 20 at the input: PMF paper, Sec. 4.2.
method_space("vpt", "deep prompts in the image encoder alone: length", _prompts, _at(10))
method_space("p_bert", "deep prompts in the text encoder alone: length", _prompts, _at(10))
method_space("p_late_concat", "deep prompts in every encoder: length", _prompts, _at(10))
method_space("prompt_fuse", "prompts at the text encoder's input: length", _prompts, _at(20))
method_space("blind_prompt", "prompts at the input that see only each other: length", _prompts, _at(20))
method_space("p_mmbt", "image token in a prompted text encoder: length", _prompts, _at(10))
method_space(
    "p_sequential_fuse",
    "one mapped token a layer, both encoders prompted: direction, prompt length",
    lambda trial, context: {
        "main": trial.suggest_categorical("main", Unordered(context.depths)),
        "prompt_length": trial.suggest_int("prompt_length", 1, MAX_PROMPTS, log=True),
    },
    lambda context: [{"main": main_modality(context), "prompt_length": 6, "learning_rate": 5e-4}],
)

method_space(
    "p_tuning",
    "learned keys and values: length, tuned top layers",
    lambda trial, context: {
        "n_layers": suggest_layers(trial, context, "n_layers"),
        "length": trial.suggest_int("length", 1, 64, log=True),
    },
    lambda context: [
        {"n_layers": context.depth, "length": 20, "learning_rate": 5e-3},
        {"n_layers": 1, "length": 20, "learning_rate": 5e-3},
    ],
)
method_space(
    "maple",
    "prompts coupled between modalities: length, prompted bottom layers",
    lambda trial, context: {
        "n_prompted_layers": suggest_layers(trial, context, "n_prompted_layers"),
        "n_prompts": trial.suggest_int("n_prompts", 1, MAX_PROMPTS, log=True),
    },
    lambda context: [
        {"n_prompted_layers": max(1, 3 * context.depth // 4), "n_prompts": 2, "learning_rate": 3.5e-3}
    ],
)

#: The methods that tune prompts and nothing else of the encoders.
METHODS = (
    "vpt",
    "p_bert",
    "prompt_fuse",
    "blind_prompt",
    "p_late_concat",
    "p_mmbt",
    "p_sequential_fuse",
    "p_tuning",
    "maple",
)


def _members() -> list[Space]:
    return [SPACES[name] for name in METHODS]


PROMPTS = register_space(
    union("prompts", "all prompt baselines: first the method, then its own parameters", _members)
)
