"""A search's store on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.records.store import SearchStore
from trainables.errors import UserError


def test_a_store_of_another_version_is_refused_in_a_line(tmp_path: Path) -> None:
    store = SearchStore.create(tmp_path, {})
    store.put_facts({"version": 1})
    store.close()
    with pytest.raises(UserError, match=r"search.sqlite: was written by another version \(1, not 2\)$"):
        SearchStore.open(tmp_path)
