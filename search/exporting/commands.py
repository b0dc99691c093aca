"""The commands with which a member of a front is trained again, loaded, used and served."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search.config import SearchConfig
from search.config.command import written
from search.config.exploring import OF_SEARCHES
from search.config.starting import options_apart
from search.invocation import program
from search.records.files import read_document
from search.records.history import PROBE
from search.records.place import DEFAULT_STORAGE, Place, absolute
from spaces.single import configuration
from trainables.configuration import NO_OPTIONS, SEARCHED_RECIPE, SEARCHED_SETTINGS
from trainables.errors import UserError
from trainables.methods import get_method
from trainables.methods.space import SpaceContext

#: Port at which a model is served.
PORT = 5001

#: A value of each kind of modality, as Python. Features are arrays of the size that their encoder takes.
_EXAMPLES = {
    "text": '"a red car on the road"',
    "image": '"picture.jpg"',
    "audio": '"sound.wav"',
    "features": 'numpy.load("{}.npy")',
}
#: Options of a training that say where its results are, or that a configuration states itself.
_ELSEWHERE = ("name", "storage_path", "method", "settings")


def commands_of(row: Mapping[str, Any], config: SearchConfig) -> dict[str, str]:
    """Return what a user types to train a member of a front again, and to use its model.

    Args:
        row: The member's row, see ``front_rows``.
        config: The search's settings, with the name and the storage path that it has now.

    Returns:
        Command lines for a shell in the current folder: ``train`` trains the same configuration again, or for
        a probe fits it again; ``export`` copies the model out of the search; ``apply`` labels rows; ``score``
        says how good it is on them; ``serve`` answers over HTTP. ``load`` is Python. A member without a model
        has only ``train``.
    """
    place = config.place
    found = {"train": train_command(row["config"], config)}
    if row.get("model") is None:
        return found
    trial = row["trial_id"]
    copy = f"{place.name}-{Path(row['model']).name}"
    inside = place.folder / row["model"]
    folder = copy if place.remote else _near(inside)
    data = shlex.quote(_near_data(config.data.dataset))
    member = shlex.quote(trial)
    return {
        **found,
        "export": f"{program()} export {_search(place)} {shlex.quote(copy)} --member {member}",
        **usage(folder, kinds_of(inside), data),
    }


def usage(folder: str, kinds: Mapping[str, str], data: str = "DATA") -> dict[str, str]:
    """Return how a model in a folder is loaded, applied and served, as ``commands_of`` does.

    Args:
        folder: The folder.
        kinds: Kind of each of its modalities.
        data: A dataset, as a word of a shell's command.
    """
    values = ", ".join(f'"{name}": {_EXAMPLES[kind].format(name)}' for name, kind in kinds.items())
    imports = ["import numpy"] if "features" in kinds.values() else []
    loading = [
        *imports,
        "from trainables import load_model",
        f"model = load_model({json.dumps(folder, ensure_ascii=False)})",
        f"print(model.predict([{{{values}}}]))",
    ]
    word = shlex.quote(folder)
    return {
        "load": "\n".join(loading),
        "apply": f"{program()} apply {word} {data} --out predictions.csv",
        "score": f"{program()} score {word} {data}",
        "serve": f"mlflow models serve -m {word} --env-manager local --port {PORT}",
    }


def train_command(config: Mapping[str, Any], settings: SearchConfig) -> str:
    """Return the command that trains a configuration as a search did.

    Args:
        config: The configuration. That of a probe gives a search, which begins with its probe.
        settings: The search's settings.
    """
    method = config["method"]
    if method.partition(":")[0] == PROBE:
        start = SearchConfig(space=settings.search.space, recipe=settings.trial.recipe, num_samples=1)
        words = [program(), f"--space {shlex.quote(settings.search.space)}", "--num-samples 1"]
        left_out = {*_ELSEWHERE, "space", "num_samples"}
        return " ".join([*words, *_differences(settings, start, left_out)])
    start = SearchConfig.of_training(method, recipe=settings.trial.recipe)
    values = {**_unsaid(method, config, settings), **config}
    options = SearchConfig.options()
    words = [
        written(options[name], tuple(value))
        if isinstance(value, list | tuple) and name in options
        else f"--set {shlex.quote(f'{name}={_text(value)}')}"
        for name, value in values.items()
        if name != "method"
    ]
    recipe = [] if settings.trial.recipe is None else [f"--recipe {settings.trial.recipe}"]
    left_out = {*_ELSEWHERE, *OF_SEARCHES, *config}
    head = [program(), "train", f"--method {shlex.quote(method)}", *words, *recipe]
    return " ".join([*head, *_differences(settings, start, left_out)])


def kinds_of(folder: Path) -> dict[str, str]:
    """Return the kind of each modality of a model; text and image if the folder is not on this machine."""
    inputs = read_document(folder / "config.json").get("inputs") or {"text": {}, "image": {}}
    return {name: each.get("kind", name) for name, each in inputs.items()}


def _differences(settings: SearchConfig, start: SearchConfig, left_out: set[str]) -> Iterator[str]:
    """Yield the options that make settings of others, apart from some; those of the place are added."""
    searched = settings.to_dict()["gradient_checkpointing"] == "search"  # the configuration has its value
    if searched:
        left_out = {*left_out, "gradient_checkpointing"}
    yield from options_apart(settings, start.to_dict(), left_out)
    if settings.storage.storage_path != absolute(DEFAULT_STORAGE):
        yield f"--storage-path {shlex.quote(settings.storage.storage_path)}"


def _unsaid(method: str, config: Mapping[str, Any], settings: SearchConfig) -> dict[str, Any]:
    """Return what a training would take from the method's space, and what the search had in its place.

    A space need not choose all that the method's own space does.
    """
    same = dict.fromkeys(("text", "image"), 12)
    try:
        own = configuration(method, {}, SpaceContext(same, dict.fromkeys(same, 384)))
        defaults = get_method(method).config_class.from_dict({}).to_dict()
    except UserError:  # a method without a space of its own, or one that other encoders need
        return {}
    stated = settings.to_dict()
    of_search = (*SEARCHED_SETTINGS, *SEARCHED_RECIPE)
    found = {name: stated.get(name) for name in of_search if name in own and name in stated}
    found |= {name: defaults[name] for name in own if name not in NO_OPTIONS}
    return {name: value for name, value in found.items() if name not in config}


def _text(value: Any) -> str:
    """Return a setting's value as ``--set`` reads it."""
    if isinstance(value, str):
        return value
    return "none" if value is None else json.dumps(value)


def _search(place: Place) -> str:
    """Return the shortest text by which a command in the current folder finds a search."""
    if place.remote or absolute(DEFAULT_STORAGE) == place.storage:
        return place.argument
    return shlex.quote(_near(place.folder))


def _near(path: Path) -> str:
    """Return a path relative to the current folder if it is inside of it, or else the whole path."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)


def _near_data(dataset: str) -> str:
    return _near(Path(dataset)) if os.path.isabs(dataset) else dataset
