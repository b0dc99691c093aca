"""A folder in which ``bad_input.py`` runs the program, and the moment at which it stops a search."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from transformers.utils import logging

from search import cli
from search.nodes import Node
from search.oneshot.subnets import Answer
from search.records.place import inner_path
from search.testing.searching import finish, report
from search.units import GIB
from trainables.errors import UserError
from trainables.memory import MemoryReport
from trainables.memory.calibration import Calibration, save_calibration
from trainables.testing.tiny import saved_encoders
from trainables.trial.assignment import Assignment
from trainables.trial.probing import run_probes
from trainables.trial.run import TrialRun
from trainables.trial.trainer import DivergedError

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "benchmarks" / "tables" / "pmf_nas.parquet"
#: Exit codes of commands that nobody ends by a signal.
CODES = (0, 1, 2)
PATIENCE = 60.0  # seconds after which a case counts as hung
#: What a command may leave although it is refused: knowledge that costs time to gain, locks, and damaged
#: files that were set aside.
MEMOS = ("predictions.sqlite", "columns", "driver.json", "search.sqlite-wal", ".lock", ".damaged")

REPLAYED = [
    "--space",
    "pmf_nas",
    "--replay",
    "table.parquet",
    "--target",
    "cpu",
    "--epochs",
    "2",
    "--num-samples",
    "2",
]
ENCODERS = ["--text-encoder", "bert", "--image-encoder", "vit"]
SIZES = ["--text-length", "8", "--batch-size", "4", "--image-size", "32"]
TRAINING = ["--space", "pmf_nas", "--dataset", "data", *ENCODERS, "--batch-size", "4", "--epochs", "1"]
TRAINING += ["--num-samples", "2"]
BASES = {"predict": [*ENCODERS, *SIZES], "explain": [*ENCODERS, *SIZES], "calibrate": [*ENCODERS, *SIZES]}


#: Size and time of files by path; None for a folder.
Listing = dict[str, tuple[int, int] | None]


class Started(BaseException):
    """The program is about to start trials."""


class Hung(BaseException):
    """A case has run for too long."""


@dataclass
class Outcome:
    """How a case ended.

    Attributes:
        what: What was damaged, and how.
        arguments: The command line.
        code: The exit code; None if trials would have been started.
        faults: What went wrong.
        said: The last line of standard error.
        details: The traceback, or the files that were left.
    """

    what: str
    arguments: list[str]
    code: int | None = None
    faults: list[str] = field(default_factory=list)
    said: str = ""
    details: str = ""


class Pool:
    """Stands in for the actors that evaluate subnets."""

    def __init__(self, *_: Any) -> None:
        self.size = 1

    def precision(self) -> str:
        """Return the number format."""
        return "fp32"

    def shared(self) -> float:
        """Return the share of layers that subnets shared."""
        return 0.0

    def close(self) -> None:
        """Do nothing."""

    def evaluate(self, configs: list[dict[str, Any]]) -> Iterator[tuple[int, Answer]]:
        """Yield an answer for each subnet."""
        for index, _ in enumerate(configs):
            memory = MemoryReport(10**6 + index, 0, 0, 0, 0, 0, trainable_parameters=10, checkpoint=40)
            yield index, Answer(memory, {}, {"accuracy": 0.5, "loss": 1.0, "macro_f1": 0.5})


def start(*_: Any, **__: Any) -> None:
    """Start nothing."""
    raise Started


def train_once(setup: Any, trainable: Any, placement: Any, searcher: Any, *_: Any) -> bool:
    """Probe, and train one epoch of the space's first point, in this process, to read what they read."""
    if hasattr(setup.backend, "dataset"):
        spec = setup.backend.prepare(setup.space, Console(quiet=True)).spec
        with contextlib.suppress(UserError):  # there is no probe, and the search goes on
            run_probes(spec)
        with contextlib.suppress(DivergedError, UserError):  # the trial fails, and the search goes on
            TrialRun(spec, Assignment(config=setup.space.smallest(setup.context)[0], seed=0)).epoch()
    raise Started


