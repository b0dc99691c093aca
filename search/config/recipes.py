"""The papers' recipes: how each of them trained its method.

A value is here if its paper states it, or else if the code that the paper's authors have released does.
docs/recipes.md says which, and what neither of them states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PaperRecipe:
    """A paper's recipe.

    Attributes:
        method: The paper's method.
        options: Values of options, by the options' names.
        settings: Values of a configuration of the method, such as the learning rate.
    """

    method: str
    options: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)


#: Recipes by name.
RECIPES: Mapping[str, PaperRecipe] = {
    # Li et al., CVPR 2023, Sec. 4.3
    "pmf": PaperRecipe(
        "pmf",
        {
            "optimizer": "sgd",
            "weight_decay": 1e-4,
            "batch_size": 32,
            "class_weights": "inverse",
            "head_start": "random",
        },
    ),
    # Jiang et al., 2023, Sec. 4.1; weight decay, clipping, warm-up and the kept weights as in the code
    "mope": PaperRecipe(
        "mope",
        {
            "optimizer": "adamw",
            "epochs": 12,
            "modality_learning_rates": "text=1.25",
            "schedule": "step",
            "milestones": "2,5",
            "gamma": 0.5,
            "warm_up": 0.0,
            "weight_decay": 1e-3,
            "clip_norm": 1.0,
            "augment": "rand-m9-n2",
            "feature_cache": False,
            "head_start": "random",
            "keep": "last",
        },
        {"learning_rate": 4e-4},
    ),
    # Guo et al., AAAI 2025, Implementation Details, for UPMC-Food 101
    "wander": PaperRecipe(
        "wander",
        {
            "optimizer": "adamw",
            "batch_size": 128,
            "schedule": "exponential",
            "decay_epochs": 30,
            "gamma": 0.1,
            "warm_up": 0.0,
            "head_start": "random",
        },
        {"learning_rate": 2e-3},
    ),
}
