"""Gives damaged datasets, pictures, sounds and encoders to the program, and counts what goes wrong.

Each case writes a small undamaged input, damages one of its files, and reads it as a search does before its
first trial. What may come of it:

- *refused*: with one line;
- *same*: what is read is what was read before;
- *said*: it is read, and a note, a remark or the list of bad rows says something that it did not say before;
- *in place*: it is read, and no reader can know better. As many rows are there as before, and no more of them
  differ than bytes were damaged; a value that a file holds once, such as a dictionary's, counts once. A text
  file that was cut at the end of a line may lack its last rows, one with a line twice may have a row more,
  and one that holds a single text may have less of it. Of numbered archives, the last one may be missing.

What is a fault, and makes the script end with exit code 1:

- *traceback*: any other exception than the program's own, or the end of the process;
- *silent*: other rows have other values, or rows are missing, without a word;
- *slow*: it took more than 20 seconds of computing, or two minutes;
- *lines*: it was refused in several lines.

    python benchmarks/bad_data.py --cases 5000 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bad_data_inputs import Seen, Subject, parquet_bytes, subjects
from damage import damage
from damage_text import STRUCTURE, damage_text, swap_types
from rich.console import Console
from rich.table import Table

from trainables.errors import UserError
from trainables.testing.layouts.formats import png

OUT = Path(__file__).parent / "results" / "bad_data.json"
FAULTS = ("traceback", "silent", "slow", "lines")
OUTCOMES = ("refused", "same", "said", "in place", *FAULTS)

#: Damages to files as a whole, after which no more than one row may differ.
WHOLE = ("emptied", "zeroed", "foreign", "folder", "missing")
DAMAGES = ("flipped", "cut", *WHOLE, *STRUCTURE, "swapped")

#: What stands in the place of a file, by the ending of its name.
FOREIGN = {
    "png": png(7),
    "html": b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
    "parquet": parquet_bytes(),
    "json": b'{"a": [1, 2]}',
    "txt": b"some words\nin two lines\n",
    "bytes": bytes(range(256)) * 4,
}
_MEDIA = re.compile(r"\.(png|jpe?g|wav)$")
_GIB = 2**30
_ATTEMPTS = 10  # files that are drawn for one kind of damage
#: Seconds of computing that a case may take, and seconds after which it is ended.
LIMIT, END = 20.0, 120


@dataclass
class Outcome:
    """What became of a case."""

    subject: str
    number: int
    file: str = ""
    damage: str = ""
    outcome: str = "same"
    said: str = ""
    seconds: float = 0.0
    details: str = ""


@dataclass(frozen=True)
class Place:
    """An undamaged input, and what is read of it.

    Attributes:
        address: Its address.
        folder: The folder that it is in.
        files: The files, by path below the folder.
        seen: What is read of it.
    """

    address: str
    folder: Path
    files: dict[str, bytes]
    seen: Seen

    def restore(self, name: str) -> None:
        """Make a file as it was."""
        path = self.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)  # an earlier case may have mapped it, and keeps what it has mapped
        path.write_bytes(self.files[name])


class Fuzzer:
    """Runs cases in a folder.

    Args:
        folder: An empty folder.
        seed: Seed of all draws.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.places: dict[str, Place] = {}
        for name, content in FOREIGN.items():
            (folder / name).write_bytes(content)

    def run(self, subject: Subject, number: int) -> Outcome:
        """Run a case of a subject; the number determines all about it."""
        draw = random.Random(f"{self.seed} {subject.name} {number}")
        place = self._place(subject)
        outcome = Outcome(subject.name, number)
        for attempt in itertools.count():  # until a file is drawn to which the damage applies
            intended = attempt < _ATTEMPTS
            outcome.damage = DAMAGES[number % len(DAMAGES)] if intended else draw.choice(DAMAGES)
            outcome.file = self._draw_file(place, subject, draw)
            before, path = place.files[outcome.file], place.folder / outcome.file
            if self._damage(path, outcome.damage, draw):
                break
            place.restore(outcome.file)
        try:
            _look(subject, place, outcome, before, path)
        finally:
            place.restore(outcome.file)
        return outcome

    def _place(self, subject: Subject) -> Place:
        if subject.name not in self.places:
            folder = self.folder / str(len(self.places)) / "data"
            folder.mkdir(parents=True)
            address = subject.write(folder)
            files = {str(path.relative_to(folder)): path.read_bytes() for path in _files(folder)}
            self.places[subject.name] = Place(address, folder, files, subject.look(address, folder))
        return self.places[subject.name]

    def _draw_file(self, place: Place, subject: Subject, draw: random.Random) -> str:
        if subject.of_contents:
            return draw.choice([name for name in place.files if name != "rows.jsonl"])
        others = [name for name in place.files if not _MEDIA.search(name)]
        return draw.choice(others if others and draw.random() < 0.8 else [*place.files])

    def _damage(self, path: Path, how: str, draw: random.Random) -> bool:
        if how in STRUCTURE:
            return damage_text(path, how, draw)
        if how == "swapped":
            return swap_types(path, draw)
        return damage(path, how, self.folder / draw.choice([*FOREIGN]), draw)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _look(subject: Subject, place: Place, outcome: Outcome, before: bytes, path: Path) -> None:
    """Read a damaged input, and judge what comes of it."""
    after = path.read_bytes() if path.is_file() else b""
    began = _computing()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(None):
            warnings.simplefilter("ignore")
            seen = subject.look(place.address, place.folder)
    except UserError as error:
        outcome.said = str(error)
        outcome.outcome = "lines" if "\n" in outcome.said else "refused"
    except Exception as error:  # any other one is a fault
        outcome.outcome, outcome.said = "traceback", f"{type(error).__name__}: {error}"
        outcome.details = traceback.format_exc()
    else:
        outcome.outcome = judged(_special(outcome.damage, path), before, after, place.seen, seen)
        outcome.said = "; ".join(sorted(seen.said - place.seen.said))
        if outcome.outcome == "silent":
            lost, gained = place.seen.rows - seen.rows, seen.rows - place.seen.rows
            outcome.details = f"lost {lost}\ngained {gained}"
    outcome.seconds = round(_computing() - began, 2)
    if outcome.seconds > LIMIT and outcome.outcome not in FAULTS:
        outcome.outcome = "slow"


