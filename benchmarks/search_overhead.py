"""Wall time of a search against a plain Ray Tune script, for the same configurations.

The plain script, ``plain_search.py``, is a simple first version of a search. It is run in fp32 and in
bfloat16 autocast. A search, ``our_search.py``, trains the same configurations with the same settings,
resources and number of concurrent trials, in the precision that it chooses by default. It is run with an
empty cache, and again with the cache that the first search has left.

Each of the four runs is a process of its own with a Ray of its own. Its time is that of the whole process,
from its start to its exit. The searches run first, so the plain script finds the prepared data and the
converted encoder in the cache: only the search with an empty cache pays for them. Searches also score the
front on the test split, and write checkpoints and MLflow runs, which the plain script does not.

The ledger shows where the time goes. What trials do at the same time counts as the sum over trials divided
by the number of concurrent trials: ``building`` loads encoders and data and fills the cache. ``waiting`` is
what is left of the time of the trials; the plain script starts a worker for each of them. Our ``set-up``
looks up and predicts, and our ``end`` writes the results and MLflow.

    python benchmarks/search_overhead.py [--epochs 2] [--out benchmarks/results/search_overhead.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from plain_search import BATCH, CONFIGS, IMAGE_SIZE, TEXT_LENGTH

HERE = Path(__file__).parent
#: The runs: name, script and precision. None leaves the choice to the search.
PLAIN = {"plain, fp32": "fp32", "plain, bf16": "bf16"}
OURS = ("ours, empty cache", "ours, full cache")


def run(script: str, arguments: list[str], folder: Path) -> dict[str, Any]:
    """Run a script as a process; return its results with the wall seconds of all its parts."""
    out = folder / "results.json"
    environment = {
        **os.environ,
        "PARETOFUSE_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(HERE.parent),
        "RAY_AIR_NEW_OUTPUT": "0",
    }
    started = time.time()
    subprocess.run(
        [sys.executable, str(HERE / script), *arguments, "--out", str(out)], env=environment, check=True
    )
    exited = time.time()
    results = json.loads(out.read_text())
    began, ended = results.pop("began"), results.pop("ended")
    parts = {
        "start of Python, imports": began - started,
        **results.pop("seconds"),
        "end of Python": exited - ended,
    }
    parts["other"] = exited - started - sum(parts.values())
    return {"script": script, "seconds": exited - started, "parts": parts, **results}


def table(runs: dict[str, dict[str, Any]]) -> str:
    """Return the runs as text, one column each: the ledger, the total, the ratios and the accuracies."""
    width = max(map(len, runs)) + 2
    parts = dict.fromkeys(part for name in (*OURS, *PLAIN) for part in runs[name]["parts"])
    lines = [" " * 26 + "".join(name.rjust(width) for name in runs)]
    for part in parts:
        cells = [f"{row['parts'][part]:.1f}" if part in row["parts"] else "" for row in runs.values()]
        lines.append(f"{part:26}" + "".join(cell.rjust(width) for cell in cells))
    lines.append(f"{'seconds':26}" + "".join(f"{row['seconds']:.1f}".rjust(width) for row in runs.values()))
    for plain in PLAIN:
        ratios = [runs[plain]["seconds"] / row["seconds"] for row in runs.values()]
        lines.append(f"{f'times as fast as {plain}':26}" + "".join(f"{x:.2f} x".rjust(width) for x in ratios))
    for name, row in runs.items():
        lines.append(
            f"{name}: validation accuracy " + " ".join(f"{value:.3f}" for value in row["accuracies"])
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--configs", type=int, default=len(CONFIGS), help="number of configurations")
    parser.add_argument("--precision", help="of our search; by default the one it chooses")
    parser.add_argument("--dataset", default="openclipart")
    parser.add_argument("--text-encoder", default="minilm")
    parser.add_argument("--image-encoder", default="dinov2-small")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search_overhead.json"))
    options = parser.parse_args()
    shared = [
        part
        for name in ("epochs", "configs", "dataset", "text_encoder", "image_encoder")
        for part in (f"--{name.replace('_', '-')}", str(getattr(options, name)))
    ]
    chosen = ["--precision", options.precision] if options.precision else []
    runs = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for name in OURS:
            runs[name] = run("our_search.py", [*shared, *chosen], folder)
        for name, precision in PLAIN.items():
            runs[name] = run("plain_search.py", [*shared, "--precision", precision], folder)
    runs = {name: runs[name] for name in (*PLAIN, *OURS)}
    print(table(runs))
    document = {
        "configs": CONFIGS[: options.configs],
        "epochs": options.epochs,
        "batch_size": BATCH,
        "text_length": TEXT_LENGTH,
        "image_size": IMAGE_SIZE,
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "ratios": {
            plain: {ours: runs[plain]["seconds"] / runs[ours]["seconds"] for ours in OURS} for plain in PLAIN
        },
        "runs": runs,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
