from __future__ import annotations

import pytest

from search.units import GIB, format_duration, format_size, parse_duration, parse_size
from trainables.errors import UserError


@pytest.mark.parametrize(
    ("text", "size"),
    [("3GiB", 3 * GIB), ("1kib", 1024), ("2.5 GB", 2.5e9), ("800MiB", 800 * 2**20), ("7", 7)],
)
def test_sizes(text, size) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "3 apples", "0"])
def test_refuses_what_is_no_size(text) -> None:
    with pytest.raises(UserError, match="not a size"):
        parse_size(text)


def test_durations() -> None:
    assert parse_duration("90s") == 90
    assert parse_duration("30m") == 1800
    assert parse_duration("2h") == 7200
    with pytest.raises(UserError, match="not a duration"):
        parse_duration("soon")


def test_formats() -> None:
    assert format_size(343 * 2**20) == "343 MiB"
    assert format_size(8.72 * GIB) == "8.72 GiB"
    assert format_duration(42) == "42 s"
    assert format_duration(185) == "3 min 05 s"
    assert format_duration(7800) == "2 h 10 min"
