"""What is explored: one file a space; importing this package fills the registry."""

from spaces import (  # noqa: F401
    adapter,
    all_methods,
    baselines,
    lora,
    mope,
    pmf,
    pmf_nas,
    prompts,
    wander,
)
from spaces.base import (
    SPACES,
    Member,
    Space,
    SpaceContext,
    Trial,
    Unordered,
    get_space,
    main_modality,
    method_space,
    register_space,
    suggest_layers,
    suggest_learning_rate,
    union,
    with_checkpointing,
)

__all__ = [
    "SPACES",
    "Member",
    "Space",
    "SpaceContext",
    "Trial",
    "Unordered",
    "get_space",
    "main_modality",
    "method_space",
    "register_space",
    "suggest_layers",
    "suggest_learning_rate",
    "union",
    "with_checkpointing",
]
