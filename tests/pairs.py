"""A dataset of pairs: three views of the same samples, as extracted features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

#: Numbers of each view.
VIEWS = {"shape": 6, "stroke": 5, "slant": 4}
#: Rows of each split.
ROWS = {"train": 96, "validation": 40, "test": 40}


def write_pairs(folder: Path, described: Mapping[str, str] | None = None) -> Path:
    """Write the dataset, which has no label column; each view is a mixture of the same hidden numbers.

    Args:
        folder: A folder that is not there yet.
        described: Entries of the schema's metadata.
    """
    generator = np.random.default_rng(0)
    mixtures = {view: generator.normal(size=(4, size)) for view, size in VIEWS.items()}
    folder.mkdir()
    for split, rows in ROWS.items():
        hidden = generator.normal(size=(rows, 4))
        columns = {view: (hidden @ mixture).astype(np.float32) for view, mixture in mixtures.items()}
        table = pa.table({view: pa.array(list(values)) for view, values in columns.items()})
        metadata = {"paretofuse.modalities": json.dumps({view: view for view in VIEWS}), **(described or {})}
        pq.write_table(table.replace_schema_metadata(metadata), folder / f"{split}.parquet")
    return folder


def encoders_of_pairs() -> dict[str, str]:
    """Return a small new encoder for each view."""
    return {
        view: f"features:dim={size},width=16,depth=2,heads=2,max_length=1" for view, size in VIEWS.items()
    }