def _special(how: str, path: Path) -> str:
    """Return the kind of damage to a file, which is a special one to single texts and last archives."""
    if how == "cut" and path.suffix == ".txt":
        return "shortened"
    archives = path.parent.glob(f"{path.name.partition('-')[0]}-*.tar")
    if how == "missing" and path.suffix == ".tar" and all(path.name > other.name for other in archives):
        return "last missing"
    return how


def _computing() -> float:
    """Return the seconds that this process and its children have computed."""
    return sum(os.times()[:4])


def judged(how: str, before: bytes, after: bytes, whole: Seen, seen: Seen) -> str:
    """Return what became of a damaged input that was read.

    Args:
        how: The kind of damage.
        before: The file's bytes.
        after: Its bytes after the damage.
        whole: What is read of the undamaged input.
        seen: What was read.
    """
    if _numberless(seen.said) - _numberless(whole.said):
        return "said"
    lost, gained = whole.rows - seen.rows, seen.rows - whole.rows
    if not lost and not gained:
        return "same"
    if how == "doubled" and not lost and gained.total() == 1:
        return "in place"
    ends_a_line = after.endswith(b"\n") or before[len(after) :].startswith((b"\n", b"\r\n"))
    if not gained and (how == "last missing" or (how == "cut" and ends_a_line)):
        return "in place"
    if lost.total() == gained.total() and _changes(lost, gained) <= _damaged(how, before, after):
        return "in place"
    return "silent"


def _numberless(lines: frozenset[str]) -> set[str]:
    """Return lines without their numbers, so that another number of rows is no other line."""
    return {re.sub(r"\d+", "0", line) for line in lines}


def _damaged(how: str, before: bytes, after: bytes) -> int:
    """Return how many values may differ."""
    if how == "flipped":
        return sum(x != y for x, y in zip(before, after, strict=True))
    return 0 if how in ("cut", "swapped") else 1


def _changes(lost: Counter[tuple[str, ...]], gained: Counter[tuple[str, ...]]) -> int:
    """Return how many values differ, if that explains all rows that do; otherwise how many rows differ."""
    old, new = ({value for row in rows for value in row} for rows in (lost, gained))
    gone = old - new
    explained = all(gone & {*row} for row in lost)
    return min(lost.total(), len(gone)) if explained else lost.total()


# In a process of its own, so that a case that ends it, or takes all memory, is a case like any other.


