"""Fusion methods, one file each; importing this package fills the registry."""

from trainables.methods import late_concat, linear, pmf  # noqa: F401
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
