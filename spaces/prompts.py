"""The space of all prompt baselines."""

from __future__ import annotations

from spaces.base import SPACES, Space, register_space, union

#: The methods that tune prompts and keep the encoders frozen.
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


def _parts() -> list[Space]:
    return [SPACES[name] for name in METHODS]


PROMPTS = register_space(
    union("prompts", "all prompt baselines: first the method, then its own parameters", _parts)
)