@cache
def _fuzzer(folder: str, seed: int) -> Fuzzer:
    own = Path(folder) / str(os.getpid())
    own.mkdir()
    return Fuzzer(own, seed)


def _start(folder: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (6 * _GIB, 6 * _GIB))
    os.environ |= {"PARETOFUSE_CACHE": f"{folder}/cache", "HF_HOME": f"{folder}/hf", "HF_HUB_OFFLINE": "1"}
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # decoders in C print
    import torch

    torch.set_num_threads(1)


def _case(folder: str, seed: int, name: str, number: int) -> Outcome:
    signal.alarm(END)  # which ends the process
    try:
        return _fuzzer(folder, seed).run(subjects()[name], number)
    finally:
        signal.alarm(0)


def run_cases(cases: Sequence[tuple[str, int]], seed: int, folder: str) -> Iterator[Outcome]:
    """Run cases one after the other in another process, and in a new one after one that ended it."""
    waiting = list(reversed(cases))
    while waiting:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start, (folder,)) as pool:
            while waiting:
                name, number = waiting.pop()
                began = time.monotonic()
                try:
                    yield pool.submit(_case, folder, seed, name, number).result()
                except BrokenProcessPool:
                    seconds = time.monotonic() - began
                    outcome = "slow" if seconds >= END else "traceback"
                    yield Outcome(name, number, outcome=outcome, said="the process ended", seconds=seconds)
                    break


def run_in_processes(cases: list[tuple[str, int]], seed: int, jobs: int) -> list[Outcome]:
    """Run cases in several processes; those of a subject in the same one."""
    names = sorted({name for name, _ in cases})
    of_subject = [[case for case in cases if case[0] == name] for name in names]
    lots = [[case for some in of_subject[lane::jobs] for case in some] for lane in range(jobs)]
    with (
        tempfile.TemporaryDirectory(prefix="bad-data-", ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(jobs) as lanes,
    ):
        done = lanes.map(lambda lot: [*_told(run_cases(lot, seed, folder))], lots)
        return [outcome for lot in done for outcome in lot]


def _told(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """Yield outcomes, and print each fault."""
    for o in outcomes:
        if o.outcome in FAULTS:
            print(f"{o.outcome}: {o.subject} {o.number}: {o.damage} {o.file}: {o.said[:300]}", flush=True)
        yield o


def cases_of(names: Sequence[str], count: int) -> list[tuple[str, int]]:
    """Return as many cases of each subject as ``count`` allows: its name, and the number of the case."""
    return [(names[case % len(names)], case // len(names)) for case in range(count)]


def show(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print the number of each outcome by subject."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    for outcome in OUTCOMES:
        table.add_column(outcome, justify="right")
    for name, counts in counted(outcomes).items():
        table.add_row(name, *(str(counts.get(each, "")) for each in OUTCOMES))
    console.print(table)


def counted(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Return the number of each outcome by subject, and of all."""
    names = sorted({outcome.subject for outcome in outcomes})
    of = {name: Counter(o.outcome for o in outcomes if o.subject == name) for name in names}
    of["all"] = Counter(outcome.outcome for outcome in outcomes)
    return {name: {each: counts[each] for each in OUTCOMES if counts[each]} for name, counts in of.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", default="", help="a part of the names of subjects")
    parser.add_argument("--details", type=Path, help="a file for the tracebacks of all faults")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    began = time.monotonic()
    names = [name for name in subjects() if options.only in name]
    outcomes = run_in_processes(cases_of(names, options.cases), options.seed, options.jobs)
    faulty = [outcome for outcome in outcomes if outcome.outcome in FAULTS]
    show(outcomes, Console(width=120))
    if options.details:
        texts = [json.dumps(asdict(each), indent=1).replace("\\n", "\n") for each in faulty]
        options.details.write_text("\n\n".join(texts))
    document: dict[str, Any] = {
        "seed": options.seed,
        "cases": len(outcomes),
        "seconds": round(time.monotonic() - began),
        "faults": [{k: v for k, v in asdict(o).items() if k != "details"} for o in faulty],
        "damages": dict(sorted(Counter(outcome.damage for outcome in outcomes).items())),
        "outcomes": counted(outcomes),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1))
    print(f"written to {options.out}")
    sys.exit(bool(faulty))


if __name__ == "__main__":
    main()
