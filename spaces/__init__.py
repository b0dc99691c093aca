"""Search spaces, one file each. Importing this package fills the registry.

A method's default space is declared in the method's own file. This package holds the spaces of several
methods, the spaces that need more than a declaration, and the functions that work on any space.
"""

from spaces.base import (
    SPACES,
    Member,
    Space,
    get_space,
    register_space,
    starting_at,
    union,
    with_checkpointing,
)
from trainables.methods.space import SpaceContext, Trial
from trainables.registry import import_modules

import_modules(__name__, __path__)

__all__ = [
    "SPACES",
    "Member",
    "Space",
    "SpaceContext",
    "Trial",
    "get_space",
    "register_space",
    "starting_at",
    "union",
    "with_checkpointing",
]
