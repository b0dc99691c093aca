"""Fusion methods, one file each. Importing this package imports and registers all of them."""

from trainables.methods.base import (
    METHODS,
    FusionMethod,
    FusionOutput,
    Inserted,
    MethodConfig,
    MethodContext,
    MethodSpec,
    PerLayer,
    Stage,
    build_method,
    get_method,
    option,
    register_method,
)
from trainables.methods.space import DefaultSpace
from trainables.registry import import_modules

import_modules(__name__, __path__)

__all__ = [
    "METHODS",
    "DefaultSpace",
    "FusionMethod",
    "FusionOutput",
    "Inserted",
    "MethodConfig",
    "MethodContext",
    "MethodSpec",
    "PerLayer",
    "Stage",
    "build_method",
    "get_method",
    "option",
    "register_method",
]
