"""Spaces of one configuration: a method's first point, with what the user has set."""

from __future__ import annotations

from typing import Any

import pytest

from spaces import SPACES, SpaceContext, starting_at
from spaces.single import configuration, single
from spaces.testing import check_space
from trainables.errors import UserError
from trainables.methods import METHODS

CONTEXT = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})


def _made(method: str, **settings: str) -> dict[str, Any]:
    return configuration(method, settings, CONTEXT)


@pytest.mark.parametrize("name", METHODS)
def test_nothing_set_is_the_first_point(name) -> None:
    space = SPACES[name]
    assert _made(name) == space.at(space.first_points(CONTEXT)[0], CONTEXT).config
    check_space(single(name, {}), CONTEXT, draws=1)


def test_parameters_of_the_space_and_options_of_the_method_are_set() -> None:
    made = _made("pmf", prompt_length="8", n_query_prompts="3", learning_rate="1.25e-3")
    assert made["n_query_context_prompts"] == made["n_fusion_context_prompts"] == 8
    assert made["n_query_prompts"] == 3
    assert made["learning_rate"] == 1.25e-3, "spaces round it, and a user's choice stays"
    assert _made("pmf", prompt_length="5")["n_fusion_context_prompts"] == 5, "the space has no 5"
    assert _made("late_concat", train_encoders="false")["train_encoders"] is False
    assert _made("wander", cp="product_of_sums")["cp"] == "product_of_sums"
    assert _made("mope", routing="top1")["routing"] == "top1", "which the space does not search"
    layers = _made("pmf", n_query_prompts='{"text": [1, 2], "image": [3, 4]}')["n_query_prompts"]
    assert layers == {"text": [1, 2], "image": [3, 4]}


def test_fields_of_training_are_set() -> None:
    made = _made("linear", weight_decay="0.1", clip_norm="none", schedule="linear", batch_size="16")
    assert (made["weight_decay"], made["clip_norm"], made["schedule"]) == (0.1, None, "linear")
    assert made["batch_size"] == 16


def test_the_first_fused_layer_is_that_of_the_deepest_encoder() -> None:
    assert _made("pmf", L_f="10")["n_fusion_layers"] == 2
    assert _made("mbt", L_f="6")["n_fusion_layers"] == 6
    with pytest.raises(UserError, match=r"L_f=5: must be 6 to 11.* the encoders have 6 and 12 layers"):
        _made("pmf", L_f="5")
    with pytest.raises(UserError, match="unknown setting of linear 'L_f'"):
        _made("linear", L_f="10")


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("pmf", {"promt_length": "4"}, "unknown setting of pmf 'promt_length'; known: .*prompt_length"),
        ("pmf", {"prompt_length": "many"}, "prompt_length=many: must be a whole number"),
        ("pmf", {"n_fusion_layers": "0"}, "n_fusion_layers=0: must be at least 1"),
        ("pmf", {"learning_rate": "0"}, "learning_rate=0.0: must be a number above 0"),
        ("mope", {"main": "sound"}, "main=sound: must be text or image"),
        ("mope", {"routing": "best"}, "routing=best: must be "),
        ("linear", {"schedule": "sudden"}, "unknown schedule 'sudden'; known: "),
        ("linear", {"weight_decay": "2"}, "--weight-decay 2.0: must be at most 1"),
        ("nothing", {}, "unknown method 'nothing'"),
    ],
    ids=str,
)
def test_other_settings_are_refused(method, settings, message) -> None:
    with pytest.raises(UserError, match=message):
        single(method, settings).smallest(CONTEXT)


def test_what_is_set_comes_before_a_recipe_and_that_before_the_first_point() -> None:
    recipe = {"learning_rate": 2e-3, "n_layers": 2}
    assert configuration("wander", {}, CONTEXT, recipe)["learning_rate"] == 2e-3
    assert configuration("wander", {}, CONTEXT, recipe)["n_layers"] == 2
    assert configuration("wander", {"learning_rate": "3e-3"}, CONTEXT, recipe)["learning_rate"] == 3e-3


def test_a_search_starts_at_the_values_of_a_recipe() -> None:
    """Only the points of its method change, also in the space of all methods."""
    for name, key in (("wander", "learning_rate"), ("all_methods", "wander.learning_rate")):
        before = SPACES[name].first_points(CONTEXT)
        space = starting_at(SPACES[name], "wander", {"learning_rate": 2e-3, "nothing": 1})
        after = space.first_points(CONTEXT)
        changed = [point for point, old in zip(after, before, strict=True) if point != old]
        assert changed == [{**old, key: 2e-3} for old in before if key in old] != []
        check_space(space, CONTEXT, draws=1)


def test_a_method_without_a_space_has_no_first_point(monkeypatch) -> None:
    monkeypatch.delitem(SPACES, "linear")
    with pytest.raises(UserError, match="method 'linear' has no space"):
        single("linear", {})
