"""Writes the files that start a cluster with a search on it, and the commands that use them.

Each kind of cluster has a file here: its settings, and a function that makes the plan from them. Importing
this package imports all of them, which fills the registry. The texts are templates in ``templates/``.
"""

from search.launching.kinds import KINDS, Kind, register_kind
from search.launching.plan import Plan
from search.launching.settings import ClusterSettings
from trainables.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["KINDS", "ClusterSettings", "Kind", "Plan", "register_kind"]
