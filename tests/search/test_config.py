from __future__ import annotations

import json
import math
from pathlib import Path
from unittest import mock

import pytest

from search import SearchConfig
from search.config import SearchConfig as Config
from search.config.recipes import RECIPES
from search.goals.objectives import get_objectives, normalised, reference_values
from spaces import SPACES, SpaceContext
from trainables.errors import UserError
from trainables.step.setting import TrainingSetting


def test_survives_json() -> None:
    config = SearchConfig(space="pmf_nas", max_memory=2**30, objectives=("params", "loss"), name="x")
    assert Config.from_json(config.to_json()) == config


def test_is_named_after_space_and_time() -> None:
    assert SearchConfig(space="linear").run_name.startswith("linear-20")
    assert (
        SearchConfig(space="linear", storage_path="s3://bucket/runs", name="t").place.address
        == "s3://bucket/runs/t"
    )


def test_settings_are_given_flat_and_read_from_their_block() -> None:
    config = SearchConfig(space="pmf_nas", num_samples=3, packing=False, attention="sdpa", text_length=16)
    assert (config.search.space, config.search.num_samples) == ("pmf_nas", 3)
    assert (config.placement.packing, config.step.attention, config.data.text_length) == (False, "sdpa", 16)
    changed = config.replace(num_samples=4)
    assert changed == SearchConfig.from_json(
        json.dumps({**json.loads(config.to_json()), "num_samples": 4, "name": None})
    )
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_sample'"):
        SearchConfig(space="pmf_nas", num_sample=3)
    with pytest.raises(TypeError, match="positional"):
        SearchConfig("pmf_nas")
    with pytest.raises(TypeError, match="positional"):
        TrainingSetting(32)


def test_a_name_stands_for_one_setting() -> None:
    names = [option.name for block in SearchConfig.blocks().values() for option in block.options()]
    assert len(names) == len(set(names)) == len(json.loads(SearchConfig(space="pmf_nas").to_json())) - 1


def test_on_a_resume_changes_only_what_no_result_depends_on() -> None:
    config = SearchConfig(space="pmf_nas", name="mine", constraints=("params<=5M",))
    assert config.resumed().search.num_samples == 20
    more = config.resumed(num_samples="+5", packing=False, seeds=3, space="pmf_nas")
    assert (more.search.num_samples, more.placement.packing, more.search.seeds) == (25, False, 3)
    with pytest.raises(UserError, match="--epochs 7: search 'mine' was started with 5; leave it out"):
        config.resumed(epochs=7)
    with pytest.raises(UserError, match="--constraint params<=6M: search 'mine' was started with params<=5M"):
        config.resumed(constraints=("params<=6M",))


def test_poolings_have_one_form() -> None:
    written = [
        ("text=mean", "image=max"),
        ("image=max,text=mean",),
        ("text=cls", " text=mean, image=max "),
    ]
    first, *others = (SearchConfig(space="pmf_nas", name="mine", pooling=texts) for texts in written)
    assert first.encoders.pooling == ("image=max", "text=mean")
    assert first.encoders.poolings == {"image": "max", "text": "mean"}
    assert all(other.encoders == first.encoders for other in others)
    assert Config.from_json(first.to_json()) == first
    assert first.resumed(pooling=written[1]) == first


def test_a_resumed_search_keeps_its_poolings() -> None:
    plain = SearchConfig(space="pmf_nas", name="mine")
    with pytest.raises(UserError, match="--pooling text=cls: search 'mine' was started without; leave it"):
        plain.resumed(pooling=("text=cls",))
    with pytest.raises(UserError, match="--pooling text=max: search 'mine' was started with text=mean; "):
        plain.replace(pooling=("text=mean",)).resumed(pooling=("text=max",))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_states_settings_that_exist(name) -> None:
    paper = RECIPES[name]
    config = SearchConfig.of_training(paper.method, recipe=name)
    config.check()
    assert paper.options.items() <= config.to_dict().items()
    context = SpaceContext({"text": 12, "image": 12}, {"text": 768, "image": 768})
    (point, *_) = SPACES[paper.method].first_points(context)
    assert paper.settings.keys() <= point.keys()


def test_an_option_comes_before_the_recipe_and_the_recipe_before_the_default() -> None:
    config = SearchConfig(space="mope", recipe="mope", clip_norm=2.0)
    assert config.step.clip_norm == 2.0
    assert (config.trial.epochs, config.recipe.milestones) == (12, "2,5")
    assert config.step.batch_size == SearchConfig(space="mope").step.batch_size
    assert config.replace(gamma=0.1).trial.epochs == 12
    config.replace(schedule="cosine").check()  # of which the recipe's milestones are no part, and no mistake
    assert Config.from_json(config.replace(epochs=3).to_json()).trial.epochs == 3
    with pytest.raises(UserError, match="unknown recipe 'pfm'; known: mope, pmf, wander"):
        SearchConfig(space="mope", recipe="pfm")


