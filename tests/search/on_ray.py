"""A Ray of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray


@contextmanager
def ray_in(folder: Path, cpus: int = 2) -> Iterator[None]:
    """Work in a folder, with the cache inside and with a Ray, which takes longer to start than searches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOFUSE_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PARETOFUSE_CACHE": str(folder / "cache")}},
        )
        try:
            yield
        finally:
            ray.shutdown()
