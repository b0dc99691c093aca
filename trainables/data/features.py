"""Cache of the frozen prefix's output, computed once per dataset and layer for all trials of a node."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from trainables.cache import ADVICE, building, cache_dir, checked, publish, ready
from trainables.cache.entries import (
    being_built,
    hold_for,
    in_use,
    last_used,
    partials,
    release,
    remove,
    size_of,
)
from trainables.data.cells import Cells
from trainables.data.prepared import PreparedData
from trainables.data.splits import SPLITS
from trainables.disk import disk_full, free_space, reserve, size_text
from trainables.errors import UserError
from trainables.progress import Tick, no_tick
from trainables.step.setting import TrainingSetting
from trainables.towers import ModalityInput, Sequence, Tower
from trainables.units import GIB

#: Bytes of a file's header, at most, and how often features are computed again that another process removes.
_HEADER, _TRIES = 256, 3


@dataclass(frozen=True)
class EncodedSplit:
    """A modality of a split, as a frozen encoder reads it.

    Attributes:
        data: The prepared dataset.
        split: ``train``, ``validation`` or ``test``.
        tower: The encoder.
        encoder: Fingerprint of the encoder.
        setting: Setting with the attention kernel, the precision and the batch size.
        device: Device on which the encoder runs.
    """

    data: PreparedData
    split: str
    tower: Tower
    encoder: str
    setting: TrainingSetting
    device: torch.device

    @property
    def cells(self) -> Cells:
        """The distinct inputs."""
        return self.data.split(self.split).cells[self.tower.modality]

    def batches(self) -> Iterator[Tensor]:
        """Yield the numbers of all cells in the batches of a training step, and so in no more memory."""
        yield from torch.arange(len(self.cells)).split(
            self.setting.batch_size // self.setting.gradient_accumulation
        )


@dataclass(frozen=True)
class PrefixFeatures:
    """Memory-mapped tokens of a split's distinct inputs after some layers of one tower.

    Attributes:
        tokens: The tokens of each cell, shape (C, T, D). NumPy has no bfloat16; its numbers are kept as their
            16 bits.
        layer: Number of layers that the tokens have passed.
        cells: The inputs, which know the masks of real tokens.
    """

    tokens: np.ndarray
    layer: int
    cells: Cells

    def of_cells(self, cells: Tensor) -> Sequence:
        """Return the tokens of the cells with these numbers (B,) in float32, as input of the next layer."""
        return Sequence(as_tensor(self.tokens[cells.numpy()]), self.cells.mask(cells), self.layer)


class NoRoomError(UserError):
    """The cache cannot take features. The message says which, and what is in the way."""


class FeatureCache:
    """Files of prefix outputs in the user's cache folder, with a limit on their total size.

    The prefix runs in evaluation mode on deterministic inputs, so that its output depends on the data only.
    Training on the cached output equals running the prefix in every step. The key of a file contains the
    prepared data (content of the dataset, tokeniser, sizes), the encoder (content of its weights), the
    attention kernel and the precision.

    Where steps compute in bfloat16, so do the tokens lie in the files, and they are rounded after each layer.
    The output of a layer is thus the same whichever layers below it were on file.

    Args:
        limit: Largest size of all files together in bytes, also of those that are being written. The least
            recently used files are removed to make room for new ones. A split that is larger than the limit,
            or than the space on the disk, is not cached.
    """

    def __init__(self, limit: int) -> None:
        self.folder = cache_dir() / "features"
        self.limit = limit

    def features(
        self, of: EncodedSplit, layer: int, others: Collection[int] = (), tick: Tick = no_tick
    ) -> PrefixFeatures:
        """Return a split's tokens after ``layer`` layers. They are computed if the cache lacks them.

        Args:
            of: The split and its encoder.
            layer: Number of layers that the tokens have passed.
            others: Numbers of layers that other trials may need. Tokens after these layers are stored too if
                they are computed on the way and no other file has to be removed for them.
            tick: Called after each batch, and while another process that computes them makes progress.

        Raises:
            NoRoomError: If they are larger than the limit or the space on the disk, or if they have to be
                computed and the cache may not be written.
        """
        files = self._files(of)
        what = f"the {of.tower.modality} features of the {of.split} split"
        for _ in range(_TRIES):
            try:
                if not ready(files.path(layer), files.stem, tick):
                    # Only one process at a time computes layers of a split; the next one can reuse its files
                    with building(self.folder, files.stem, tick) as scratch:
                        if not checked(files.path(layer)):
                            self._build(scratch, files, of, layer, others, tick)
            except UserError as error:
                raise NoRoomError(f"{what} cannot be cached: {error}") from error
            with contextlib.suppress(FileNotFoundError):  # another process may have made room
                tokens = np.load(files.path(layer), mmap_mode="r")
                hold_for(files.path(layer), tokens)
                return PrefixFeatures(tokens, layer, of.cells)
        raise NoRoomError(f"{what} were removed from the cache {_TRIES} times; raise --feature-cache-size")

    def busy(self, of: EncodedSplit) -> bool:
        """Return whether a process computes features of a split now."""
        return being_built(self.folder, self._files(of).stem)

    def deepest(self, of: EncodedSplit) -> int | None:
        """Return the largest number of layers of which the cache holds the tokens; None if it has none."""
        stem = self._files(of).stem
        return max(
            (int(path.stem.rpartition("-")[2]) for path in self.folder.glob(f"{stem}-*.npy")), default=None
        )

    def check(
        self,
        data: PreparedData,
        encoders: Mapping[str, str],
        prefixes: Mapping[str, Collection[int]],
        setting: TrainingSetting,
    ) -> None:
        """Remove the damaged ones of the files that a search may read, and say so.

        Args:
            data: The prepared dataset.
            encoders: Fingerprint of the encoder of each modality.
            prefixes: Numbers of layers whose output may be read, by modality.
            setting: Setting with the attention kernel and the precision.
        """
        for modality, layers in prefixes.items():
            for split in SPLITS:
                files = _Files(self.folder, data.key_of(split), split, modality, encoders[modality], setting)
                there = [path for path in map(files.path, sorted(layers)) if os.path.exists(path)]
                if not all(ready(path, files.stem) for path in there):
                    with building(self.folder, files.stem):
                        for path in there:
                            checked(path)
                for path in there:
                    release(path)

    def _files(self, of: EncodedSplit) -> _Files:
        key = of.data.key_of(of.split)
        return _Files(self.folder, key, of.split, of.tower.modality, of.encoder, of.setting)

    def _build(
        self,
        scratch: Path,
        files: _Files,
        of: EncodedSplit,
        layer: int,
        others: Collection[int],
        tick: Tick,
    ) -> None:
        """Compute a layer's file from the deepest lower layer on file."""
        cells, tower, setting = of.cells, of.tower, of.setting
        lower = next((i for i in reversed(range(layer)) if checked(files.path(i))), None)
        below = None
        if lower is not None:
            tokens = np.load(files.path(lower), mmap_mode="r")
            hold_for(files.path(lower), tokens)
            below = PrefixFeatures(tokens, lower, cells)
        on_the_way = {i for i in others if (-1 if lower is None else lower) < i < layer}
        size = self._size(cells, tower, setting)
        with contextlib.ExitStack() as stack:
            opened = self._reserve(scratch, files, layer, on_the_way, size, stack)
            tower.to(of.device).eval()
            for part in of.batches():
                inputs = below.of_cells(part) if below else cells.inputs(part)
                for sequence in encoded(tower, to_device(inputs, of.device), layer, setting):
                    if sequence.layer in opened:
                        tokens = sequence.tokens.to(stored_type(setting))
                        _append(opened[sequence.layer], as_array(tokens.cpu()), len(cells))
                tick()
            for file in opened.values():
                file.truncate()  # deeper layers may have fewer tokens than were reserved
        for i in opened:
            publish(scratch / files.path(i).name, files.path(i))

    def _size(self, cells: Cells, tower: Tower, setting: TrainingSetting) -> int:
        """Return the bytes of a file, at most; no layer has more values than the first one gets."""
        device = next(tower.parameters()).device
        with torch.no_grad(), setting.autocast(device):
            one = tower.encode(to_device(cells.inputs(torch.arange(1)), device), 0)
        return len(cells) * one.tokens.numel() * stored_type(setting).itemsize + _HEADER

    def _reserve(
        self,
        scratch: Path,
        files: _Files,
        layer: int,
        on_the_way: Collection[int],
        size: int,
        stack: contextlib.ExitStack,
    ) -> dict[int, IO[bytes]]:
        """Open new files of ``size`` bytes each, for a layer and, where there is room, for others before it.

        The space is reserved before anything is computed, and written without a memory map. A process that
        writes to a memory map is killed when the disk is full.
        """
        with FileLock(self.folder / "room.lock"):
            stored = sorted({layer, *on_the_way})
            if self._excess(size * len(stored)) > 0:
                stored = [layer]
            self._make_room(size * len(stored))
            opened: dict[int, IO[bytes]] = {}
            for i in stored:
                opened[i] = stack.enter_context((scratch / files.path(i).name).open("wb"))
                reserve(opened[i], size)
        return opened

    def _excess(self, size: int) -> int:
        """Return the bytes that have to be removed before ``size`` more can be written."""
        used = sum(map(size_of, [*self.folder.glob("*.npy"), *partials(self.folder)]))
        return max(used + size - self.limit, size - _usable_space(self.folder))

    def _make_room(self, size: int) -> None:
        """Remove the least recently used files until ``size`` bytes can be written.

        Raises:
            DiskFullError: If there is not enough space on the disk.
            UserError: If the limit does not allow it.
        """
        files = sorted((last_used(path), size_of(path), path) for path in self.folder.glob("*.npy"))
        shortage = size - _usable_space(self.folder)
        if shortage > 0:  # what a process has mapped takes space even after it was removed
            files = [file for file in files if not in_use(file[-1])]
        removable = sum(file_size for _, file_size, _ in files)
        if shortage > removable:
            raise disk_full(self.folder, ADVICE, size)
        excess = self._excess(size)
        if excess > removable:
            others = " with what other trials are writing" if self.limit >= size else ""
            raise UserError(
                f"they take {size_text(size)}, which{others} is more than the cache of "
                f"{size_text(self.limit)}; see --feature-cache-size"
            )
        for _, file_size, path in files:
            if excess <= 0:
                break
            with contextlib.suppress(OSError):  # it may be another user's
                remove(path, used=True)  # processes that have mapped the file can still read it
                excess -= file_size


