"""What another search has found out: which of its trials a space can express, and whether they compare."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from search.config import SearchConfig
from search.records.history import History, TrialRecord, canonical
from search.records.status import Status
from search.records.store import SearchStore
from search.setup import Setup
from spaces import Member, Space, SpaceContext
from spaces.base import CHECKPOINTING
from trainables.parameters import Choices, Parameter

#: Most members that are looked at for one configuration. More than one is needed only where a parameter is
#: not called what the field is called that it decides.
MOST_TRIES = 1000


@dataclass(frozen=True)
class Prior:
    """What another search found.

    Attributes:
        points: Parameter values to try first.
        results: Parameter values of finished trials, with the objectives' values.
    """

    points: Sequence[Mapping[str, Any]] = ()
    results: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]] = ()


def read_prior(setup: Setup, folder: Path) -> tuple[Prior, str]:
    """Return what another search found, as far as it can be expressed and compared here, and say so in words.

    Args:
        setup: The search that is to know of it.
        folder: The other search's.

    Raises:
        UserError: If no search was started there, or another process has it open.
    """
    config = setup.config
    store = SearchStore.read(folder)
    old = SearchConfig.from_json(store.fact("config"))
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
    """Return a configuration of one search as another one states it: with or without gradient checkpointing.

    It changes what a step takes, not what is learnt; a search that varies it has it in its configurations.

    Args:
        config: A configuration of the old search.
        old: The search that it comes from.
        new: The search that it is for.
    """
    rest = {name: value for name, value in config.items() if name != CHECKPOINTING}
    if new.trial.gradient_checkpointing != "search":
        return rest
    return {**rest, CHECKPOINTING: config.get(CHECKPOINTING, old.trial.gradient_checkpointing == "on")}


def expressible(
    space: Space, context: SpaceContext, config: Mapping[str, Any], params: Mapping[str, Any] | None = None
) -> Member | None:
    """Return the member of a space that is a configuration, or None if there is none.

    A parameter's value is what is called like it, with or without a method in front (``pmf.n_layers``), among
    ``params`` or else in the configuration. For a parameter of any other name all values of these are tried,
    and a categorical's choices. Whatever was tried, the member's configuration is exactly the given one.

    Args:
        space: The space.
        context: The encoders.
        config: The configuration.
        params: The parameter values that led to it, in whatever space it comes from.
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
    """Yield the members with some parameters chosen, and the others at all values that may be meant."""
    member = space.at(chosen, context)
    name = next((name for name in member.parameters if name not in chosen), None)
    if name is None:
        yield member
        return
    # Further parameters may depend on this one: they are asked for anew.
    for value in _candidates(name, member.parameters[name], known):
        yield from _members(space, context, known, {**chosen, name: value})


def _candidates(name: str, parameter: Parameter, known: Mapping[str, Any]) -> list[Any]:
    """Return what a parameter's value may be, the likeliest first."""
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
    """Return what makes metrics of one search no guide to those of another; empty if nothing does.

    Left out is what changes the memory or the speed of training but not what is learnt, and the seed.

    Args:
        old: Settings of the search that has trained.
        old_details: What they stood for: resolved sizes, and fingerprints of dataset and encoders.
        new: Settings of the other.
        new_details: What they stand for.

    Returns:
        Lines such as ``epochs: 5 there, 8 here``.
    """
    found: list[str] = []

    def compare(what: str, there: Any, here: Any) -> None:
        if there != here:
            found.append(f"{what}: {there} there, {here} here")

    def compare_content(what: str, key: str, there: str | None, here: str | None) -> None:
        # The same content under two names is the same; by one name, the contents have to be told apart.
        contents = [details.get(key) for details in (old_details, new_details)]
        if contents[0] != contents[1]:
            names = (there, here) if there != here else tuple(f"{there} ({text})" for text in contents)
            compare(what, *names)

    compare_content("dataset", "dataset.fingerprint", old.data.dataset, new.data.dataset)
    for modality in dict.fromkeys((*old.encoders.names, *new.encoders.names)):
        names = (old.encoders.names.get(modality), new.encoders.names.get(modality))
        compare_content(f"{modality} encoder", f"encoder.{modality}.fingerprint", *names)
    compare("epochs", old.trial.epochs, new.trial.epochs)
    compare("batch size", old.step.batch_size, new.step.batch_size)
    for what in ("text_length", "image_size"):
        key = f"resolved.{what}"
        compare(what.replace("_", " "), old_details.get(key), new_details.get(key))
    compare("precision", old.step.precision, new.step.precision)
    compare("encoder dropout", *("on" if config.step.encoder_dropout else "off" for config in (old, new)))
    compare("optimizer", old.step.optimizer, new.step.optimizer)
    compare("augmentation", old.trial.augment, new.trial.augment)
    return found
