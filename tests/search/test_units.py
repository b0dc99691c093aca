from __future__ import annotations

import pytest

from search.units import (
    GIB,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    write_duration,
    write_size,
)
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


@pytest.mark.parametrize(
    ("size", "text"), [(8 * GIB, "8GiB"), (3 * 2**19, "1536KiB"), (2**20, "1MiB"), (1000, "1000B"), (1, "1B")]
)
def test_sizes_are_written_without_rounding(size, text) -> None:
    assert write_size(size) == text
    assert parse_size(text) == size


@pytest.mark.parametrize(("seconds", "text"), [(900, "15m"), (7200, "2h"), (61, "61s"), (0.5, "0.5s")])
def test_durations_are_written_without_rounding(seconds, text) -> None:
    assert write_duration(seconds) == text
    assert parse_duration(text) == seconds


def test_formats() -> None:
    assert format_size(343 * 2**20) == "343 MiB"
    assert format_size(8.72 * GIB) == "8.72 GiB"
    assert format_duration(42) == "42 s"
    assert format_duration(185) == "3 min 05 s"
    assert format_duration(7800) == "2 h 10 min"
