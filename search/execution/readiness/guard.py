"""A trial that looks whether its node is fit before it does anything.

Ray may start a trial on a node that has just joined, or whose program was changed after it was examined. The
class is sent with its code, because the node's own may be another one.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

import ray
from ray import cloudpickle

from search.execution.readiness.examining import Examiner
from search.execution.readiness.there import VERSIONS, lacks, other_program


class UnfitNodeError(Exception):
    """A node would not run a trial as the machine does that has started the search.

    The message begins with the node's address and Ray's id of it.
    """


def guarded(trainable: Any, examiner: Examiner) -> Any:
    """Return a trainable for Ray Tune whose trials raise ``UnfitNodeError`` where their node is not fit.

    Each process compares program and versions, which takes some hundredths of a second. On a node that has
    not been examined, it also looks for what trials need.

    Args:
        trainable: The trainable.
        examiner: Knows what trials need, and the nodes that have been examined.
    """
    code, examined = examiner.here.code, frozenset(examiner.facts)
    versions = {name: getattr(examiner.here, name) for name in VERSIONS}
    provisions = None if examiner.provisions is None else pickle.dumps(examiner.provisions)

    def unfit() -> str | None:
        """Return what is wrong with this node; None if it is fit."""
        reason = other_program(code, versions)
        if reason or provisions is None or ray.get_runtime_context().get_node_id() in examined:
            return reason
        return "; ".join(f"{what} {there}" for what, there in lacks(provisions)) or None

    class Guarded(trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._unfit = unfit()
            if self._unfit is None:
                super().setup(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return self._unfit is not None or super().reset_config(new_config)

        def restore(self, checkpoint_path: Any) -> None:
            if self._unfit is None:
                super().restore(checkpoint_path)

        def step(self) -> dict[str, Any]:
            if self._unfit is not None:
                node_id = ray.get_runtime_context().get_node_id()
                raise UnfitNodeError(f"{ray.util.get_node_ip_address()} {node_id} {self._unfit}")
            result: dict[str, Any] = super().step()
            return result

        def cleanup(self) -> None:
            if self._unfit is None:
                super().cleanup()

    Guarded.__name__ = trainable.__name__
    return Guarded


cloudpickle.register_pickle_by_value(sys.modules[__name__])
