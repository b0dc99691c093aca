"""The GPU that memory is predicted for, if the target is one. The command line needs this before PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from search.config import TargetSettings
from search.units import format_size
from trainables.step.setting import TrainingSetting

if TYPE_CHECKING:
    from search.nodes import Node


def completed(given: TargetSettings, nodes: Iterable[Node]) -> TargetSettings:
    """Return a target with what was not given: that of the cluster's GPUs, or else the default.

    Of several kinds of GPU, the least compute capability counts, and the largest measured context.

    Args:
        given: The user's settings.
        nodes: The cluster's machines.
    """
    from trainables.memory.calibration import find_calibration

    owners = [node for node in nodes if node.gpus]
    capabilities = [node.capability for node in owners if node.capability is not None]
    found = map(find_calibration, {node.accelerator for node in owners})
    contexts = [calibration.context for calibration in found if calibration is not None]
    default = TargetSettings(
        compute_capability=min(capabilities, default=TrainingSetting.compute_capability),
        context_size=max(contexts, default=TrainingSetting.context_bytes),
    )
    chosen = {name: value for name, value in given.to_dict().items() if value is not None}
    return replace(default, **chosen)


def in_words(setting: TrainingSetting) -> str:
    """Return in a line what memory is under a setting."""
    if setting.target == "cpu":
        return "memory is for a CPU: what the tensors of a step take at its peak"
    return (
        f"memory is for a GPU of compute capability {setting.compute_capability:.1f}: what its allocator "
        f"reserves, and {format_size(setting.context_bytes)} of context"
    )
