"""What nodes do to answer, run here."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from search.execution.readiness import there
from trainables.errors import UserError

_TORCH = """
from types import SimpleNamespace

class Busy(RuntimeError):
    pass

class _Cuda:
    OutOfMemoryError = Busy

    def init(self):
        {init}

    def device_count(self):
        return 2

cuda = _Cuda()

def ones(*size, device):
    {ones}
"""


class _Lacking:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def lacking(self) -> list[tuple[str, str]]:
        if self.error is not None:
            raise self.error
        return [("dataset", "is not there")]


@pytest.mark.parametrize(
    ("provisions", "reason"),
    [
        (pickle.dumps(_Lacking()), ("dataset", "is not there")),
        (pickle.dumps(_Lacking(KeyError("x"))), ("program", "cannot be used (KeyError: 'x')")),
        (pickle.dumps(_Lacking(UserError("no hub"))), ("program", "cannot be used (no hub)")),
        (
            b"cnowhere\nProvisions\n.",
            ("program", "cannot be used (ModuleNotFoundError: No module named 'nowhere')"),
        ),
    ],
)
def test_what_is_lacking(provisions: bytes, reason: tuple[str, str]) -> None:
    assert there.lacks(provisions) == [reason]


@pytest.mark.parametrize(
    ("init", "ones", "idle", "reason"),
    [
        ("raise RuntimeError('Found no NVIDIA driver')", "", True, "RuntimeError: Found no NVIDIA driver"),
        ("pass", "raise RuntimeError(f'{device} is lost')", True, "RuntimeError: cuda:0 is lost"),
        ("pass", "raise RuntimeError(f'{device} is lost')", False, None),
        ("pass", "raise Busy('out of memory')", True, None),
    ],
)
def test_gpus_are_tried(
    init: str, ones: str, idle: bool, reason: str | None, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "torch.py").write_text(_TORCH.format(init=init, ones=ones or "pass"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    assert there.cuda(20.0, idle=idle) == reason
