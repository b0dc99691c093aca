from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from search import SearchConfig
from search.engine.prior import comparable, expressible, read_prior, restated
from search.records.store import FILE, SearchStore
from search.testing.searching import finish, make_searcher
from spaces import Member, Space, SpaceContext, Trial, get_space, with_checkpointing
from trainables.errors import UserError

CONTEXT = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})
PMF_NAS = {
    "method": "pmf",
    "n_fusion_layers": 3,
    "n_query_prompts": 4,
    "n_query_context_prompts": 4,
    "n_fusion_context_prompts": 4,
    "translator_width": 192,
    "learning_rate": 0.0021,
}
DETAILS = {
    "resolved.text_length": 16,
    "resolved.image_size": 224,
    "dataset.fingerprint": "aa",
    "encoder.text.fingerprint": "bb",
    "encoder.text.pooling": "cls",
    "encoder.image.fingerprint": "cc",
}


def one_length(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    """The space ``pmf``, with the translators' default width spelled out."""
    return {**get_space("pmf").sample(trial, context), "translator_width": context.width // 2}


ONE_LENGTH = replace(get_space("pmf"), name="one_length", sample=one_length)


def leads_to(space: Space, member: Member | None, config: dict[str, Any]) -> bool:
    """Whether Optuna, given the member's values, gets the configuration and asks for nothing else."""
    assert member is not None
    trial = optuna.trial.FixedTrial(member.values)
    return space.sample(trial, CONTEXT) == config == member.config and set(trial.params) == set(member.values)


@pytest.mark.parametrize("name", ["pmf_nas", "pmf", "mope", "all_methods"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_space_expresses_its_own(name, checkpointing) -> None:
    space = with_checkpointing(get_space(name)) if checkpointing else get_space(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        config = space.sample(trial, CONTEXT)
        member = expressible(space, CONTEXT, config, trial.params)
        assert leads_to(space, member, config)
        assert member.values == trial.params  # the learning rate before it was rounded, too
        assert leads_to(space, expressible(space, CONTEXT, config), config)


def test_unions_and_their_members_express_each_other() -> None:
    union, alone = get_space("all_methods"), get_space("pmf_nas")
    in_union = expressible(union, CONTEXT, PMF_NAS, {"learning_rate": 0.0020741, "n_query_prompts": 4})
    assert leads_to(union, in_union, PMF_NAS)
    assert in_union.values["method"] == "pmf"
    assert in_union.values["pmf.learning_rate"] == 0.0020741  # as it was before it was rounded
    assert leads_to(alone, expressible(alone, CONTEXT, PMF_NAS, in_union.values), PMF_NAS)
    assert expressible(alone, CONTEXT, {"method": "linear", "learning_rate": 1e-3}) is None
    assert expressible(get_space("wander"), CONTEXT, PMF_NAS) is None


def test_a_parameter_may_decide_several_fields() -> None:
    nas = get_space("pmf_nas")
    member = expressible(ONE_LENGTH, CONTEXT, PMF_NAS)
    assert leads_to(ONE_LENGTH, member, PMF_NAS)
    assert member.values["prompt_length"] == 4
    back = expressible(nas, CONTEXT, member.config, member.values)
    assert leads_to(nas, back, PMF_NAS)
    for other in ({"n_query_prompts": 8}, {"translator_width": 240}):
        assert expressible(ONE_LENGTH, CONTEXT, {**PMF_NAS, **other}) is None


@pytest.mark.parametrize(
    "other",
    [
        {"n_fusion_layers": 7},
        {"translator_width": 200},
        {"translator_width": 192.0},
        {"n_query_prompts": True},
        {"n_query_prompts": "4"},
        {"learning_rate": 0.02},
        {"learning_rate": 0.00213},
        {"gradient_checkpointing": True},
    ],
    ids=str,
)
def test_only_exactly_the_configuration_will_do(other) -> None:
    assert expressible(get_space("pmf_nas"), CONTEXT, {**PMF_NAS, **other}) is None


def test_a_space_of_many_other_names_is_given_up() -> None:
    names = [f"knob_{number}" for number in range(12)]
    knobs = Space(
        "knobs", "", lambda trial, _: {n: trial.suggest_int(n, 1, 400) for n in names}, lambda _: []
    )
    assert expressible(knobs, CONTEXT, PMF_NAS) is None


def test_gradient_checkpointing_is_stated_where_it_is_searched() -> None:
    plain, searching = (
        SearchConfig(space="pmf_nas"),
        SearchConfig(space="pmf_nas", gradient_checkpointing="search"),
    )
    always = SearchConfig(space="pmf_nas", gradient_checkpointing="on")
    searched = {**PMF_NAS, "gradient_checkpointing": True}
    assert restated(PMF_NAS, plain, always) == PMF_NAS
    assert restated(PMF_NAS, always, searching) == searched
    assert restated(PMF_NAS, plain, searching) == {**PMF_NAS, "gradient_checkpointing": False}
    assert restated(searched, searching, plain) == PMF_NAS
    assert restated(searched, searching, searching) == searched
    space = with_checkpointing(get_space("pmf_nas"))
    assert leads_to(space, expressible(space, CONTEXT, searched), searched)


def test_what_does_not_change_what_is_learnt_compares() -> None:
    old = SearchConfig(space="pmf_nas", feature_cache=False)
    new = SearchConfig(
        space="all_methods",
        dataset="copy",
        sampler="random",
        num_samples=3,
        seed=5,
        max_memory=2**30,
        attention="sdpa",
        gradient_checkpointing="on",
        packing=False,
        text_length=16,
    )
    assert comparable(old, DETAILS, new, DETAILS) == []


def test_says_what_keeps_two_searches_from_comparing() -> None:
    old = SearchConfig(space="pmf_nas", feature_cache=False, precision="fp32")
    new = old.replace(
        dataset="mine",
        epochs=8,
        batch_size=16,
        precision="bf16",
        encoder_dropout=False,
        optimizer="sgd",
        augment="flip",
        weight_decay=0.01,
        warm_up=0,
        head_start="random",
    )
    details = {**DETAILS, "resolved.text_length": 32, "resolved.image_size": 56, "dataset.fingerprint": "dd"}
    details |= {"encoder.text.pooling": "mean", "encoder.image.fingerprint": "ee"}
    assert comparable(old, DETAILS, new, details) == [
        "dataset: openclipart there, mine here",
        "text pooling: cls there, mean here",
        "image encoder: dinov2-small (cc) there, dinov2-small (ee) here",
        "epochs: 5 there, 8 here",
        "batch size: 32 there, 16 here",
        "text length: 16 there, 32 here",
        "image size: 224 there, 56 here",
        "precision: fp32 there, bf16 here",
        "encoder dropout: on there, off here",
        "optimizer: adamw there, sgd here",
        "augmentation: none there, flip here",
        "weight decay: 0.0001 there, 0.01 here",
        "warm up: 0.1 there, 0 here",
        "head start: probe there, random here",
    ]


def a_search_of_somebody_else(folder: Path, marker: Path) -> dict[str, Any]:
    """Write the store of a search in a space that a plugin registers; return its settings."""
    plugin = folder.parent / "theirs.py"
    plugin.write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    searcher = make_searcher(folder=folder, epochs=1)
    for trial, changes in enumerate(({}, {"method": "of_a_plugin"})):
        handed = searcher.suggest(str(trial))
        assert isinstance(handed, dict)
        record = finish(searcher, str(trial), 0.6 + trial / 10)
        record.config = {**record.config, **changes}
        searcher.recorder.keep(record)
    config = searcher.config.replace(
        space="of_a_plugin", plugins=(str(plugin),), sampler="of_a_plugin", objectives=("of_a_plugin",)
    )
    searcher.store.put_facts({"config": config.to_json(), "facts": {}})
    searcher.store.close()
    return config.to_dict()


def test_a_warm_start_runs_nothing_and_takes_what_it_can_express(tmp_path) -> None:
    marker = tmp_path / "was run"
    a_search_of_somebody_else(tmp_path / "theirs", marker)
    mine = make_searcher(epochs=1).setup
    prior, summary = read_prior(mine, SearchStore.read(tmp_path / "theirs"))
    assert not marker.exists()
    assert [values["accuracy"] for _, values in prior.results] == [0.6]
    assert summary.startswith("1 finished trials lie in space 'pmf_nas'")


@pytest.mark.parametrize(
    "facts",
    [
        {"config": None},
        {"config": json.dumps({"space": "x", "created": 1, "colour": "red"})},
        {"facts": None},
        {"facts": 3},
    ],
    ids=str,
)
def test_a_damaged_or_newer_search_is_refused_in_a_line(tmp_path, facts) -> None:
    a_search_of_somebody_else(tmp_path / "theirs", tmp_path / "was run")
    store = SearchStore.open(tmp_path / "theirs")
    store.put_facts(facts)
    store.close()
    with pytest.raises(UserError, match=rf"^[^\n]*theirs/{FILE}: [^\n]*$"):
        read_prior(make_searcher(epochs=1).setup, SearchStore.read(tmp_path / "theirs"))
