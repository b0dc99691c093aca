"""Texts, which are tokenised and padded to one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
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
    first_ones,
    measured,
    not_taken,
)
from trainables.reading_settings import ReadingSettings
from trainables.towers import EncoderSource, InputSizes, load_tokenizer

if TYPE_CHECKING:
    from trainables.data.source import Dataset

#: Texts of a batch are padded to a multiple of this number of tokens, so that there are few different shapes.
TEXT_STEP = 8


class Text(Kind):
    """Strings. The blank is the empty text."""

    name = "text"
    noun = "text"
    expected = "string"

    def takes(self, column: pa.DataType) -> bool:
        """Return whether values may be stored in a column of this type."""
        return pa.types.is_string(column) or pa.types.is_large_string(column)

    def contents(self, values: pa.Array) -> list[Content]:
        """Return the texts."""
        texts: list[Content] = values.to_pylist()
        return texts

    def content(self, value: Any) -> Content:
        """Return a text that a user gives."""
        return value if value is None or isinstance(value, str) else not_taken(value, "a text")

    def facts(
        self,
        dataset: Dataset,
        modality: str,
        encoder: EncoderSource,
        sizes: InputSizes,
        reading: ReadingSettings,
    ) -> Facts:
        """Return the number of tokens to which texts are cut or padded, and the encoder's fingerprint."""
        return {"length": sizes.text_length, "tokenizer": encoder.fingerprint()}

    def schema(self, facts: Facts) -> pa.Schema:
        """Return the columns of token ids, and of the number of real tokens."""
        return pa.schema({"ids": pa.list_(pa.int32(), facts["length"]), "tokens": pa.int32()})

    def convert(self, encoder: EncoderSource, facts: Facts, pool: Executor) -> Convert:
        """Return the function that tokenises texts."""
        tokenizer, length = load_tokenizer(encoder), facts["length"]

        def convert(texts: list[Content]) -> Converted:
            filled = ["" if text is None else text for text in texts]
            encoded = tokenizer(filled, truncation=True, max_length=length, padding="max_length")
            ids = np.asarray(encoded["input_ids"], dtype=np.int32)
            # A tokeniser without special tokens turns an empty text into padding only. One position then
            # counts as real, because attention needs at least one real token.
            lengths = np.maximum(np.asarray(encoded["attention_mask"]).sum(axis=1), 1)
            return Converted(
                {
                    "ids": pa.FixedSizeListArray.from_arrays(pa.array(ids.ravel()), length),
                    "tokens": pa.array(lengths.astype(np.int32)),
                }
            )

        return convert

    def cell_bytes(self, facts: Facts) -> int:
        """Return the bytes of a text's numbers."""
        return 4 * facts["length"] + 4

    def views(self, batch: pa.RecordBatch, facts: Facts) -> dict[str, np.ndarray]:
        """Return the token ids (C, T) and the numbers of real tokens (C,)."""
        ids = batch["ids"].flatten().to_numpy().reshape(batch.num_rows, facts["length"])
        return {"ids": ids, "tokens": batch["tokens"].to_numpy()}

    def inputs(self, cells: Mapping[str, np.ndarray], facts: Facts) -> dict[str, Tensor]:
        """Return ``input_ids`` (B, T) and ``attention_mask`` (B, T), which is True for real tokens."""
        return {
            "input_ids": torch.from_numpy(cells["ids"]).long(),
            "attention_mask": self.mask(cells, facts),
        }

    def mask(self, cells: Mapping[str, np.ndarray], facts: Facts) -> Tensor:
        """Return a mask (B, T) that is True for real tokens."""
        return first_ones(cells["tokens"], facts["length"])

    def trimmed(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return ids and mask, both (B, T), without most of the padding that all texts have."""
        longest = int(inputs["attention_mask"].sum(dim=1).max())
        length = -(-max(longest, 1) // TEXT_STEP) * TEXT_STEP
        return {name: tensor[:, :length] for name, tensor in inputs.items()}


def typical_text_length(dataset: Dataset, modality: str, encoder: EncoderSource) -> int:
    """Return a text length in tokens that at most one in a hundred training texts exceeds.

    The length is rounded up to a multiple of 8 and is at most the encoder's largest length.

    Args:
        dataset: The dataset.
        modality: The modality with the texts.
        encoder: The text encoder, which defines the tokeniser and the largest length.
    """

    def measure() -> float:
        tokenizer = load_tokenizer(encoder)
        column = dataset.modalities[modality].column
        lengths = [
            len(ids)
            for batch in dataset.batches("train", [column])
            for ids in tokenizer([text or "" for text in batch[column].to_pylist()])["input_ids"]
        ]
        return fitting(lengths)

    tokens = measured(dataset, modality, f"text length {encoder.fingerprint()}", measure)
    return rounded_length(tokens, encoder)


def fitting(lengths: Sequence[int] | np.ndarray) -> float:
    """Return the number of tokens that at most one in a hundred texts of these lengths exceeds."""
    return float(np.percentile(lengths, 99, method="higher"))


def rounded_length(tokens: float, encoder: EncoderSource) -> int:
    """Return a number of tokens rounded up to a multiple of 8, at most the encoder's largest length."""
    return min(int(-(-tokens // 8) * 8), encoder.max_text_length)
