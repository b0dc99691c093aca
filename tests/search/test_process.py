"""What a search changes in its process, and that all of it is put back."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from search.process import prepared_process
from trainables.cache import cache_dir

LOGGERS = ("alembic", "mlflow", "optuna", "ray", "ray.train", "ray.tune", "transformers")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
ROOT = Path(__file__).parents[2]
TABLE = ROOT / "benchmarks" / "tables" / "pmf_nas.parquet"


def state() -> dict[str, Any]:
    """What a search could change."""
    others = ("PYTEST_", "_MLFLOW_")  # pytest and MLflow pass notes to themselves, whenever they like
    return {
        **{f"${name}": value for name, value in os.environ.items() if not name.startswith(others)},
        **{f"level of {name}": logging.getLogger(name).level for name in LOGGERS},
        **{f"handler of {number.name}": signal.getsignal(number) for number in SIGNALS},
        "switch interval": sys.getswitchinterval(),
    }


@pytest.fixture
def before() -> Iterator[dict[str, Any]]:
    """The state that a user left, other than what a search wants in all respects; it outlasts no test."""

    def own(number: int, frame: object) -> None:
        raise AssertionError("nobody sends it")

    # The outer one puts back what this fixture changes.
    with prepared_process(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
        for name in ("RAY_AIR_NEW_OUTPUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "PYTHONBREAKPOINT"):
            patch.delenv(name, raising=False)
        optuna.logging.set_verbosity(optuna.logging.INFO)
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.DEBUG)
        signal.signal(signal.SIGUSR1, own)
        sys.setswitchinterval(0.004)
        yield state()


def takes_over() -> None:
    """Change what Ray and Ray Tune change."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    os.environ["PYTHONBREAKPOINT"] = "ray.util.rpdb._driver_set_trace"
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["TUNE_RESULT_BUFFER_LENGTH"] = "1"
    logging.getLogger("ray").setLevel(logging.ERROR)


def test_a_process_is_prepared_and_put_back(before) -> None:
    with prepared_process():
        assert os.environ["RAY_AIR_NEW_OUTPUT"] == "0"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77", "what the user has set stays"
        assert logging.getLogger("ray.tune").level == logging.CRITICAL
        assert optuna.logging.get_verbosity() == optuna.logging.WARNING
        assert sys.getswitchinterval() == pytest.approx(0.0005)
        takes_over()
    assert state() == before


def test_a_process_is_put_back_after_an_error(before) -> None:
    @prepared_process()
    def search() -> None:
        takes_over()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        search()
    assert state() == before


def test_a_process_is_prepared_from_any_thread(before) -> None:
    def search() -> None:
        with prepared_process():
            seen.append(sys.getswitchinterval())

    seen: list[float] = []
    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert seen == [pytest.approx(0.0005)]
    assert state() == before


def test_workers_are_told_of_the_cache_by_an_absolute_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARETOFUSE_CACHE", "here")
    with prepared_process():
        assert os.environ["PARETOFUSE_CACHE"] == str(tmp_path / "here") == str(cache_dir())
    assert os.environ["PARETOFUSE_CACHE"] == "here"


#: A search in a process of its own, because the Ray that it starts would get in the way of other tests' Ray.
SEARCH = """
import json, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)
from search import SearchConfig, run_search
from tests.search.test_process import state

before = state()
assert run_search(SearchConfig(**json.loads(sys.argv[1]))).trials == 2
assert state() == before
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.ray
@pytest.mark.full
def test_ctrl_c_works_after_a_search_as_before_it(workplace) -> None:
    settings = {
        "space": "pmf_nas",
        "replay": str(TABLE),
        "target": "cpu",
        "epochs": 2,
        "num_samples": 2,
        "sampler": "random",
        "storage_path": str(workplace / "runs"),
        "tracking_uri": f"sqlite:///{workplace}/mlflow.db",
    }
    command = [sys.executable, "-c", SEARCH, json.dumps(settings)]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "interrupted"
