"""Every method at once: one front over all."""

from __future__ import annotations

from spaces.base import SPACES, Space, register_space, union

#: The order in which methods are tried first: the three papers' own, then what they compare with, cheap
#: before dear. Methods that are not named here come last.
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
    """The default space of every method that has one."""
    spaces = [space for space in SPACES.values() if space.method]
    rank = {method: number for number, method in enumerate(ORDER)}
    return sorted(spaces, key=lambda space: rank.get(space.method or "", len(ORDER)))


ALL_METHODS = register_space(
    union("all_methods", "every method: first the method, then its own parameters; one front", _parts)
)
