"""The lab, and a small dataset with its encoders on all of its hosts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import Lab, lacking, opened

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and skip them where there can be no lab."""
    here = [item for item in items if _HERE in item.path.parents]
    reason = lacking() if here else None
    for item in here:
        item.add_marker(pytest.mark.cluster)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def opened_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The network, the disk, the laptop and the prepared environment."""
    folder = tmp_path_factory.mktemp("lab")
    with opened(folder) as lab:
        yield lab
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def lab(opened_lab: Lab) -> Iterator[Lab]:
    """The lab with all hosts off, and nothing on them; the same for the tests of a module."""
    opened_lab.reset()
    yield opened_lab
    opened_lab.reset()


@pytest.fixture(scope="module")
def data(lab: Lab, squares: Path, tiny_encoders: dict[str, Path]) -> str:
    """Options of a search of tiny encoders on coloured squares, in ``/shared/data`` of all hosts."""
    shutil.copytree(squares, lab.shared / "data" / "squares")
    for family in ("bert", "vit"):
        shutil.copytree(tiny_encoders[family], lab.shared / "data" / family)
    for path in (lab.shared / "data", *(lab.shared / "data").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return (
        "--dataset /shared/data/squares --text-encoder /shared/data/bert --image-encoder /shared/data/vit "
        "--batch-size 8 --text-length 10 --image-size 32"
    )