@dataclass(frozen=True)
class _Files:
    """The files of one split and encoder, one for each number of layers."""

    folder: Path
    key: str
    split: str
    modality: str
    encoder: str
    setting: TrainingSetting

    @property
    def stem(self) -> str:
        setting = self.setting
        what = "|".join([self.key, self.encoder, self.modality, setting.attention, setting.precision])
        return f"{hashlib.sha256(what.encode()).hexdigest()[:16]}-{self.split}"

    def path(self, layer: int) -> Path:
        return self.folder / f"{self.stem}-{layer:02d}.npy"


def stored_type(setting: TrainingSetting) -> torch.dtype:
    """Return the type in which tokens are stored."""
    return torch.float32 if setting.precision == "fp32" else torch.bfloat16


def encoded(tower: Tower, inputs: ModalityInput, stop: int, setting: TrainingSetting) -> Iterator[Sequence]:
    """Yield a batch's tokens after each layer up to ``stop``, rounded as they are stored; without gradient.

    Args:
        tower: The encoder, on its device and in evaluation mode.
        inputs: Raw inputs, or tokens that have passed some layers, which are not yielded again.
        stop: Number of layers that the last tokens have passed.
        setting: Setting with the precision.
    """
    first = inputs.layer + 1 if isinstance(inputs, Sequence) else 0
    device = next(tower.parameters()).device
    for layer in range(first, stop + 1):
        with torch.no_grad(), setting.autocast(device):
            sequence = tower.encode(inputs, layer)
        inputs = replace(sequence, tokens=sequence.tokens.to(stored_type(setting)).float())
        yield inputs


