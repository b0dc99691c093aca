from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest

from trainables.errors import UserError
from trainables.options import AtLeast, Help, MoreThan, OneOf, Settings


@dataclass(frozen=True, kw_only=True)
class Oven(Settings):
    panel: ClassVar[str | None] = "Oven"

    heat: Annotated[int, Help("How hot it gets."), AtLeast(1)] = 200
    minutes: Annotated[float | None, Help("How long it bakes.", flag="--time", panel="Time"), MoreThan(0)] = (
        None
    )
    air_flow: Annotated[str, Help("Where the air goes."), OneOf(lambda: ("top", "all"))] = "all"
    racks: Annotated[int, AtLeast(1)] = 2


def test_fields_with_a_help_text_are_options() -> None:
    options = {option.name: option for option in Oven.options()}
    assert list(options) == ["heat", "minutes", "air_flow"]
    assert [option.flag for option in options.values()] == ["--heat", "--time", "--air-flow"]
    assert [option.panel for option in options.values()] == ["Oven", "Time", "Oven"]
    assert (options["heat"].type, options["heat"].default) == (int, 200)
    assert options["heat"].help.text == "How hot it gets."


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heat": 0}, "--heat 0: must be at least 1"),
        ({"minutes": 0.0}, "--time 0.0: must be more than 0"),
        ({"air_flow": "none"}, "unknown air flow 'none'; known: all, top"),
        ({"racks": 0}, "--racks 0: must be at least 1"),
    ],
    ids=str,
)
def test_refuses_what_a_field_does_not_take(values, message) -> None:
    with pytest.raises(UserError, match=message):
        Oven(**values)


def test_none_keeps_to_every_limit() -> None:
    assert Oven(minutes=None).to_dict() == {"heat": 200, "minutes": None, "air_flow": "all", "racks": 2}
