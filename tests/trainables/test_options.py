from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pytest

from trainables.errors import UserError
from trainables.options import AtLeast, AtMost, Help, MoreThan, OneOf, Settings


@dataclass(frozen=True, kw_only=True)
class Oven(Settings):
    panel: ClassVar[str | None] = "Oven"

    heat: Annotated[int, Help("How hot it gets."), AtLeast(1)] = 200
    minutes: Annotated[float | None, Help("How long it bakes.", flag="--time", panel="Time"), MoreThan(0)] = (
        None
    )
    air_flow: Annotated[str, Help("Where the air goes."), OneOf(lambda: ("top", "all"))] = "all"
    racks: Annotated[int, AtLeast(1)] = 2
    tilt: Annotated[float, Help("How far it leans, in degrees."), AtMost(5)] = 0
    door: Annotated[bool, Help("Whether it is shut.")] = True
    dishes: Annotated[tuple[str, ...], Help("What is in it.")] = ()
    label: Annotated[Path | None, Help("A file.")] = None


def test_fields_with_a_help_text_are_options() -> None:
    options = {option.name: option for option in Oven.options()}
    assert list(options)[:3] == ["heat", "minutes", "air_flow"]
    assert "racks" not in options
    assert [option.flag for option in options.values()][:3] == ["--heat", "--time", "--air-flow"]
    assert [option.panel for option in options.values()][:3] == ["Oven", "Time", "Oven"]
    assert (options["heat"].type, options["heat"].default) == (int, 200)
    assert options["heat"].help.text == "How hot it gets."


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heat": 0}, "--heat 0: must be at least 1"),
        ({"minutes": 0.0}, "--time 0.0: must be more than 0"),
        ({"air_flow": "none"}, "unknown air flow 'none'; known: all, top"),
        ({"racks": 0}, "--racks 0: must be at least 1"),
        ({"tilt": 5.5}, "--tilt 5.5: must be at most 5"),
        ({"tilt": math.nan}, "--tilt nan: must be a finite number"),
        ({"minutes": math.inf}, "--time inf: must be a finite number"),
        ({"minutes": 10**400}, "--time of 1329 bits: must be a finite number"),
        ({"minutes": "5"}, "--time '5': must be a number"),
        ({"heat": 2.5}, "--heat 2.5: must be a whole number"),
        ({"heat": True}, "--heat True: must be a whole number"),
        ({"heat": None}, "--heat None: must be a whole number"),
        ({"heat": 2**63}, "--heat 9223372036854775808: must be at most 9223372036854775807"),
        ({"door": "shut"}, "--door 'shut': must be true or false"),
        ({"air_flow": ""}, "--air-flow '': must not be empty"),
        ({"air_flow": 3}, "--air-flow 3: must be a text"),
        ({"dishes": ("a", " ")}, r"--dishes \('a', ' '\): must not be empty"),
        ({"dishes": "ab"}, "--dishes 'ab': must be a tuple"),
        ({"dishes": ("a\0b",)}, r"--dishes \('a\\x00b',\): must have no line breaks or other control"),
        ({"air_flow": "a\nb"}, r"--air-flow 'a\\nb': must have no line breaks or other control"),
        ({"air_flow": "\udcff"}, r"--air-flow '\\udcff': must have no line breaks or other control"),
        ({"label": "a"}, "--label 'a': must be a path"),
        ({"label": Path("a\nb")}, r"--label a\\nb: must have no line breaks"),
    ],
    ids=str,
)
def test_refuses_what_a_field_does_not_take(values, message) -> None:
    with pytest.raises(UserError, match=message):
        Oven(**values)


def test_none_keeps_to_every_limit() -> None:
    assert Oven(minutes=None, label=None).to_dict()["minutes"] is None


def test_takes_what_a_type_allows() -> None:
    oven = Oven(
        minutes=3, heat=np.int64(5), tilt=np.float32(-1), dishes=("für Käse", "[/]"), label=Path("a b")
    )
    assert (oven.minutes, oven.heat, oven.tilt) == (3, 5, -1)