def test_a_training_says_what_it_trains() -> None:
    settings = {"n_query_prompts": {"text": [1]}, "clip_norm": None}
    config = SearchConfig.of_training("pmf", settings, name="mine")
    assert config.configuration.settings == ('n_query_prompts={"text": [1]}', "clip_norm=none")
    assert SearchConfig.of_training("pmf", ["L_f=10"]).configuration.values() == {"L_f": "10"}
    assert Config.from_json(config.to_json()) == config
    with pytest.raises(UserError, match="--set L_f: write NAME=VALUE"):
        SearchConfig.of_training("pmf", ["L_f"]).check()
    with pytest.raises(UserError, match="--gradient-checkpointing search: one configuration is trained"):
        SearchConfig.of_training("pmf", gradient_checkpointing="search").check()


def test_refuses_augmentation_with_cached_features() -> None:
    with pytest.raises(UserError, match="--no-feature-cache"):
        SearchConfig(space="pmf_nas", augment="flip").check()
    SearchConfig(space="pmf_nas", augment="flip", feature_cache=False).check()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prefix": "cached", "feature_cache": False}, "--prefix cached takes .* --no-feature-cache"),
        ({"prefix": "offloaded", "augment": "flip"}, "--prefix offloaded takes .* --augment"),
        ({"prefix": "offloaded", "strategy": "oneshot"}, "--prefix offloaded: is not for --strategy oneshot"),
        (
            {"gradient_checkpointing": "maybe"},
            "unknown gradient checkpointing 'maybe'; known: off, on, search",
        ),
        ({"max_failures": -1}, "--max-failures -1: must be at least 0"),
        ({"gpu_memory": 0}, "--gpu-memory 0: must be at least 1"),
        ({"gamma": 0.5}, "--gamma: is not for --schedule cosine; leave .* or give --schedule step or expo"),
        ({"milestones": "3", "schedule": "exponential"}, "--milestones: is not for --schedule exponential"),
        (
            {"decay_epochs": 2},
            "--decay-epochs: is not for --schedule cosine; .* give --schedule expo",
        ),
        ({"min_epochs": 2}, "--min-epochs: is not for --scheduler none; .* pareto_asha, asha or median"),
        ({"reduction_factor": 3, "scheduler": "median"}, "--reduction-factor: is not for --scheduler median"),
        ({"hang_timeout": 0}, "--hang-timeout 0: must be more than 0"),
    ],
    ids=str,
)
def test_refuses_what_cannot_be(settings, words) -> None:
    with pytest.raises(UserError, match=words):
        SearchConfig(space="pmf_nas", **settings).check()


def test_objectives_share_one_scale() -> None:
    objectives = get_objectives(["memory", "accuracy", "loss"])
    reference = reference_values(objectives, {"memory": 4.0, "params": 1e6}, {"loss": math.log(10)})
    assert normalised(objectives, reference, {"memory": 1.0, "accuracy": 0.8, "loss": 0.0}) == (
        pytest.approx((0.25, 0.2, 0.0))
    )
    assert normalised(objectives, reference, reference) == pytest.approx((1, 1, 1))


MARKING = """
from pathlib import Path
Path({marker!r}).touch()
from spaces import Space, register_space
register_space(Space("of_a_plugin", "", lambda trial, context: {{}}, lambda context: []))
"""


def test_settings_are_data_and_run_no_plugin(tmp_path, monkeypatch) -> None:
    marker, plugin = tmp_path / "was run", tmp_path / "marking.py"
    plugin.write_text(MARKING.format(marker=str(marker)))
    monkeypatch.chdir(tmp_path)
    config = SearchConfig(space="of_a_plugin", plugins=("marking.py",))
    config = SearchConfig.from_json(config.replace(num_samples=3).to_json()).resumed("+5", seeds=2)
    assert not marker.exists()
    assert config.extensions.plugins == (str(plugin),), "the same file when resumed from elsewhere"
    with pytest.raises(UserError, match="unknown space 'of_a_plugin'"):
        config.check()
    with mock.patch.dict(SPACES):
        config.load()
        config.check()
    assert marker.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no settings of a search"),
        ("", "no settings of a search"),
        ("[1, 2]", "no settings of a search"),
        ("{}", "no settings of a search"),
        ({"colour": "red", "name": 3}, "settings of another version: this one has no colour"),
        ({"created": "noon"}, "no settings of a search"),
        ({"created": None}, "no settings of a search"),
        ({"space": None}, "--space None: must be a text"),
        ({"epochs": "five"}, "--epochs 'five': must be a whole number"),
        ({"epochs": 0}, "--epochs 0: must be at least 1"),
    ],
    ids=str,
)
def test_settings_of_another_version_are_refused_in_a_line(text, message) -> None:
    if isinstance(text, dict):
        text = json.dumps({**json.loads(SearchConfig(space="pmf_nas").to_json()), **text})
    with pytest.raises(UserError, match=f"^[^\n]*{message}[^\n]*$"):
        SearchConfig.from_json(text).check()


def test_a_document_without_a_space_is_refused_with_the_name_of_its_file() -> None:
    values = json.loads(SearchConfig(space="pmf_nas").to_json())
    del values["space"]
    with pytest.raises(UserError, match=r"^/runs/a/search\.sqlite: settings of another version: "):
        SearchConfig.from_json(json.dumps(values), Path("/runs/a/search.sqlite"))