def replay(copy: tuple[Path, Path] | None = None) -> Callable[..., bool]:
    """Return a function that finishes trials in this process; half-way, it copies the search's folder."""

    def run(setup: Any, trainable: Any, placement: Any, searcher: Any, *_: Any) -> bool:
        for number in range(setup.config.search.num_samples):
            tune_id, others = f"t{number}", {"macro_f1": 0.5, "step_time": 0.1}
            if not isinstance(searcher.suggest(tune_id), dict):
                break
            if copy is not None and number == 2:
                record = report(searcher, tune_id, 0.4)
                saved = copy[0] / f"trial-{number:03d}" / "checkpoint_000000"
                saved.mkdir(parents=True)
                (saved / "replay.json").write_text('{"epoch": 1}')
                searcher.recorder.save(tune_id, inner_path(str(saved)))
                assert record.checkpoint is not None
                shutil.copytree(copy[0], copy[1])
            finish(searcher, tune_id, 0.5 + number / 20, **others)
        return True

    return run


@contextlib.contextmanager
def seam(run_trials: Callable[..., Any] = start, pool: Callable[..., Any] = start) -> Iterator[None]:
    """Let the program come as far as its first trial, without Ray, MLflow and the Hugging Face hub."""
    tracker = mock.Mock(parent_id=None)
    replaced = {
        "search.running.cluster": lambda *_, **__: contextlib.nullcontext(),
        "search.running.is_own_ray": lambda: True,
        "search.running.find_nodes": lambda *_: [Node(cpus=2, memory=16 * GIB)],
        "search.precision.cpus_in_bf16": lambda nodes: {node.node_id: True for node in nodes},
        "search.running.Tracker": lambda *_, **__: tracker,
        "search.running.probe": lambda *_: None,
        "search.running.run_trials": run_trials,
        "search.oneshot.strategy.OneShot._train": lambda self: None,
        "search.oneshot.strategy.SubnetPool": pool,
        "trainables.memory.comparing.compare_device": start,
        "huggingface_hub.constants.HF_HUB_OFFLINE": True,
    }
    with contextlib.ExitStack() as stack:
        for name, value in replaced.items():
            stack.enter_context(mock.patch(name, value))
        yield


