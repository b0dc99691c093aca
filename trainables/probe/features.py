"""The pooled vectors of frozen encoders, computed once per machine for each way of reading an encoder."""

from __future__ import annotations

import copy
import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.cache import build_once, cache_dir
from trainables.cache.entries import release
from trainables.data import EncodedSplit, FeatureCache, NoRoomError, PreparedData
from trainables.data.features import as_array, as_tensor, encoded, stored_type, to_device
from trainables.progress import Tick, no_tick
from trainables.towers import Sequence, Tower

#: Number of rows whose features are read at once.
_AT_ONCE = 1024


def pooled_features(
    of: EncodedSplit,
    cache: FeatureCache | None = None,
    *,
    needed: Collection[int] = (),
    cells: Tensor | None = None,
    tick: Tick = no_tick,
) -> dict[str, Tensor]:
    """Return the vectors of all rows of a split by each of the tower's poolings, of shape (N, D) each.

    They are what a method reads whose encoders are entirely frozen: the tokens are rounded after each layer
    as those in the feature cache are, and the vectors as well. The tokens of the last layer are not kept.
    What trials will read from the feature cache is put there on the way.

    Args:
        of: The split and its encoder.
        cache: The feature cache; None neither reads nor fills one.
        needed: Numbers of layers whose tokens trials will read from the feature cache.
        cells: Numbers of the cells whose vectors are returned; None returns those of all rows.
        tick: Called after each batch, and while another process that computes them makes progress.

    Raises:
        UserError: If they have to be computed and the cache folder may not be written or has no space.
    """

    def build(folder: Path) -> None:
        folder.mkdir()
        found = _compute(of, cache, needed, tick)
        for pooling, vectors in found.items():
            np.save(folder / f"{pooling}.npy", as_array(vectors))

    tower, setting = of.tower, of.setting
    key, how = of.data.key_of(of.split), (setting.attention, setting.precision)
    what = "|".join([key, of.encoder, tower.modality, *how, *tower.POOLINGS])
    name = f"{hashlib.sha256(what.encode()).hexdigest()[:16]}-{of.split}"
    entry = cache_dir() / "pooled" / name
    build_once(entry, build, tick)
    index = of.data.split(of.split).index[tower.modality] if cells is None else cells
    found = {pooling: as_tensor(np.load(entry / f"{pooling}.npy"))[index] for pooling in tower.POOLINGS}
    release(entry)
    return found


def own_features(
    data: PreparedData, split: str, modality: str, of_cells: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the features of all rows of a split as no encoder has changed them, of shape (N, F) each.

    A probe reads them where the encoder is new: its random weights would only blur them.

    Args:
        data: The prepared dataset.
        split: ``train``, ``validation`` or ``test``.
        modality: A modality of extracted features.
        of_cells: Numbers of the cells whose features are returned; None returns those of all rows.

    Returns:
        ``mean``, the mean of a row's vectors, and ``max``, the largest value of each feature, unless all rows
        have a single vector. A row without vectors has zeros.
    """
    rows = data.split(split)
    cells = rows.cells[modality]
    found: dict[str, list[Tensor]] = defaultdict(list)
    for part in torch.arange(len(cells)).split(_AT_ONCE):
        inputs = cells.inputs(part)
        for pooling in ("mean", "max") if inputs["features"].shape[1] > 1 else ("mean",):
            found[pooling].append(own_vectors(inputs, pooling))
    index = rows.index[modality] if of_cells is None else of_cells
    return {pooling: torch.cat(vectors)[index] for pooling, vectors in found.items()}


def own_vectors(inputs: Mapping[str, Tensor], pooling: str) -> Tensor:
    """Return the features of rows as one vector each, shape (B, F); zeros for a row without vectors.

    Args:
        inputs: ``features`` (B, T, F), and ``attention_mask`` (B, T), which is True for real vectors.
        pooling: ``mean`` or ``max``.
    """
    vectors, real = inputs["features"], inputs["attention_mask"][..., None]
    count = real.sum(dim=1)
    if pooling == "mean":
        return (vectors * real).sum(dim=1) / count.clamp(min=1)
    return vectors.masked_fill(~real, -torch.inf).amax(dim=1).masked_fill(count == 0, 0)


def read_by(tower: Tower, pooling: str) -> Tower:
    """Return the same tower, read by another pooling."""
    reader = copy.copy(tower)  # shares all modules
    reader.pooling = pooling
    return reader


def _compute(
    of: EncodedSplit, cache: FeatureCache | None, needed: Collection[int], tick: Tick
) -> dict[str, Tensor]:
    """Return the vectors of cells by pooling, from the deepest tokens on file or that trials will read."""
    tower, setting, below = of.tower, of.setting, None
    if cache is not None:
        held = cache.deepest(of)
        layers = [*needed, *([] if held is None else [held])]
        if layers:
            try:
                below = cache.features(of, max(layers), needed, tick)
            except NoRoomError:  # the trials will say so
                below = None
    tower.to(of.device).eval()
    readers = {pooling: read_by(tower, pooling) for pooling in tower.POOLINGS}
    found: dict[str, list[Tensor]] = defaultdict(list)
    for part in of.batches():
        inputs = to_device(below.of_cells(part) if below else of.cells.inputs(part), of.device)
        *_, last = inputs, *encoded(tower, inputs, tower.depth, setting)
        assert isinstance(last, Sequence)
        with torch.no_grad(), setting.autocast(of.device):
            finished = tower.finish(last)
            for pooling, reader in readers.items():
                found[pooling].append(reader.pool(finished).to(stored_type(setting)).cpu())
        tick()
    return {pooling: torch.cat(vectors) for pooling, vectors in found.items()}
