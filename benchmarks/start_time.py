"""The time until a command has answered, and until a person in front of a terminal sees its first sign.

Every command is started several times as a new process whose standard error is a terminal. The least time of
each kind counts, because other work on the machine can only add to it. A search is ended at its first sign.
The cache has the answer already, unless the row says that it is empty. Python's compiled files and the disk's
cache are warm, as they are for every start but the first.

    python benchmarks/start_time.py [--repeats 5] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).parents[1]
BASE = ("--text-encoder", "arch:bert-base", "--image-encoder", "arch:vit-base")


@dataclass(frozen=True)
class Command:
    """A command whose start is timed.

    Attributes:
        arguments: The arguments of the program.
        empty_cache: Whether it is started with an empty cache each time.
        whole: Whether it is waited for; else it is ended at its first sign.
        goal: Seconds in which it should have answered, or given its first sign if it is not waited for.
    """

    arguments: tuple[str, ...]
    empty_cache: bool = False
    whole: bool = True
    goal: float | None = None


COMMANDS = {
    "--help": Command(("--help",), goal=0.7),
    "methods": Command(("methods",), goal=0.7),
    "methods, cache empty": Command(("methods",), empty_cache=True),
    "spaces": Command(("spaces",), goal=0.7),
    "spaces, cache empty": Command(("spaces",), empty_cache=True),
    "encoders": Command(("encoders",)),
    "datasets": Command(("datasets",)),
    "predict (base/base)": Command(("predict", *BASE), goal=4.0),
    "predict (base/base), cache empty": Command(("predict", *BASE), empty_cache=True, goal=4.0),
    "--space pmf_nas": Command(("--space", "pmf_nas"), whole=False, goal=1.0),
    "--resume NAME": Command(("--resume", "nothing"), whole=False, goal=1.0),
}


@dataclass(frozen=True)
class Start:
    """How long a command took.

    Attributes:
        first_sign: Seconds until a word was shown.
        seconds: Seconds until its end; None if it was ended.
        user_seconds: Computing time in user mode until then; None if it was ended.
    """

    first_sign: float
    seconds: float | None
    user_seconds: float | None


def start(command: Command, environment: Mapping[str, str], folder: Path) -> Start:
    """Start a command in a folder and return its times."""
    ours, its = pty.openpty()
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "search.py"), *command.arguments],
        stdout=its,
        stderr=its,
        stdin=subprocess.DEVNULL,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    os.close(its)
    try:
        shown = _read(ours)
        while not re.search(rb"[A-Za-z]{3}", shown) and (more := _read(ours)):
            shown += more
        first_sign = time.perf_counter() - began
        if command.whole:
            while _read(ours):
                pass
        else:
            os.killpg(process.pid, signal.SIGKILL)
        _, status, used = os.wait4(process.pid, 0)
    finally:
        os.close(ours)
    process.returncode = os.waitstatus_to_exitcode(status)
    if not command.whole:
        return Start(first_sign, None, None)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command.arguments)} ended with exit code {process.returncode}")
    return Start(first_sign, time.perf_counter() - began, used.ru_utime)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # no process has it open any more, on Linux
        return b""


def best(command: Command, repeats: int, folder: Path) -> Start:
    """Return the least of each time of several starts."""
    cache = folder / "cache"
    environment = {**os.environ, "PARETOFUSE_CACHE": str(cache), "TERM": "xterm"}
    starts = []
    for number in range(repeats):
        if command.empty_cache:
            shutil.rmtree(cache, ignore_errors=True)
        elif command.whole and number == 0:
            start(command, environment, folder)
        starts.append(start(command, environment, folder))
    return Start(
        min(one.first_sign for one in starts),
        min((one.seconds for one in starts if one.seconds is not None), default=None),
        min((one.user_seconds for one in starts if one.user_seconds is not None), default=None),
    )


def measure(names: Sequence[str], repeats: int) -> dict[str, Start]:
    """Return the least times of commands, and print them as a table."""
    heading = f"seconds, least of {repeats}"
    print(f"{heading:34}{'first sign':>12}{'answer':>10}{'user CPU':>10}{'goal':>8}")
    found = {}
    with tempfile.TemporaryDirectory(prefix="start-") as name:
        for command in names:
            found[command] = row = best(COMMANDS[command], repeats, Path(name))
            print(
                f"{command:34}{_cell(row.first_sign):>12}{_cell(row.seconds):>10}{_cell(row.user_seconds):>10}"
                f"{_cell(COMMANDS[command].goal):>8}",
                flush=True,
            )
    return found


def _cell(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/start_time.json")
    options = parser.parse_args()

    rows = measure(options.commands, options.repeats)
    document = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cpus": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "repeats": options.repeats,
        "commands": {name: {**asdict(row), "goal": COMMANDS[name].goal} for name, row in rows.items()},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