class Workplace:
    """A folder with searches, a cache and files of all kinds, which is restored after each case.

    Args:
        root: An empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.live, self.kept = root / "live", root / "kept"
        self.work, self.cache, self.home, self.tmp = (
            self.live / name for name in ("work", "cache", "home", "tmp")
        )
        for folder in (self.work, self.cache, self.home, self.tmp):
            folder.mkdir(parents=True)
        os.chdir(self.work)
        os.environ |= {
            "PARETOFUSE_CACHE": str(self.cache),
            "HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "HF_HUB_OFFLINE": "1",  # for processes
        }
        tempfile.tempdir = None
        logging.disable_progress_bar()
        self._write_files()
        self._write_searches()
        shutil.copytree(self.live, self.kept)

    def _write_files(self) -> None:
        work = self.work
        for family in ("bert", "vit"):
            shutil.copytree(saved_encoders()[family], work / family)
        shutil.copy(TABLE, work / "table.parquet")
        (work / "folder").mkdir()
        (work / "data").mkdir()
        (work / "text.txt").write_text("nothing of ours\n")
        (work / "other.json").write_text('{"mine": [1, 2]}')
        (work / "other.py").write_text("raise OSError('mine')\n")
        (work / "plugin.py").write_text("from trainables.methods import METHODS\n")
        Image.new("RGB", (8, 8)).save(work / "picture.png")
        pq.write_table(pa.table({"a": [1]}), work / "other.parquet")
        with contextlib.closing(sqlite3.connect(work / "other.sqlite")) as database:
            database.execute("CREATE TABLE mine (a)")
        draw = np.random.default_rng(0)
        for split, rows in (("train", 24), ("validation", 8), ("test", 8)):
            pictures = []
            for _ in range(rows):
                stored = io.BytesIO()
                Image.fromarray(draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(stored, "PNG")
                pictures.append(stored.getvalue())
            labels = [("red", "green")[row % 2] for row in range(rows)]
            texts = [f"a {label} square" for label in labels]
            columns = {"text": texts, "image": pictures, "label": labels}
            pq.write_table(pa.table(columns), work / "data" / f"{split}.parquet")

    def _write_searches(self) -> None:
        save_calibration(Calibration("GPU", "0", 8.0, GIB // 2, 0.01, 0.02, 9))
        runs = self.work / "runs"
        trials = ["--num-samples", "4", "--sampler", "tpe", "--seed", "3"]
        wanted = {
            "done": (REPLAYED + trials, replay((runs / "done", runs / "cut"))),
            "one": ([*TRAINING, "--strategy", "oneshot", "--num-samples", "8", "--finalists", "1"], replay()),
            "trained": (TRAINING, train_once),
        }
        for name, (arguments, run_trials) in wanted.items():
            with seam(run_trials, Pool):
                outcome = self.run(f"making {name}", [*arguments, "--name", name])
            if outcome.faults or outcome.code not in (None, 0):
                raise SystemExit(f"{outcome.what}: {outcome.said}\n{outcome.details}")

    def run(self, what: str, arguments: Sequence[str]) -> Outcome:
        """Run the program in this process."""
        outcome = Outcome(what, list(arguments))
        out, err = (
            io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace")
        )
        before = signal.signal(signal.SIGALRM, _hang)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                mock.patch.object(sys, "argv", ["search.py", *arguments]),
            ):
                cli.main()
        except SystemExit as ended:
            outcome.code = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
        except Started:
            pass
        except Hung:
            outcome.faults.append("hang")
            outcome.details = traceback.format_exc()
        except BaseException as error:
            outcome.code = 1
            outcome.faults.append("traceback")
            outcome.said = f"{type(error).__name__}: {error}"[:300]
            outcome.details = "".join(traceback.format_exception(error))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            os.chdir(self.work)
        out.flush()
        err.flush()
        said = err.buffer.getvalue().decode().strip()  # type: ignore[attr-defined]
        outcome.said = outcome.said or (said.splitlines()[-1][:300] if said else "")
        if outcome.code is not None and outcome.code not in CODES:
            outcome.faults.append("exit code")
        if "Traceback (most recent call last)" in said and "traceback" not in outcome.faults:
            outcome.faults.append("traceback")
            outcome.details = said
        # Notices may come first, such as one about a damaged file that was set aside.
        errors = [line.startswith("error: ") for line in said.splitlines()]
        if outcome.code == 2 and (sum(errors) != 1 or not errors[-1]):
            outcome.faults.append("more than a line")
            outcome.details = said[:2000]
        return outcome

    def check(self, outcome: Outcome, before: Listing | None = None) -> None:
        """Note which files a refused command has left or removed, and restore all files.

        Args:
            outcome: How the command ended.
            before: The files before it; None if they were as after ``restore``.
        """
        changed = listed(self.live).keys() ^ (listed(self.kept) if before is None else before).keys()
        left = [name for name in sorted(changed) if not any(memo in name for memo in MEMOS)]
        if outcome.code == 2 and left:
            outcome.faults.append("left behind")
            outcome.details = ", ".join(left[:10])
        self.restore()

    def restore(self) -> None:
        """Make the folder what it was."""
        now, before = listed(self.live), listed(self.kept)
        for name in sorted(now.keys() - before.keys()):
            _remove(self.live / name)
        for name, kind in before.items():
            if name not in now or now[name] != kind:
                _remove(self.live / name)
                if kind is None:
                    (self.live / name).mkdir(exist_ok=True)
                else:
                    shutil.copy2(self.kept / name, self.live / name)


def _hang(*_: Any) -> None:
    raise Hung


def listed(folder: Path) -> Listing:
    """Return all files with size and time, and all folders, below a folder."""
    found: Listing = {}
    for place, folders, files in os.walk(folder):
        relative = os.path.relpath(place, folder)
        for name in folders:
            found[os.path.normpath(os.path.join(relative, name))] = None
        for name in files:
            about = os.stat(os.path.join(place, name), follow_symlinks=False)
            found[os.path.normpath(os.path.join(relative, name))] = (about.st_size, about.st_mtime_ns)
    return dict(sorted(found.items()))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
