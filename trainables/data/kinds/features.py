"""Extracted features: for each sample a vector, or a sequence of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from trainables.data.kinds.base import (
    Content,
    Convert,
    Converted,
    Facts,
    Kind,
    Unreadable,
    first_ones,
    measured,
    not_taken,
)
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.towers import EncoderSource, InputSizes

if TYPE_CHECKING:
    from trainables.data.source import Dataset

#: Smallest standard deviation by which a feature is divided; one that is the same in all rows stays 0.
_LEAST = 1e-6


class Features(Kind):
    """Lists of numbers, or lists of such lists, one for each step in time. All vectors have F numbers.

    They are standardised: from each feature its mean over all vectors of the training split is subtracted,
    and the result is divided by its standard deviation. The blank is one vector of zeros that the mask hides.
    """

    name = "features"
    noun = "value"
    expected = "a list of numbers, or a list of such lists"

    def takes(self, column: pa.DataType) -> bool:
        """Return whether values may be stored in a column of this type."""
        inner = _item(column)
        inner = _item(inner) or inner if inner is not None else None
        return inner is not None and (pa.types.is_floating(inner) or pa.types.is_integer(inner))

    def contents(self, values: pa.Array) -> list[Content]:
        """Return the vectors (T, F) of each cell in float32, all of which are finite."""
        return [_vectors(value) for value in values]

    def content(self, value: Any) -> Content:
        """Return vectors (T, F), or a single one (F,), that a user gives as an array or as lists."""
        if value is None:
            return None
        try:
            vectors = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError):
            return not_taken(value, "an array of one or two dimensions")
        if vectors.ndim not in (1, 2):
            shape = " x ".join(map(str, vectors.shape)) or "a single number"
            return Unreadable("an array of other than one or two dimensions", shape)
        if not vectors.size:
            return None
        if not np.isfinite(vectors).all():
            return Unreadable("a number that is not finite")
        return np.ascontiguousarray(np.atleast_2d(vectors))

    def facts(
        self,
        dataset: Dataset,
        modality: str,
        encoder: EncoderSource,
        sizes: InputSizes,
        reading: ReadingSettings,
    ) -> Facts:
        """Return the number of vectors to which cells are cut or padded, and each feature's statistics.

        Raises:
            UserError: If the encoder takes vectors of another size.
        """
        found = column_facts(dataset, modality)
        size = int(encoder.config.feature_size)
        if size != len(found["mean"]):
            raise UserError(
                f"dataset '{dataset.name}': vectors of {modality} have {len(found['mean'])} numbers; encoder "
                f"'{encoder.name}' takes {size}"
            )
        length = min(sizes.feature_length, int(encoder.config.max_position_embeddings))
        return {"length": length, "mean": found["mean"], "std": found["std"]}

    def schema(self, facts: Facts) -> pa.Schema:
        """Return the columns of numbers, and of the number of real vectors."""
        size = facts["length"] * len(facts["mean"])
        return pa.schema({"values": pa.list_(pa.float32(), size), "vectors": pa.int32()})

    def convert(self, encoder: EncoderSource, facts: Facts, pool: Executor) -> Convert:
        """Return the function that standardises vectors and pads them."""
        length, mean, std = (
            facts["length"],
            np.array(facts["mean"], np.float32),
            np.array(facts["std"], np.float32),
        )

        def convert(cells: list[Content]) -> Converted:
            values = np.zeros((len(cells), length, len(mean)), dtype=np.float32)
            lengths = np.zeros(len(cells), dtype=np.int32)
            bad = {}
            for number, cell in enumerate(cells):
                if cell is None:
                    continue
                assert isinstance(cell, np.ndarray)
                if cell.shape[1] != len(mean):
                    size = f"{cell.shape[1]:,} numbers"
                    bad[number] = Unreadable(f"a vector of other than {len(mean):,} numbers", size)
                    continue
                part = (cell[:length] - mean) / std
                values[number, : len(part)] = part
                lengths[number] = len(part)
            flat = pa.array(values.ravel())
            columns = {
                "values": pa.FixedSizeListArray.from_arrays(flat, length * len(mean)),
                "vectors": pa.array(lengths),
            }
            return Converted(columns, bad)

        return convert

    def cell_bytes(self, facts: Facts) -> int:
        """Return the bytes of a cell's numbers."""
        return 4 * int(facts["length"]) * len(facts["mean"]) + 4

    def views(self, batch: pa.RecordBatch, facts: Facts) -> dict[str, np.ndarray]:
        """Return the numbers (C, T, F) and the numbers of real vectors (C,)."""
        shape = batch.num_rows, facts["length"], len(facts["mean"])
        return {
            "values": batch["values"].flatten().to_numpy().reshape(shape),
            "vectors": batch["vectors"].to_numpy(),
        }

    def inputs(self, cells: Mapping[str, np.ndarray], facts: Facts) -> dict[str, Tensor]:
        """Return ``features`` (B, T, F) and ``attention_mask`` (B, T), which is True for real vectors."""
        return {
            "features": torch.from_numpy(cells["values"]),
            "attention_mask": first_ones(cells["vectors"], facts["length"]),
        }

    def mask(self, cells: Mapping[str, np.ndarray], facts: Facts) -> Tensor:
        """Return a mask (B, 1 + T) of the encoder's tokens; the first is [CLS]."""
        return torch.nn.functional.pad(first_ones(cells["vectors"], facts["length"]), (1, 0), value=True)


