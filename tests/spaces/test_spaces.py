"""What every space must satisfy."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from spaces import SPACES, Space, SpaceContext, Trial, get_space, union, with_checkpointing
from spaces.testing import check_space
from tests.tasks import classification
from tests.trainables.methods.paper import trained_parameters
from trainables.configuration import split_config
from trainables.errors import UserError
from trainables.memory.predictor import MemoryPredictor
from trainables.methods import METHODS, DefaultSpace, get_method
from trainables.parameters import Choices, Range
from trainables.step.setting import TrainingSetting
from trainables.towers import resolve_encoder


@pytest.fixture(scope="module")
def predictor(tiny_encoders) -> MemoryPredictor:
    encoders = {
        "text": resolve_encoder("text", str(tiny_encoders["bert"])),
        "image": resolve_encoder("image", str(tiny_encoders["vit"])),
    }
    return MemoryPredictor(
        encoders, classification(5), TrainingSetting(batch_size=2, text_length=8, image_size=32)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_samples_are_valid_and_within_the_ends(name, predictor) -> None:
    space, context = get_space(name), SpaceContext.of(predictor.encoders)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for point in space.first_points(context):
        study.enqueue_trial(point)
    low = [predictor.predict(*split_config(config)) for config in space.smallest(context)]
    high = [predictor.predict(*split_config(config)) for config in space.largest(context)]
    for _ in range(4):
        config = space.sample(study.ask(), context)
        report = predictor.predict(*split_config(config))
        assert min(r.total for r in low) <= report.total <= max(r.total for r in high)
        assert report.trainable_parameters <= max(r.trainable_parameters for r in high)
        assert config["learning_rate"] > 0


@pytest.mark.parametrize("name", SPACES)
def test_first_points_ends_and_draws_are_in_the_space(name, predictor) -> None:
    space, context = get_space(name), SpaceContext.of(predictor.encoders)
    check_space(space, context)
    for point in space.first_points(context):
        asked = optuna.trial.FixedTrial(point)
        space.sample(asked, context)
        assert set(asked.params) == set(point)  # all of the point was asked for, and nothing else


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "has no first points"),
        ([{"rank": 4}], "no value for learning_rate"),
        ([{"rank": 4, "learning_rate": 1e-3, "width": 8}], "no such parameters: width"),
        ([{"rank": 400, "learning_rate": 1e-3}], "out of range: rank"),
    ],
)
def test_what_is_wrong_with_first_points_is_said(points, message) -> None:
    declared = DefaultSpace("", {"rank": Range(1, 64, log=True)}, points)

    def sample(trial: Trial, context: SpaceContext) -> dict[str, Any]:
        return {"method": "lora", **declared.draw(trial, context)}

    with pytest.raises(AssertionError, match=message):
        check_space(Space("own", "", sample, declared.points), SpaceContext({"text": 2}, {"text": 8}))


def test_every_method_has_a_default_space_with_the_papers_settings_first() -> None:
    assert {space.method for space in SPACES.values() if space.method} == set(METHODS)


@pytest.mark.parametrize("name", [name for name, space in SPACES.items() if space.method])
def test_a_method_starts_at_its_papers_setting(name) -> None:
    """The defaults are the papers' values, where None stands for what follows from the encoders."""
    sizes = {"text": "bert-base", "image": "vit-large"}
    context = SpaceContext.of({m: resolve_encoder(m, f"arch:{arch}") for m, arch in sizes.items()})
    method, first = split_config(get_space(name).at(get_space(name).first_points(context)[0], context).config)
    defaults = get_method(method).config_class().to_dict()
    stated = {field: value for field, value in first.items() if defaults[field] is not None}
    assert stated == {field: defaults[field] for field in stated}
    assert trained_parameters(method, first, **sizes) == trained_parameters(method, **sizes)


@pytest.mark.parametrize("name", ["adapter", "lora", "p_tuning", "uniadapter", "aurora"])
def test_all_layers_of_each_encoder_are_the_first_point_and_the_most(name) -> None:
    context = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})
    space = get_space(name)
    assert space.first_points(context)[0]["n_layers"] == 12
    assert space.parameters(context)["n_layers"] == Range(1, 12)


def test_options_are_asked_for_where_they_have_an_effect() -> None:
    context = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})
    mope, pmf = get_space("mope"), get_space("pmf_nas")
    kinds = ("static", "dynamic", "mapped")
    asked = {
        on: set(mope.at({"main": "text", **{kind: kind in on for kind in kinds}}, context).values)
        for on in (("static",), ("dynamic",), ("static", "mapped"))
    }
    assert "mapped" in asked["static",]
    assert not {"n_experts", "complementary_tuning"} & asked["static",]
    assert {"n_experts", "routing", "complementary_tuning"} <= asked["dynamic",]
    assert "complementary_tuning" in asked["static", "mapped"]
    assert "n_experts" not in asked["static", "mapped"]
    only_mapped = mope.at({"main": "text", "static": False, "dynamic": False}, context)
    assert "mapped" not in only_mapped.values
    assert "prompt_length" not in only_mapped.values
    silent = pmf.at({"n_query_prompts": 0}, context)
    assert silent.config["n_query_context_prompts"] == 0
    assert not {"n_query_context_prompts", "translator_width"} & set(silent.values)
    tunings = mope.parameters(context)["complementary_tuning"]
    assert tunings == Choices(("frozen", "prompt", "finetune"))
    words = SpaceContext({"text": 0, "image": 12}, {"text": 384, "image": 384})
    assert mope.parameters(words)["complementary_tuning"] == Choices(("frozen", "finetune"))
    assert mope.parameters(words)["main"].values == ("image",)


