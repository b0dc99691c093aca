"""What is registered is found by name, and nothing takes another's."""

from __future__ import annotations

import pytest

from trainables.errors import UserError
from trainables.registry import Registry


def test_things_are_found_by_name_in_the_order_of_registration() -> None:
    tools: Registry[int] = Registry("tool")
    tools.register("saw", 1, "shop")
    tools.register("axe", 2, "shop")
    assert list(tools) == ["saw", "axe"]
    assert tools["axe"] == 2
    with pytest.raises(UserError, match="unknown tool 'hammer'; known: axe, saw"):
        tools["hammer"]


def test_a_name_is_given_once_but_a_module_may_run_again() -> None:
    tools: Registry[int] = Registry("tool")
    tools.register("saw", 1, "shop")
    tools.register("saw", 2, "shop")
    with pytest.raises(UserError, match="there is a tool 'saw' already; choose another name"):
        tools.register("saw", 3, "own")
    assert tools["saw"] == 2


def test_listeners_hear_of_all_and_may_refuse() -> None:
    tools: Registry[int] = Registry("tool")
    tools.register("saw", 1, "shop")
    heard: list[tuple[str, int, str]] = []

    def listen(name: str, tool: int, module: str) -> None:
        if tool < 0:
            raise UserError("less than nothing")
        heard.append((name, tool, module))

    tools.listen(listen)
    tools.register("axe", 2, "own")
    with pytest.raises(UserError, match="less than nothing"):
        tools.register("gap", -1, "own")
    assert heard == [("saw", 1, "shop"), ("axe", 2, "own")]
    assert "gap" not in tools
