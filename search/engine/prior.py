"""Results of another search: which of its trials a space can express, and whether they are comparable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from search.config import SearchConfig
from search.records.history import History, TrialRecord, canonical
from search.records.status import Status
from search.records.store import SearchStore
from search.setup import Setup
from spaces import Member, Space, SpaceContext
from spaces.base import CHECKPOINTING
from trainables.data import KINDS
from trainables.errors import UserError
from trainables.parameters import Choices, Parameter
from trainables.step import Recipe
from trainables.towers import InputSizes

#: Most members that are tried to express one configuration. More than one is needed only if a parameter has
#: another name than the field that it decides.
MOST_TRIES = 1000


@dataclass(frozen=True)
class Prior:
    """Results of another search.

    Attributes:
        points: Parameter values of its front, to try first.
        results: Parameter values of finished trials, with the objectives' values.
    """

    points: Sequence[Mapping[str, Any]] = ()
    results: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]] = ()


def require_target(config: SearchConfig, store: SearchStore) -> None:
    """Check that another search's memory is for the same target as this one's.

    Args:
        config: Settings of the search that uses the other one's results.
        store: The store of the other search.

    Raises:
        UserError: If it is not, or if the store is damaged or of another version.
    """
    with store.restoring():
        there = SearchConfig.from_json(store.fact("config"), store.path).step.target
    if there != config.step.target:
        raise UserError(
            f"--warm-start {config.search.warm_start}: memory is for target '{there}' there and for "
            f"'{config.step.target}' here; add --target {there}"
        )


def read_prior(setup: Setup, store: SearchStore) -> tuple[Prior, str]:
    """Return the results of another search that this one can use, and a summary in words.

    The other search may be anybody's: its settings and results are read, and none of its plugins is run.

    Args:
        setup: The setup of the search that uses the results.
        store: The store of the other search.

    Raises:
        UserError: If the store is damaged or of another version.
    """
    with store.restoring():
        return _read(setup, store)


def _read(setup: Setup, store: SearchStore) -> tuple[Prior, str]:
    config = setup.config
    old = SearchConfig.from_json(store.fact("config"), store.path)
    differences = comparable(old, store.fact("facts"), config, setup.details)
    if any(o.unit == "s" and not o.known for o in setup.history.objectives):
        differences.append("step times are other ones on another day")
    history = History(setup.history.objectives, setup.history.reference)
    points = {}
    for trial_id, document, epochs in store.trials():
        record = TrialRecord.from_dict(trial_id, document, epochs)
        member = expressible(setup.space, setup.context, restated(record.config, old, config))
        finished = record.status is Status.FINISHED and not record.repeat_of
        if not finished or member is None or history.find(member.config):
            continue
        memory = setup.predictor.predict_configuration(member.config)
        history.add(replace(record, config=member.config, memory=memory))
        points[trial_id] = member.values
    results = [] if differences else [(point, history.trials[t].values) for t, point in points.items()]
    used = "all inform the sampler" if results else f"not comparable ({', '.join(differences)})"
    front = [record.trial_id for record in history.front()]
    return Prior([points[trial_id] for trial_id in front], results), (
        f"{len(points)} finished trials lie in space '{config.search.space}', {used}; its front of "
        f"{len(front)} is tried first"
    )


def restated(config: Mapping[str, Any], old: SearchConfig, new: SearchConfig) -> dict[str, Any]:
    """Return a configuration in another search's form: with or without gradient checkpointing.

    Gradient checkpointing changes the memory and time of a step, but not what is learnt. Only a search that
    varies it has it in its configurations.

    Args:
        config: A configuration of the old search.
        old: Settings of the search that the configuration comes from.
        new: Settings of the search that the configuration is for.
    """
    rest = {name: value for name, value in config.items() if name != CHECKPOINTING}
    if new.trial.gradient_checkpointing != "search":
        return rest
    return {**rest, CHECKPOINTING: config.get(CHECKPOINTING, old.trial.gradient_checkpointing == "on")}


def expressible(
    space: Space, context: SpaceContext, config: Mapping[str, Any], params: Mapping[str, Any] | None = None
) -> Member | None:
    """Return the member of a space that has a given configuration, or None if there is none.

    A parameter takes the value of the same name from ``params``, or else from the configuration. A method in
    front of the parameter's name is ignored (``pmf.n_layers``). If no name matches, all values of these are
    tried, and all choices of a categorical parameter. The member's configuration always equals the given one.

    Args:
        space: The space.
        context: The encoders.
        config: The configuration.
        params: Parameter values that led to the configuration in the space that it comes from.
    """
    wanted = canonical(config)
    for known in [{**config, **params}, config] if params else [config]:
        for member in islice(_members(space, context, known, {}), MOST_TRIES):
            if canonical(member.config) == wanted:
                return member
    return None


def _members(
    space: Space, context: SpaceContext, known: Mapping[str, Any], chosen: Mapping[str, Any]
) -> Iterator[Member]:
    """Yield the members with the chosen parameters and all plausible values of the others."""
    member = space.at(chosen, context)
    name = next((name for name in member.parameters if name not in chosen), None)
    if name is None:
        yield member
        return
    # The other parameters may depend on this one, so the recursion asks for them again.
    for value in _candidates(name, member.parameters[name], known):
        yield from _members(space, context, known, {**chosen, name: value})


def _candidates(name: str, parameter: Parameter, known: Mapping[str, Any]) -> list[Any]:
    """Return the plausible values of a parameter, the likeliest first."""
    key = name if name in known else name.rpartition(".")[2]
    values = [known[key]] if key in known else list(known.values())
    if isinstance(parameter, Choices):
        texts = [json.dumps(value) for value in values]
        meant = [choice for choice in parameter if json.dumps(choice) in texts]
        others = [choice for choice in parameter if choice not in meant]
        return meant if key in known else [*meant, *others]
    kinds = (int,) if parameter.whole else (int, float)
    numbers = [value for value in values if isinstance(value, kinds) and not isinstance(value, bool)]
    return list(dict.fromkeys(number for number in numbers if parameter.holds(number)))


def comparable(
    old: SearchConfig, old_details: Mapping[str, Any], new: SearchConfig, new_details: Mapping[str, Any]
) -> list[str]:
    """Return the differences that make the metrics of two searches incomparable; empty if there are none.

    The seed is not compared, nor are settings that change only the memory or the speed of training.

    Args:
        old: Settings of the search that has trained.
        old_details: Its resolved sizes, and the fingerprints of its dataset and encoders.
        new: Settings of the new search.
        new_details: The same details of the new search.

    Returns:
        Lines such as ``epochs: 5 there, 8 here``.
    """
    found: list[str] = []

    def compare(what: str, there: Any, here: Any) -> None:
        if there != here:
            found.append(f"{what}: {there} there, {here} here")

    def compare_content(what: str, key: str, there: str | None, here: str | None) -> None:
        # Equal contents under two names are equal. Different contents under one name show their fingerprints.
        contents = [details.get(key) for details in (old_details, new_details)]
        if contents[0] != contents[1]:
            names = (there, here) if there != here else tuple(f"{there} ({text})" for text in contents)
            compare(what, *names)

    compare_content("dataset", "dataset.fingerprint", old.data.dataset, new.data.dataset)
    for modality in dict.fromkeys((*_modalities(old_details), *_modalities(new_details))):
        names = (_encoder(old, modality), _encoder(new, modality))
        compare_content(f"{modality} encoder", f"encoder.{modality}.fingerprint", *names)
        poolings = [details.get(f"encoder.{modality}.pooling") for details in (old_details, new_details)]
        compare(f"{modality} pooling", *poolings)
    compare("task", *(details.get("task") for details in (old_details, new_details)))
    drawn = [(c.data.train_rows, c.search.seed) if c.data.train_rows else "all" for c in (old, new)]
    compare("training rows and their seed", *drawn)
    compare("epochs", old.trial.epochs, new.trial.epochs)
    compare("batch size", old.step.batch_size, new.step.batch_size)
    for what in InputSizes().of(KINDS):
        key = f"resolved.{what}"
        compare(what.replace("_", " "), old_details.get(key), new_details.get(key))
    compare("precision", old.step.precision, new.step.precision)
    compare("encoder dropout", *("on" if config.step.encoder_dropout else "off" for config in (old, new)))
    compare("optimizer", old.step.optimizer, new.step.optimizer)
    compare("augmentation", old.trial.augment, new.trial.augment)
    for name in ("weight_decay", "clip_norm", "label_smoothing", "modality_learning_rates"):
        compare(name.replace("_", " "), getattr(old.step, name), getattr(new.step, name))
    for option in Recipe.options():
        compare(option.name.replace("_", " "), *(getattr(each.recipe, option.name) for each in (old, new)))
    return found


def _modalities(details: Mapping[str, Any]) -> list[str]:
    """Return the modalities whose encoders a search's details list."""
    keys = (key.removesuffix(".fingerprint") for key in details if key.endswith(".fingerprint"))
    return [key.removeprefix("encoder.") for key in keys if key.startswith("encoder.")]


def _encoder(config: SearchConfig, modality: str) -> str | None:
    """Return the name of the encoder that settings name for a modality, if they do."""
    return config.encoders.named.get(modality) or config.encoders.by_kind.get(modality)
