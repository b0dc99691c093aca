"""Fusion methods, one file each; importing this package fills the registry."""

from trainables.methods import (  # noqa: F401
    frozen,
    late_concat,
    linear,
    mbt,
    mmbt,
    mope,
    p_late_concat,
    pmf,
    prompt_fuse,
    prompted,
    sequential_fuse,
    unimodal,
    wander,
)
from trainables.methods.base import (
    METHODS,
    FusionMethod,
    FusionOutput,
    Inserted,
    MethodConfig,
    MethodContext,
    MethodSpec,
    build_method,
    get_method,
    option,
    register_method,
)

__all__ = [
    "METHODS",
    "FusionMethod",
    "FusionOutput",
    "Inserted",
    "MethodConfig",
    "MethodContext",
    "MethodSpec",
    "build_method",
    "get_method",
    "option",
    "register_method",
]