def column_facts(dataset: Dataset, modality: str) -> Facts:
    """Return what the training split shows of a modality of features.

    Vectors have the size that most samples have; others cannot be used.

    Returns:
        ``mean`` and ``std`` of each of the F features over all vectors; ``length``, the largest number of
        vectors of a sample.

    Raises:
        UserError: If no row has a vector that can be used.
    """
    column = dataset.modalities[modality].column

    def measure() -> Facts:
        cells = (
            cell
            for batch in dataset.batches("train", [column])
            for cell in Features().contents(batch[column])
            if isinstance(cell, np.ndarray)
        )
        of_size: dict[int, _Sums] = {}
        for cell in cells:
            of_size.setdefault(cell.shape[1], _Sums()).add(cell.astype(np.float64))
        if not of_size:
            raise UserError(
                f"dataset '{dataset.name}': column '{column}' has no usable vector in the train split"
            )
        sums = max(of_size.values(), key=lambda sums: sums.cells)
        mean = np.asarray(sums.total / sums.vectors)
        std = np.sqrt(np.maximum(sums.squares / sums.vectors - mean**2, 0))
        std[std < _LEAST * np.maximum(np.abs(mean), 1)] = 1
        return {"length": sums.longest, "mean": mean.tolist(), "std": std.tolist()}

    found: Facts = measured(dataset, modality, "features", measure)
    return found


@dataclass
class _Sums:
    """Sums over the vectors of one size."""

    cells: int = 0
    vectors: int = 0
    longest: int = 0
    total: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0

    def add(self, vectors: np.ndarray) -> None:
        """Add those of a cell (T, F)."""
        self.cells += 1
        self.vectors += len(vectors)
        self.longest = max(self.longest, len(vectors))
        self.total = self.total + vectors.sum(axis=0)
        self.squares = self.squares + (vectors**2).sum(axis=0)


def _item(column: pa.DataType) -> pa.DataType | None:
    """Return the type of a list's items; None for what is no list."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return column.value_type if any(check(column) for check in lists) else None


def _vectors(value: pa.Scalar) -> Content:
    """Return a cell's vectors (T, F); None if there is none."""
    if not value.is_valid or not len(value.values):
        return None
    values = value.values
    if _item(values.type) is None:
        vectors = values.to_numpy(zero_copy_only=False)[None]
    elif pa.types.is_fixed_size_list(values.type) and not values.null_count:  # at once: they may be many
        flat = values.flatten().to_numpy(zero_copy_only=False)
        vectors = flat.reshape(len(values), values.type.list_size)
    else:
        rows = [vector.values.to_numpy(zero_copy_only=False) for vector in values if vector.is_valid]
        sizes = sorted({len(row) for row in rows})
        if len(sizes) > 1:
            return Unreadable("vectors of different sizes", f"{sizes[0]} and {sizes[-1]} numbers")
        if not rows:
            return None
        vectors = np.stack(rows)
    vectors = vectors.astype(np.float32)
    return vectors if np.isfinite(vectors).all() else Unreadable("a number that is not finite")
