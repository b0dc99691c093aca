"""The space of all methods, which gives one front over all of them."""

from __future__ import annotations

from spaces.base import SPACES, Space, register_space, union

#: Order of the methods' first points: the main methods of the three papers come first, then their baselines
#: from low to high memory. Methods that are not listed come last.
ORDER = (
    "pmf",
    "wander",
    "mope",
    "linear",
    "lora",
    "p_late_concat",
    "adapter",
    "maple",
    "uniadapter",
    "aurora",
    "p_tuning",
    "p_sequential_fuse",
    "prompt_fuse",
    "blind_prompt",
    "p_mmbt",
    "wander_vf",
    "vpt",
    "p_bert",
    "sf_vf",
    "late_concat",
    "full_finetune",
    "image_only",
    "text_only",
    "mmbt",
    "mbt",
    "sequential_fuse",
    "frozen",
    "sf_op",
)


def _parts() -> list[Space]:
    """Return the default space of every method that has one."""
    spaces = [space for space in SPACES.values() if space.method]
    rank = {method: number for number, method in enumerate(ORDER)}
    return sorted(spaces, key=lambda space: rank.get(space.method or "", len(ORDER)))


ALL_METHODS = register_space(
    union("all_methods", "every method: first the method, then its own parameters; one front", _parts)
)
