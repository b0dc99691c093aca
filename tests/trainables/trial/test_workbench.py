"""What processes of a search share on a machine: the data, and the cache of frozen prefixes."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.trials import PMF
from trainables.cache import building
from trainables.data import EncodedSplit, FeatureCache, features, open_dataset
from trainables.errors import UserError
from trainables.step import TrainingSetting
from trainables.task_settings import TaskSettings
from trainables.trial.run import TrialRun
from trainables.trial.workbench import TrialSpec, Workbench, opened

PAIRS = [(split, modality) for split in ("train", "validation") for modality in ("text", "image")]


@pytest.fixture
def filled(monkeypatch) -> list[tuple[str, str]]:
    """The splits and modalities whose features were asked for, in this order."""
    asked: list[tuple[str, str]] = []
    features = FeatureCache.features

    def noted(self: FeatureCache, of: EncodedSplit, *others: Any) -> Any:
        asked.append((of.split, of.tower.modality))
        return features(self, of, *others)

    monkeypatch.setattr(FeatureCache, "features", noted)
    return asked


def _busy_while_building(cache: FeatureCache, name: str, of: EncodedSplit) -> bool:
    with building(cache.folder, name):
        return cache.busy(of)


def test_what_another_process_computes_comes_last(trial_spec, filled) -> None:
    run = TrialRun(trial_spec, PMF)
    assert filled[: len(PAIRS)] == PAIRS
    filled.clear()

    cache = FeatureCache(2**30)
    texts = run.bench.encoded("train", run.method.tower("text"), run.setting)
    made = sorted(path.name.rpartition("-")[0] for path in cache.folder.glob("*-train-*.npy"))
    stem = next(name for name in made if _busy_while_building(cache, name, texts))
    started, enough = threading.Event(), threading.Event()

    def build() -> None:
        with building(cache.folder, stem):
            started.set()
            enough.wait(20)

    other = threading.Thread(target=build)
    other.start()
    started.wait(20)
    assert cache.busy(texts)
    bench = Workbench(trial_spec, run.bench.device)
    bench.fill(("train", "validation"), run.method, run.setting)
    enough.set()
    other.join()
    assert filled == [*PAIRS[1:], PAIRS[0]]
    assert not cache.busy(texts)


def test_what_was_filled_is_not_asked_for_again(trial_spec, filled) -> None:
    run = TrialRun(trial_spec, PMF)
    assert set(run.trainer.train_loader.features) == {"text", "image"}
    assert sorted(filled) == sorted(PAIRS)


def test_the_cache_is_filled_in_the_searchs_batches(trial_spec, monkeypatch) -> None:
    """The memory that must be free for it is predicted once for a search, for the batches of its setting."""
    spec = replace(trial_spec, setting=replace(trial_spec.setting, batch_size=6, gradient_accumulation=2))
    encoded = features.encoded
    rows: list[int] = []

    def noted(tower: Any, inputs: Any, *others: Any) -> Iterator[Any]:
        for sequence in encoded(tower, inputs, *others):
            rows.append(len(sequence.tokens))
            yield sequence

    monkeypatch.setattr(features, "encoded", noted)
    TrialRun(spec, replace(PMF, config=PMF.config | {"batch_size": 16}))
    assert max(rows) == 3


def test_other_data_at_the_same_path_are_refused(trial_spec, tmp_path, monkeypatch) -> None:
    copied = shutil.copytree(trial_spec.dataset, tmp_path / "copied")
    spec = replace(trial_spec, dataset=str(copied))
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "another machine"))
    assert Workbench(spec, torch.device("cpu")).data.key == spec.prepared

    shutil.copy(copied / "test.parquet", copied / "validation.parquet")
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "third machine"))
    with pytest.raises(UserError, match=f"dataset '{copied}': .* has other data"):
        Workbench(spec, torch.device("cpu"))


def test_splits_are_made_alike_on_all_machines(workplace, monkeypatch) -> None:
    rows = [
        {"text": f"text {number} {'of a pair' * (number % 3)}", "label": "|".join(tags)}
        for number, tags in enumerate(4 * [["a"], ["a", "b"], ["b"], ["b", "c"], ["c"], ["a", "c"]] * 4)
    ]
    file = workplace / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    settings = TaskSettings(task="multilabel", tag_delimiter="|")
    dataset = open_dataset(str(file), settings)
    there = TrialSpec(
        dataset=str(file),
        prepared="",
        task=dataset.task.to_dict(),
        task_settings=settings,
        encoders={"text": "arch:bert-base"},
        pooling={},
        kinds={},
        fingerprints={},
        setting=TrainingSetting(target="cpu"),
        epochs=1,
    )
    assert opened(there).fingerprint == dataset.fingerprint