def as_array(tokens: Tensor) -> np.ndarray:
    """Return tokens as an array, of their 16 bits if they are in bfloat16."""
    array: np.ndarray = (tokens.view(torch.uint16) if tokens.dtype == torch.bfloat16 else tokens).numpy()
    return array


def as_tensor(array: np.ndarray) -> Tensor:
    """Return the numbers that ``as_array`` has stored, in float32."""
    tokens = torch.from_numpy(array)
    return tokens.view(torch.bfloat16).float() if tokens.dtype == torch.uint16 else tokens


def _append(file: IO[bytes], tokens: np.ndarray, cells: int) -> None:
    """Write the next tokens (B, T, D) to a file of NumPy's format that will have those of ``cells`` cells."""
    if file.tell() == 0:
        described = np.lib.format.dtype_to_descr(tokens.dtype)
        header = {"descr": described, "fortran_order": False, "shape": (cells, *tokens.shape[1:])}
        np.lib.format.write_array_header_1_0(file, header)
    file.write(np.ascontiguousarray(tokens).data)


def _usable_space(folder: Path) -> int:
    """Return the bytes that the cache may still write. Some are left for logs and checkpoints."""
    return free_space(folder) - min(GIB, shutil.disk_usage(folder).total // 20)


def to_device(inputs: object, device: torch.device) -> Sequence | dict[str, Tensor]:
    """Move one modality's input to a device."""
    if isinstance(inputs, Sequence):
        mask = None if inputs.mask is None else inputs.mask.to(device)
        return Sequence(inputs.tokens.to(device), mask, inputs.layer)
    assert isinstance(inputs, dict)
    return {name: tensor.to(device) for name, tensor in inputs.items()}
