"""The records of a search as a search leaves them, without a search."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.config import SearchConfig
from search.goals.objectives import get_objectives
from search.records.history import PROBE, History, TrialRecord
from search.records.outputs import KeptOutputs
from search.records.shelf import ENDED, State
from search.records.status import Status
from search.records.store import SearchStore
from search.units import GIB
from trainables.data import open_dataset
from trainables.memory import MemoryReport
from trainables.parameters import Range
from trainables.tasks import Task
from trainables.trial.outputs import Outputs

#: Memory in GiB and accuracy of the trials; the second one is dominated.
TRIALS = ((1.0, 0.5), (2.0, 0.25), (2.0, 0.75), (4.0, 1.0))
#: The objective of each task.
METRICS = {"classification": "accuracy", "multilabel": "macro_f1", "regression": "mae", "retrieval": "r_at_1"}
#: When the search began, in seconds since 1970.
BEGAN = 1_700_000_000.0


def configuration(number: int) -> dict[str, Any]:
    """Return the configuration of a trial."""
    return {
        "method": "pmf",
        "n_fusion_layers": 1 + number % 3,
        "n_query_prompts": 4,
        "n_query_context_prompts": 4,
        "n_fusion_context_prompts": 4,
        "translator_width": 192,
        "learning_rate": 1e-3 * (1 + number),
    }


def report_of(gib: float) -> MemoryReport:
    """Return a report with a number of GiB."""
    size = round(gib * GIB)
    return MemoryReport(size, size, 0, 0, 0, 0, trainable_parameters=10**6, checkpoint=4 * 10**6)


def finished(trial_id: str, gib: float, accuracy: float, number: int) -> TrialRecord:
    """Return a trial that has run two epochs."""
    epochs = [
        {
            **dict.fromkeys((*METRICS.values(), "weighted_f1"), accuracy),
            "accuracy": accuracy - 0.25 * (epoch == 1),
            "loss": 1.0,
            "step_time": 0.1,
            "epoch": float(epoch),
            "time": BEGAN + 10 * number + epoch,
            "expected_memory": gib / 4,
            "measured_memory": gib / 4,
        }
        for epoch in (1, 2)
    ]
    record = TrialRecord(trial_id, configuration(number), report_of(gib), number=number, epochs=epochs)
    record.test = {**dict.fromkeys((*METRICS.values(), "weighted_f1"), accuracy - 0.125), "loss": 1.25}
    return record


def outputs_of(task: Task, labels: Tensor, right: int, wrong_by: int = 1) -> Outputs:
    """Return outputs that are right on the first rows, and say something else on the others."""
    wrong = torch.arange(len(labels)) >= right
    if task.name == "classification":
        places = (labels + wrong_by * wrong) % task.output_size
        return np.asarray(4 * torch.eye(task.output_size)[places], dtype=np.float16)
    if task.name == "multilabel":
        flipped = torch.zeros_like(labels).bool()
        flipped[:, wrong_by % labels.shape[1]] = wrong
        return np.asarray(8 * (labels.bool() ^ flipped).float() - 4, dtype=np.float16)
    drawn = np.random.default_rng(right + wrong_by).uniform(1, 9, (len(labels), task.kept_size))
    return drawn.astype(np.float16)


def make_search(
    folder: Path,
    dataset: Path,
    *,
    end: State | None = State.FINISHED,
    records: Mapping[str, TrialRecord] | None = None,
    **settings: Any,
) -> Path:
    """Write the records of a search on a dataset into a folder, with outputs; return the folder."""
    metric = METRICS[settings.get("task", "classification")]
    given = {"space": "pmf_nas", "dataset": str(dataset), "target": "cpu", "num_samples": 4, "epochs": 2}
    options = {"objectives": ("memory", metric), "precision": "fp32", **given, **settings}
    config = SearchConfig(**options, name=folder.name, storage_path=str(folder.parent), created=BEGAN)
    opened = open_dataset(str(dataset), config.task)
    facts = {
        "dataset.fingerprint": opened.fingerprint,
        "task": opened.task.in_words(),
        **{f"dataset.{split}": opened.count(split) for split in ("train", "validation", "test")},
        **{f"dataset.{modality}.missing": 0.0 for modality in opened.modalities},
        **{f"encoder.{m}.{what}": "cls" for m in opened.modalities for what in ("fingerprint", "pooling")},
        "parameter learning_rate": json.dumps(Range(1e-4, 1e-2, log=True).to_dict()),
    }
    made = records or {
        f"trial-{number:03d}": finished(f"trial-{number:03d}", gib, accuracy, number)
        for number, (gib, accuracy) in enumerate(TRIALS)
    }
    reference = {"memory": 8.0, metric: 10.0 if metric == "mae" else 0.0}
    history = History(get_objectives(("memory", metric), opened.task), reference)
    with closing(
        SearchStore.create(
            folder,
            {
                "search_id": "made",
                "begun": True,
                "config": config.to_json(),
                "facts": facts,
                "task": opened.task.to_dict(),
                "reference": reference,
                "versions": {"python": "3.11.7", "paretofuse": "0.1.0", "torch": "2.13.0"},
                ENDED: end,
            },
        )
    ) as store:
        for record in made.values():
            history.add(record)
            if len(record.epochs) == 2:
                history.settle(record, Status.FINISHED)
            store.put_trial(record.trial_id, record.to_dict())
            for epoch, document in enumerate(record.epochs, 1):
                store.put_epoch(record.trial_id, epoch, document)
            store.put_point({**history.mark().to_dict(), "time": BEGAN + 10 * len(history.trials)})
        probe = replace(
            finished(PROBE, 0.5, 0.5, 9),
            config={"method": PROBE, "strength": 0.1},
            kind=PROBE,
            number=None,
            status=Status.FINISHED,
        )
        history.take_probes([probe, probe])
        store.put_facts(history.probe_facts())
    (folder / "config.json").write_text(config.to_json())
    kept = KeptOutputs(folder)
    everything = {**history.probes, **history.trials}
    for split in ("validation", "test"):
        labels = opened.labels(split)
        for place, record in enumerate(everything.values()):
            right = round(len(labels) * record.values.get("accuracy", 0))
            kept.write(record.trial_id, split, outputs_of(opened.task, labels, right, 1 + place % 2))
    return folder


@contextmanager
def held_open(folder: Path) -> Iterator[None]:
    """Let another process have the store of a search open, as one that runs the search has."""
    code = (
        "import sys, pathlib; from search.records.store import SearchStore; "
        "store = SearchStore.open(pathlib.Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()
