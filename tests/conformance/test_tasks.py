"""What every registered task must pass."""

from __future__ import annotations

import pytest

from trainables.tasks import TASKS
from trainables.testing.tasks import check_task


@pytest.mark.parametrize("name", TASKS)
def test_task(name: str) -> None:
    check_task(name)
