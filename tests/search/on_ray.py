"""Whole searches of the tests: one Ray for all of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import ray


@contextmanager
def ray_in(folder: Path, address: str, empty_store: Path) -> Iterator[None]:
    """Work in a folder, with the cache and an MLflow database inside, as one driver of the tests' Ray.

    Args:
        folder: The working folder; searches that other processes run are to use its cache, too.
        address: The fixture ``ray_address``.
        empty_store: The fixture of that name.
    """
    if not (folder / "mlflow.db").exists():
        shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOFUSE_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PARETOFUSE_CACHE": str(folder / "cache")}},
        )
        try:
            yield
        finally:
            ray.shutdown()


def kill_family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Kill a process and all that it has started; return who is left."""
    try:
        driver = psutil.Process(process.pid)
        family = [driver, *driver.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    _, left = psutil.wait_procs(family, timeout=10)
    return left
