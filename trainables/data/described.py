"""What a dataset is understood to be, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trainables.data.missing import missing_rows
from trainables.data.prepared import PreparedData
from trainables.data.repeats import repeat_warnings, repeats_of
from trainables.data.rows import Rows, SomeRows
from trainables.data.source import Dataset
from trainables.data.splits import SPLITS
from trainables.towers import EncoderSource


def in_words(
    dataset: Dataset,
    encoders: Mapping[str, EncoderSource],
    rows: Mapping[str, int],
    data: PreparedData | None = None,
) -> str:
    """Return one line on a dataset: its rows, and the encoder, pooling and missing values of each modality.

    Args:
        dataset: The dataset.
        encoders: The encoder of each modality in use.
        rows: Number of rows of each split that are used.
        data: The dataset as it was prepared, which shows what cannot be read; None if it was not.
    """
    used = ", ".join(f"{count:,} {split}" for split, count in rows.items())
    stored: Rows = dataset.rows
    if isinstance(stored, SomeRows) and not stored.sources:  # else they are all rows of splits that were made
        stored = stored.rows
    left_out = sum(stored.count(split) - count for split, count in rows.items())
    unreadable = 0 if data is None else data.unreadable
    skipped = unreadable if data is not None and data.bad_rows == "skip" else 0
    shares = missing_shares(dataset, encoders) if data is None else data.missing_shares
    parts = []
    for modality, encoder in encoders.items():
        words = [encoder.name.rstrip("/").rpartition("/")[2]]
        if encoder.kind != modality:
            words.insert(0, encoder.kind)
        words.append(f"pooling {encoder.pooling}")
        if encoder.from_seed:
            words.append("new, trains with the method")
        if shares[modality]:
            words.append(f"{_percent(shares[modality])} missing")
        parts.append(f"{modality} ({', '.join(words)})")
    counts = {
        "left out": left_out - skipped,
        "left out: cannot be read": skipped,
        "with a value that cannot be read and counts as missing": unreadable - skipped,
    }
    left = ", ".join(f"{count:,} {how}" for how, count in counts.items() if count)
    left = f" ({left})" if left else ""
    return f"'{dataset.name}', rows: {used}{left}; {', '.join(parts)}"


def warnings_on(dataset: Dataset, modalities: Iterable[str]) -> list[str]:
    """Return what probably is not as the user wants it, as far as few looks tell, a sentence each."""
    rows = {split: dataset.count(split) for split in SPLITS}
    found = []
    for modality in modalities:
        repeats = repeats_of(dataset, modality)
        kind = dataset.modalities[modality].kind
        found += repeat_warnings(modality, kind, repeats.across, repeats.distinct, repeats.constant, rows)
    return found


def missing_shares(dataset: Dataset, modalities: Iterable[str]) -> dict[str, float]:
    """Return the share of rows, over all splits, in which each modality is missing."""
    total = sum(map(dataset.count, SPLITS))
    return {m: sum(map(len, missing_rows(dataset, m).values())) / total for m in modalities}


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %") if share >= 0.01 else "under 1 %"