NO_IMAGE = "needs a modality of the kind image; there are"
TWO_TEXTS = SpaceContext(
    {"premise": 6, "hypothesis": 6},
    {"premise": 384, "hypothesis": 384},
    {"premise": "text", "hypothesis": "text"},
)
VIEWS = SpaceContext({"a": 2, "b": 3, "c": 2}, dict.fromkeys("abc", 16), dict.fromkeys("abc", "features"))


@pytest.mark.parametrize(
    ("context", "left_out"),
    [
        (
            VIEWS,
            {
                **dict.fromkeys(("mmbt", "p_mmbt", "mope", "frozen"), "fuses 2 modalities, not 3: a, b, c"),
                "vpt": f"{NO_IMAGE}: a (features), b (features), c (features)",
            },
        ),
        (
            TWO_TEXTS,
            {
                "image_only": f"{NO_IMAGE}: premise (text), hypothesis (text)",
                "vpt": f"{NO_IMAGE}: premise (text), hypothesis (text)",
            },
        ),
        (
            SpaceContext({"text": 6}, {"text": 384}),
            {"pmf": "fuses at least 2 modalities, not 1: text"},
        ),
    ],
)
def test_a_union_leaves_out_what_cannot_be_fused(context, left_out) -> None:
    everything = get_space("all_methods")
    found = everything.left_out(context)
    assert left_out.items() <= found.items()
    check_space(everything, context, draws=40)
    members = {config["method"] for config in everything.smallest(context)}
    assert members == set(METHODS) - set(found)
    if context is TWO_TEXTS:
        assert set(found) == set(left_out)
        mains = everything.parameters(context)["mope.main"]
        assert mains == Choices(("premise", "hypothesis"), ordered=False)


def test_a_union_of_nothing_that_can_be_fused_says_so() -> None:
    tuned = union("tuned", "", lambda: [get_space("vpt"), get_space("p_bert")])
    with pytest.raises(UserError, match=r"space 'tuned': none of its methods .*: vpt needs .*; p_bert needs"):
        tuned.smallest(SpaceContext({"a": 2}, {"a": 8}, {"a": "features"}))


def test_a_union_asks_for_the_method_and_then_for_its_own_parameters(predictor) -> None:
    context = SpaceContext.of(predictor.encoders)
    everything = get_space("all_methods")
    config = everything.sample(
        optuna.trial.FixedTrial({"method": "vpt", "vpt.n_prompts": 3, "vpt.learning_rate": 1e-3}), context
    )
    assert config == {"method": "vpt", "n_prompts": 3, "learning_rate": 1e-3}
    assert {config["method"] for config in everything.smallest(context)} == set(METHODS)
    firsts = [point["method"] for point in everything.first_points(context)]
    assert firsts[:3] == ["pmf", "wander", "mope"]
    assert set(firsts[: len(METHODS)]) == set(METHODS)  # each method's first point before any second one
    prompts = {config["method"] for config in get_space("prompts").largest(context)}
    assert "maple" in prompts
    assert "late_concat" not in prompts


def test_pmf_nas_reaches_every_depth() -> None:
    context = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})
    space = get_space("pmf_nas")
    assert [config["n_fusion_layers"] for config in space.smallest(context)] == [1]
    assert [config["n_fusion_layers"] for config in space.largest(context)] == [6]
    assert [config["translator_width"] for config in space.largest(context)] == [384]


def test_checkpointing_becomes_a_parameter() -> None:
    context = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})
    space = with_checkpointing(get_space("pmf_nas"))
    assert [config["gradient_checkpointing"] for config in space.smallest(context)] == [True]
    assert [config["gradient_checkpointing"] for config in space.largest(context)] == [False]
    first = space.first_points(context)[0]
    assert {**get_space("pmf_nas").first_points(context)[0], "gradient_checkpointing": False} == first
    config = space.sample(optuna.trial.FixedTrial({**first, "gradient_checkpointing": True}), context)
    assert config["gradient_checkpointing"] is True
    assert config["n_fusion_layers"] == 2
    assert space.parameters(context)["gradient_checkpointing"] == Choices((True, False))


def test_checkpointing_is_one_parameter_of_a_union() -> None:
    context = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})
    space = with_checkpointing(get_space("prompts"))
    parameters = space.parameters(context)
    assert [name for name in parameters if "checkpointing" in name] == ["gradient_checkpointing"]
    assert all("gradient_checkpointing" in config for config in space.largest(context))
    assert all("gradient_checkpointing" in part.parameters(context) for part in space.parts())
    assert get_space("pmf").parts is None


def test_a_member_is_found_by_some_of_its_values() -> None:
    context = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})
    mope = get_space("mope")
    asked = {"main": "text", "dynamic": True, "n_prompted_layers": 12, "prompt_length": 3}
    member = mope.at(asked, context)
    assert member.config["n_prompted_layers"] == member.values["n_prompted_layers"] == 6  # the text encoder's
    assert (member.config["prompt_length"], member.config["n_experts"]) == (3, 2)
    assert member.parameters["n_prompted_layers"] == Range(1, 6)
    width = (
        get_space("pmf_nas")
        .at({"n_query_prompts": 1, "translator_width": 100}, context)
        .config["translator_width"]
    )
    assert width == 96  # steps of 48


def test_an_encoder_without_layers_is_refused() -> None:
    context = SpaceContext({"text": 0, "image": 12}, {"text": 384, "image": 384})
    with pytest.raises(UserError, match="n_fusion_layers: an encoder without layers"):
        get_space("pmf_nas").smallest(context)


def test_unknown_space_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"unknown space 'nope'; known: .*pmf_nas"):
        get_space("nope")
