"""Cache of the frozen prefix's output, computed once per dataset and layer for all trials of a node."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from trainables.cache import cache_dir
from trainables.data.prepared import PreparedData, PreparedSplit
from trainables.step.setting import TrainingSetting
from trainables.towers import ModalityInput, Sequence, Tower


@dataclass(frozen=True)
class PrefixFeatures:
    """Memory-mapped tokens of all rows of a split after some layers of one tower.

    Attributes:
        tokens: The tokens, shape (N, T, D).
        layer: Number of layers that the tokens have passed.
        mask: Returns the mask of the rows' real tokens, shape (B, T), or None if no token is padding.
    """

    tokens: np.ndarray
    layer: int
    mask: Callable[[Tensor], Tensor | None]

    def sequence(self, rows: Tensor) -> Sequence:
        """Return the tokens of the rows with these numbers (B,), as input of the next layer."""
        return Sequence(torch.from_numpy(self.tokens[rows.numpy()]), self.mask(rows), self.layer)


class FeatureCache:
    """Files of prefix outputs in the user's cache folder, with a limit on their total size.

    The prefix runs in evaluation mode on deterministic inputs, so that its output depends on the data only.
    Training on the cached output equals running the prefix in every step. The key of a file contains the
    prepared data (content of the dataset, tokeniser, sizes), the encoder (content of its weights), the
    attention kernel and the precision.

    Args:
        limit: Largest size of all files together in bytes. The least recently used files are removed to make
            room for new ones. A split that is larger than the limit is not cached.
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
        others: Collection[int] = (),
    ) -> PrefixFeatures | None:
        """Return a split's tokens after ``layer`` layers. They are computed if the cache lacks them.

        Args:
            data: The prepared dataset.
            split: ``train``, ``validation`` or ``test``.
            tower: The encoder.
            layer: Number of layers that the tokens have passed.
            setting: Setting with the attention kernel, the precision and the batch size.
            encoder: Fingerprint of the encoder.
            device: Device on which the tokens are computed.
            others: Numbers of layers that other trials may need. Tokens after these layers are stored too if
                they are computed on the way and no other file has to be removed for them.

        Returns:
            The features, or None if they are larger than the limit.
        """
        rows = data.split(split)
        what = "|".join([data.key, encoder, tower.modality, setting.attention, setting.precision])
        stem = f"{hashlib.sha256(what.encode()).hexdigest()[:16]}-{split}"
        path = self._path(stem, layer)
        try:
            if not path.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                # Only one process at a time computes layers of a split; the next one can reuse its files
                with FileLock(self.folder / f"{stem}.lock"):
                    if not path.exists() and not self._build(
                        stem, rows, tower, layer, setting, device, others
                    ):
                        return None
            os.utime(path)
            tokens = np.load(path, mmap_mode="r")
        except FileNotFoundError:
            # Another process removed the file in the meantime to make room
            return None
        return PrefixFeatures(tokens, layer, _mask_of(rows, tower.modality))

    def _path(self, stem: str, layer: int) -> Path:
        return self.folder / f"{stem}-{layer:02d}.npy"

    def _build(
        self,
        stem: str,
        rows: PreparedSplit,
        tower: Tower,
        layer: int,
        setting: TrainingSetting,
        device: torch.device,
        others: Collection[int],
    ) -> bool:
        """Compute a layer's file from the deepest lower layer on file. Return False if it does not fit."""
        lower = max((i for i in range(layer) if self._path(stem, i).exists()), default=None)
        below = None
        if lower is not None:
            tokens = np.load(self._path(stem, lower), mmap_mode="r")
            below = PrefixFeatures(tokens, lower, _mask_of(rows, tower.modality))
        size = self._size(rows, tower, setting)
        stored = sorted({layer, *(i for i in others if (-1 if lower is None else lower) < i < layer)})
        if self._used() + size * len(stored) > self.limit:
            stored = [layer]
        if not self._make_room(size * len(stored)):
            return False
        partial = {i: self._path(stem, i).with_suffix(".partial") for i in stored}
        files: dict[int, np.memmap] = {}
        tower.to(device).eval()
        # The batches of a training step, so that this takes no more memory than a step
        for index in torch.arange(len(rows)).split(setting.batch_size // setting.gradient_accumulation):
            first = int(index[0])
            inputs = below.sequence(index) if below else rows.inputs(tower.modality, index)
            sequence: ModalityInput = to_device(inputs, device)
            for i in stored:
                with torch.no_grad(), setting.autocast(device):
                    sequence = tower.encode(sequence, i)
                tokens = sequence.tokens.float().cpu().numpy()
                if i not in files:
                    shape = (len(rows), *tokens.shape[1:])
                    files[i] = np.lib.format.open_memmap(partial[i], "w+", tokens.dtype, shape)
                files[i][first : first + len(index)] = tokens
        for i, file in files.items():
            file.flush()
            os.replace(partial[i], self._path(stem, i))
        return True

    def _size(self, rows: PreparedSplit, tower: Tower, setting: TrainingSetting) -> int:
        device = next(tower.parameters()).device
        with torch.no_grad(), setting.autocast(device):
            one = tower.encode(to_device(rows.inputs(tower.modality, torch.arange(1)), device), 0)
        return len(rows) * one.tokens.numel() * 4

    def _used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*.npy"))

    def _make_room(self, size: int) -> bool:
        if size > self.limit:
            return False
        files = [(path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.glob("*.npy")]
        used = sum(file_size for _, file_size, _ in files)
        for _, file_size, path in sorted(files):
            if used + size <= self.limit:
                break
            path.unlink(missing_ok=True)  # processes that have mapped the file can still read it
            used -= file_size
        return True


def to_device(inputs: object, device: torch.device) -> Sequence | dict[str, Tensor]:
    """Move one modality's input to a device."""
    if isinstance(inputs, Sequence):
        mask = None if inputs.mask is None else inputs.mask.to(device)
        return Sequence(inputs.tokens.to(device), mask, inputs.layer)
    assert isinstance(inputs, dict)
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def _mask_of(rows: PreparedSplit, modality: str) -> Callable[[Tensor], Tensor | None]:
    return rows.mask if modality == "text" else lambda _: None
