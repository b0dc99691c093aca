"""The space of the PMF paper's architecture search (Sec. 4.7): L_f, prompt lengths, translator width."""

from __future__ import annotations

from typing import Any

from spaces.base import Space, register_space
from trainables.methods import PerLayer
from trainables.methods.pmf import LENGTHS
from trainables.methods.space import SpaceContext, Trial, suggest_layers, suggest_learning_rate

#: Longest prompt: the paper studies 1 to 32 and finds the best at 16 (Fig. 5).
MAX_PROMPTS = 32


def _width_step(context: SpaceContext) -> int:
    """Return an eighth of the widest encoder's width. The paper's translator width is four steps."""
    return max(context.width // 8, 1)


def sample(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    """Draw a configuration of ``pmf`` that fuses from 1 layer to all layers of the shallowest encoder.

    Without query prompts there are no query context prompts and no translators (PMF paper, Table 3).
    """
    step = _width_step(context)
    config = {
        "method": "pmf",
        "n_fusion_layers": suggest_layers(trial, context, "n_fusion_layers"),
        "n_query_prompts": _length(trial, "n_query_prompts"),
        "n_query_context_prompts": 0,
        "n_fusion_context_prompts": _length(trial, "n_fusion_context_prompts"),
    }
    if config["n_query_prompts"]:
        config["n_query_context_prompts"] = _length(trial, "n_query_context_prompts")
        config["translator_width"] = trial.suggest_int("translator_width", step, 8 * step, step=step)
    return {**config, "learning_rate": suggest_learning_rate(trial)}


def sample_subnet(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    """Draw a configuration of ``pmf`` with prompt lengths for each layer and modality.

    Layers are numbered from the top, which is 0, so that a number means the same layer for every L_f. The
    parameters of the lowest layer are requested first. The number of layers is drawn on a log scale, because
    its cost grows faster than its benefit.
    """
    step = _width_step(context)
    width = trial.suggest_int("translator_width", step, 8 * step, step=step)
    layers = suggest_layers(trial, context, "n_fusion_layers", log=True)
    lengths: dict[str, PerLayer] = {kind: {m: [] for m in context.depths} for kind in LENGTHS}
    for above in reversed(range(layers)):
        for modality in context.depths:
            drawn = {"n_query_prompts": 0, "n_query_context_prompts": 0}
            for kind in LENGTHS:
                if kind != "n_query_context_prompts" or drawn["n_query_prompts"]:
                    drawn[kind] = _length(trial, f"{kind}.{modality}.{above}")
                lengths[kind][modality].append(drawn[kind])
    return {
        "method": "pmf",
        "n_fusion_layers": layers,
        **lengths,
        "translator_width": width,
        "learning_rate": suggest_learning_rate(trial),
    }


def _length(trial: Trial, name: str) -> int:
    """Draw a prompt length; 0 leaves the prompts out."""
    return trial.suggest_int(name, 0, MAX_PROMPTS)


def first_points(context: SpaceContext) -> list[dict[str, Any]]:
    """Return the paper's setting (the last two layers fused, M = 4), then the one with the least memory."""
    return [
        _point(min(2, context.depth), 4, 4 * _width_step(context)),
        _point(1, 1, _width_step(context)),
    ]


def _point(layers: int, prompts: int, width: int) -> dict[str, Any]:
    return {
        "n_fusion_layers": layers,
        "n_query_prompts": prompts,
        "n_query_context_prompts": prompts,
        "n_fusion_context_prompts": prompts,
        "translator_width": width,
        "learning_rate": 1e-3,
    }


PMF_NAS = register_space(
    Space(
        "pmf_nas",
        "PMF: fused layers (L_f), three prompt lengths, translator width, learning rate",
        sample,
        first_points,
        method="pmf",
        subnets=sample_subnet,
    )
)
