"""The space of the PMF paper's ablation (Sec. 4.5): L_f and one length for all prompts."""

from __future__ import annotations

from typing import Any

from spaces.base import Space, register_space
from trainables.methods.space import SpaceContext, Trial, suggest_layers, suggest_learning_rate

#: The prompt lengths of Fig. 5.
LENGTHS = (1, 4, 8, 16, 32)


def sample(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    """Draw a configuration of ``pmf`` with the paper's translator width: half that of the widest encoder."""
    layers = suggest_layers(trial, context, "n_fusion_layers")
    length = trial.suggest_categorical("prompt_length", LENGTHS)
    return {
        "method": "pmf",
        "n_fusion_layers": layers,
        "n_query_prompts": length,
        "n_query_context_prompts": length,
        "n_fusion_context_prompts": length,
        "translator_width": context.width // 2,
        "learning_rate": suggest_learning_rate(trial),
    }


def first_points(context: SpaceContext) -> list[dict[str, Any]]:
    """Return L_f = depth - 2 with M = 4 (Table 2) and with M = 16, the best of Fig. 5."""
    layers = min(2, context.depth)
    return [{"n_fusion_layers": layers, "prompt_length": length, "learning_rate": 1e-3} for length in (4, 16)]


PMF = register_space(
    Space("pmf", "PMF: fused layers (L_f), one prompt length, learning rate", sample, first_points)
)
