"""Fusion methods, one file each. Importing this package imports and registers all of them."""

from trainables.methods.base import (
    METHODS,
    FusionMethod,
    FusionOutput,
    Inserted,
    MethodContext,
    MethodSpec,
    Query,
    Stage,
    get_method,
    register_method,
)
from trainables.methods.building import build, build_method
from trainables.methods.config import MethodConfig, PerLayer, option
from trainables.methods.queried import Queried
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
    "Queried",
    "Query",
    "Stage",
    "build",
    "build_method",
    "get_method",
    "option",
    "register_method",
]
