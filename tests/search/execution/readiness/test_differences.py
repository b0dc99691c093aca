"""In what nodes differ, in words, and how that is mended."""

from __future__ import annotations

from typing import Any

import pytest

from search.execution.readiness.differences import of_code, of_provisions
from tests.search.execution.readiness.nodes import TOLD, facts

HERE = facts(1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"torch": "2.13.0+cu130"},
        {"python": "3.12.9"},
        {"folder": "/home/ubuntu", "executable": "python3"},
    ],
)
def test_what_may_differ(changes: dict[str, Any]) -> None:
    assert of_code(facts(2, **changes), HERE) == []


@pytest.mark.parametrize(
    ("changes", "what", "there", "mend"),
    [
        (
            {"files": {**TOLD["files"], "search/api.py": "other"}},
            "code",
            "1 file differs: search/api.py",
            "rsync -a --delete /opt/program/search /opt/program/spaces /opt/program/trainables "
            "10.0.0.2:/opt/program/",
        ),
        (
            {"files": {f"search/{letter}.py": letter for letter in "abc"}},
            "code",
            "5 files differ: search/a.py, search/api.py, search/b.py and 2 more",
            "rsync",
        ),
        ({"files": {}, "folder": None}, "code", "is not there", "10.0.0.2:/opt/program/"),
        (
            {"transformers": "5.1.0"},
            "transformers",
            "5.1.0",
            "ssh 10.0.0.2 /opt/program/.venv/bin/python -m pip install transformers==5.23.0",
        ),
        (
            {"torch": "absent"},
            "torch",
            "absent",
            "ssh 10.0.0.2 /opt/program/.venv/bin/python -m pip install torch==2.13.0",
        ),
        ({"python": "3.11.9"}, "Python", "3.11.9", "install Python 3.12 there"),
    ],
)
def test_what_must_be_equal(changes: dict[str, Any], what: str, there: str, mend: str) -> None:
    (found,) = of_code(facts(2, **changes), HERE)

    assert (found.node.name, found.what, found.there) == ("worker2 (10.0.0.2)", what, there)
    assert mend in found.mend


class _Provisions:
    paths = ("/data/food", "/data/my encoder")

    def lacking(self) -> list[tuple[str, str]]:
        return []


def test_what_a_node_lacks_is_copied_to_where_it_is_here() -> None:
    lacking = [
        ("dataset folders:/data/food", "is not there"),
        ("encoder /data/my encoder", "is another one"),
        ("encoder bert-base-uncased", "the hub cannot be reached"),
    ]

    assert [found.mend for found in of_provisions(facts(2), lacking, _Provisions())] == [
        "rsync -aR /data/food 10.0.0.2:/",
        "rsync -aR '/data/my encoder' 10.0.0.2:/",
        "",
    ]
