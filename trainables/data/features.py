"""The frozen prefix's output, computed once per dataset and layer and shared by all trials of a node."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.cache import build_once, cache_dir
from trainables.data.prepared import PreparedData, PreparedSplit
from trainables.setting import TrainingSetting
from trainables.towers import Sequence, Tower

_ROWS = 64

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PrefixFeatures:
    """Tokens of every row of a split after some layers of one tower, memory-mapped.

    Attributes:
        tokens: Shape (N, T, D).
        layer: Number of layers the tokens have been through.
        mask: Returns the padding mask of some rows, or None where there is none.
    """

    tokens: np.ndarray
    layer: int
    mask: Callable[[Tensor], Tensor | None]

    def sequence(self, rows: Tensor) -> Sequence:
        """Return the tokens of some rows (B,), ready for the next layer."""
        return Sequence(torch.from_numpy(self.tokens[rows.numpy()]), self.mask(rows), self.layer)


class FeatureCache:
    """Files of prefix outputs under the user's cache folder, bounded in size.

    Evaluation mode and a deterministic input make the prefix's output a constant of the data, so that
    training on it equals running the prefix in every step. A file is keyed by the prepared data (content of
    dataset, tokeniser, sizes), the encoder (content of its weights), attention kernel and precision.

    Args:
        limit: Most bytes all files may take; the least recently used are removed for new ones. A split
            that alone is larger is not cached.
    """

    def __init__(self, limit: int) -> None:
        self.folder = cache_dir() / "features"
        self.limit = limit

    def features(
        self,
        data: PreparedData,
        split: str,
        tower: Tower,
        layer: int,
        setting: TrainingSetting,
        *,
        encoder: str,
        device: torch.device,
        progress: Progress | None = None,
    ) -> PrefixFeatures | None:
        """Return a split's tokens after ``layer`` layers, computing them if they are not there.

        Args:
            data: The prepared dataset.
            split: ``train``, ``validation`` or ``test``.
            tower: The encoder.
            layer: Number of layers the tokens are to have been through.
            setting: For the attention kernel and the precision.
            encoder: The encoder's fingerprint.
            device: Where to compute.
            progress: Called with (what, rows done, rows).

        Returns:
            The features, or None if they are larger than the limit.
        """
        rows = data.split(split)
        path = self._path(data, split, tower, layer, setting, encoder)
        try:
            if not path.exists() and not self._make_room(self._size(rows, tower)):
                return None
            build_once(
                path,
                lambda target: self._compute(
                    target, data, split, rows, tower, layer, setting, encoder, device, progress
                ),
            )
            os.utime(path)
            tokens = np.load(path, mmap_mode="r")
        except FileNotFoundError:
            # Another process made room by removing the file between two of these lines.
            return None
        return PrefixFeatures(tokens, layer, _mask_of(rows, tower.modality))

    def _path(
        self,
        data: PreparedData,
        split: str,
        tower: Tower,
        layer: int,
        setting: TrainingSetting,
        encoder: str,
    ) -> Path:
        what = "|".join([data.key, encoder, tower.modality, setting.attention, setting.precision])
        key = hashlib.sha256(what.encode()).hexdigest()[:16]
        return self.folder / f"{key}-{split}-{layer:02d}.npy"

    def _compute(
        self,
        target: Path,
        data: PreparedData,
        split: str,
        rows: PreparedSplit,
        tower: Tower,
        layer: int,
        setting: TrainingSetting,
        encoder: str,
        device: torch.device,
        progress: Progress | None,
    ) -> None:
        below = None
        for lower in range(layer - 1, -1, -1):
            path = self._path(data, split, tower, lower, setting, encoder)
            if path.exists():
                below = PrefixFeatures(np.load(path, mmap_mode="r"), lower, _mask_of(rows, tower.modality))
                break
        out: np.memmap | None = None
        tower.to(device).eval()
        for first in range(0, len(rows), _ROWS):
            index = torch.arange(first, min(first + _ROWS, len(rows)))
            inputs = below.sequence(index) if below else rows.inputs(tower.modality, index)
            with torch.no_grad(), setting.autocast(device):
                tokens = tower.encode(to_device(inputs, device), layer).tokens.float().cpu().numpy()
            if out is None:
                out = np.lib.format.open_memmap(
                    target, mode="w+", dtype=tokens.dtype, shape=(len(rows), *tokens.shape[1:])
                )
            out[first : first + len(index)] = tokens
            if progress:
                progress(f"{tower.modality} layer {layer}, {split}", first + len(index), len(rows))
        assert out is not None
        out.flush()

    def _size(self, rows: PreparedSplit, tower: Tower) -> int:
        with torch.no_grad():
            one = tower.encode(to_device(rows.inputs(tower.modality, torch.arange(1)), _device(tower)), 0)
        return len(rows) * one.tokens.numel() * 4

    def _make_room(self, size: int) -> bool:
        if size > self.limit:
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        files = [(path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.glob("*.npy")]
        used = sum(file_size for _, file_size, _ in files)
        for _, file_size, path in sorted(files):
            if used + size <= self.limit:
                break
            path.unlink(missing_ok=True)  # processes that have it mapped keep their pages
            used -= file_size
        return True


def to_device(inputs: object, device: torch.device) -> Sequence | dict[str, Tensor]:
    """Move one modality's input to a device."""
    if isinstance(inputs, Sequence):
        mask = None if inputs.mask is None else inputs.mask.to(device)
        return Sequence(inputs.tokens.to(device), mask, inputs.layer)
    assert isinstance(inputs, dict)
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def _device(tower: Tower) -> torch.device:
    return next(tower.parameters()).device


def _mask_of(rows: PreparedSplit, modality: str) -> Callable[[Tensor], Tensor | None]:
    return rows.mask if modality == "text" else lambda _: None
