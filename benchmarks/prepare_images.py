"""How fast many pictures are prepared, and how much memory that takes.

Random pictures are written as JPEG files, and prepared from a folder of them and from one Parquet file, whose
rows are one row group, as pandas writes it. Each is prepared in a process of its own with an empty cache. Its
memory is compared with what it has at the moment before. The pictures that a single thread decodes in a
second show what the rest costs; on a machine that does other work, only computing times can be compared.
Linux only.

    python benchmarks/prepare_images.py [--rows 10000] [--side 500] [--out FILE]
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from trainables.data import open_dataset, prepare
from trainables.data.kinds.pixels import square
from trainables.towers import InputSizes, resolve_encoder
from trainables.units import MIB

#: Rows of the splits that are not measured.
_OTHERS = 3
_ALONE = 100  # pictures that a single thread decodes


def picture(number: int, side: int) -> bytes:
    """Return a JPEG file with soft and fine structure, as photographs have."""
    draw = np.random.default_rng(number)
    coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((side, side * 3 // 4), Image.Resampling.BICUBIC))
    grain = draw.integers(-8, 9, (*soft.shape[:2], 1))
    file = io.BytesIO()
    Image.fromarray((soft + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def write(folder: Path, rows: int, side: int) -> dict[str, Path]:
    """Write the pictures in both layouts, and return their folders."""
    layouts = {name: folder / name for name in ("files", "parquet")}
    (layouts["files"] / "img").mkdir(parents=True)
    layouts["parquet"].mkdir()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = list(pool.map(picture, range(rows), [side] * rows))
    names = [f"img/{number:05d}.jpg" for number in range(rows)]
    for name, content in zip(names, pictures, strict=True):
        (layouts["files"] / name).write_bytes(content)
    for layout, images in (("files", names), ("parquet", pictures)):
        for split, count in {"train": rows, "validation": _OTHERS, "test": _OTHERS}.items():
            labels = [number % 2 for number in range(count)]
            table = pa.table({"image": images[:count], "label": labels})
            pq.write_table(table, layouts[layout] / f"{split}.parquet", row_group_size=count)
    return layouts


def measure(folder: Path, encoder: str, size: int) -> dict[str, float]:
    """Prepare a dataset in this process, whose cache is empty.

    Returns:
        ``seconds``; ``cpu_seconds`` of all threads; and ``memory``, the bytes by which the process was larger
        than before, at most.
    """
    encoders = {"image": resolve_encoder("image", encoder)}
    dataset = open_dataset(str(folder))
    assert dataset.fingerprint  # reads all files once, as every search does
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start, cpu = _resident("VmRSS"), time.perf_counter(), time.process_time()
    data = prepare(dataset, encoders, InputSizes(image_size=size))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    assert len(data.split("train")) == dataset.count("train")
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "memory": _resident("VmHWM") - before}


def alone(side: int, size: int) -> float:
    """Return how many pictures one thread decodes in a second of its computing time."""
    pictures = [picture(number, side) for number in range(_ALONE)]
    start = time.process_time()
    for content in pictures:
        square(content, size, (255, 255, 255))
    return _ALONE / (time.process_time() - start)


def _resident(name: str) -> int:
    """Return the bytes in memory that this process has (``VmRSS``), or had at most (``VmHWM``)."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def main() -> None:
    """Print a table, and write a JSON file if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000, help="pictures")
    parser.add_argument("--side", type=int, default=500, help="their longer side in pixels")
    parser.add_argument("--image-size", type=int, default=224, help="side of the prepared squares in pixels")
    parser.add_argument("--image-encoder", default="dinov2-small", help="encoder that they are prepared for")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    found: dict[str, Any] = {**vars(args), "out": None, "cores": os.cpu_count()}
    found["alone"] = alone(args.side, args.image_size)
    print(f"one thread decodes {found['alone']:.0f} pictures in a second of computing time")
    with tempfile.TemporaryDirectory() as scratch:
        layouts = write(Path(scratch), args.rows, args.side)
        for layout, folder in layouts.items():
            os.environ["PARETOFUSE_CACHE"] = str(Path(scratch) / f"cache-{layout}")
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                row = process.submit(measure, folder, args.image_encoder, args.image_size).result()
            row["pictures_per_second"] = args.rows / row["seconds"]
            found[layout] = row
            print(
                f"{layout:8} {args.rows:,} pictures of {args.side} px: {row['seconds']:.1f} s, "
                f"{row['pictures_per_second']:.0f} a second, {row['cpu_seconds']:.1f} s of computing time, "
                f"{row['memory'] / MIB:.0f} MiB beyond the start"
            )
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
