"""Turn a folder of images and a CSV file into a dataset that can be searched.

    python examples/folder_to_parquet.py captions.csv images/ my_dataset
    python search.py --space pmf_nas --dataset my_dataset

The CSV file (UTF-8) has a header and the columns ``image`` (file name inside the folder), ``text`` and
``label``::

    image,text,label
    0001.jpg,a red bicycle at a wall,vehicle

An optional fourth column, ``split`` (train, validation or test), names the split of a row. Without it, about
80 % of the rows are for training and 10 % each for validation and test. A hash of the text decides, so the
result is the same in every run, and rows with the same text are always in the same split.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema([("text", pa.string()), ("image", pa.binary()), ("label", pa.string())])
SPLITS = ("train", "validation", "test")
LOT = 512  # rows held in memory


def main() -> None:
    parser = argparse.ArgumentParser(description="Images and a CSV file to Parquet, one file a split.")
    parser.add_argument("csv", type=Path, help="columns: image, text, label and, if wanted, split")
    parser.add_argument("images", type=Path, help="folder of the images")
    parser.add_argument("out", type=Path, help="folder for train.parquet, validation.parquet, test.parquet")
    args = parser.parse_args()

    splits: dict[str, list[dict[str, str]]] = {split: [] for split in SPLITS}
    with args.csv.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), 1):
            split = row.get("split") or hashed_split(row.get("text") or "")
            if missing := [name for name in SCHEMA.names if not row.get(name)]:
                raise ValueError(f"{args.csv} row {number}: no {missing[0]}")
            if not (args.images / row["image"]).is_file():
                raise ValueError(f"{args.csv} row {number}: there is no {args.images / row['image']}")
            if split not in SPLITS:
                raise ValueError(f"{args.csv} row {number}: split '{split}' is none of {', '.join(SPLITS)}")
            splits[split].append(row)
    if empty := [split for split, rows in splits.items() if not rows]:
        raise ValueError(f"{args.csv}: no rows for {', '.join(empty)}; say which in a column 'split'")

    args.out.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        with pq.ParquetWriter(args.out / f"{split}.parquet", SCHEMA) as writer:
            for first in range(0, len(rows), LOT):
                lot = rows[first : first + LOT]
                images = [(args.images / row["image"]).read_bytes() for row in lot]
                columns = [[row["text"] for row in lot], images, [row["label"] for row in lot]]
                writer.write_table(pa.table(columns, schema=SCHEMA))
        print(f"{args.out / split}.parquet: {len(rows)} rows")


def hashed_split(text: str) -> str:
    lot = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10
    return {8: "validation", 9: "test"}.get(lot, "train")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
