"""What processes of a search share on a machine: the cache of frozen prefixes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.trials import PMF
from trainables.cache import building
from trainables.data import FeatureCache
from trainables.trial.run import TrialRun
from trainables.trial.workbench import Workbench

PAIRS = [(split, modality) for split in ("train", "validation") for modality in ("text", "image")]


@pytest.fixture
def filled(monkeypatch) -> list[tuple[str, str]]:
    """The splits and modalities whose features were asked for, in this order."""
    asked: list[tuple[str, str]] = []
    features = FeatureCache.features

    def noted(self: FeatureCache, data: Any, split: str, tower: Any, *others: Any, **options: Any) -> Any:
        asked.append((split, tower.modality))
        return features(self, data, split, tower, *others, **options)

    monkeypatch.setattr(FeatureCache, "features", noted)
    return asked


def _busy_while_building(cache: FeatureCache, name: str, given: tuple[Any, ...]) -> bool:
    with building(cache.folder, name):
        return cache.busy(*given)


def test_what_another_process_computes_comes_last(trial_spec, filled) -> None:
    run = TrialRun(trial_spec, PMF)
    assert filled[: len(PAIRS)] == PAIRS
    filled.clear()

    cache = FeatureCache(2**30)
    given = (run.bench.data, "train", "text", run.setting, trial_spec.fingerprints["text"])
    made = sorted(path.name.rpartition("-")[0] for path in cache.folder.glob("*-train-*.npy"))
    stem = next(name for name in made if _busy_while_building(cache, name, given))
    started, enough = threading.Event(), threading.Event()

    def build() -> None:
        with building(cache.folder, stem):
            started.set()
            enough.wait(20)

    other = threading.Thread(target=build)
    other.start()
    started.wait(20)
    assert cache.busy(*given)
    bench = Workbench(trial_spec, run.bench.device)
    bench.fill(("train", "validation"), run.method, run.setting)
    enough.set()
    other.join()
    assert filled == [*PAIRS[1:], PAIRS[0]]
    assert not cache.busy(*given)


def test_what_was_filled_is_not_asked_for_again(trial_spec, filled) -> None:
    run = TrialRun(trial_spec, PMF)
    assert set(run.trainer.train_loader.features) == {"text", "image"}
    assert sorted(filled) == sorted(PAIRS)
