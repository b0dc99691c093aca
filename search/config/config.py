"""All settings of a search: the blocks, checks across blocks, JSON, and changes when a search is resumed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_type_hints

from search.config.blocks import (
    BackendSettings,
    DataSettings,
    EncoderSettings,
    Extensions,
    PlacementSettings,
    StorageSettings,
    TargetSettings,
    TrackingSettings,
    TrialSettings,
)
from search.config.exploring import ConfigurationSettings, OneShotSettings, SearchSettings
from search.config.markers import Changeable, DefaultWith
from search.config.recipes import RECIPES
from search.records.place import Place, absolute
from trainables.errors import UserError
from trainables.options import OnlyWith, Option, Settings
from trainables.reading_settings import ReadingSettings
from trainables.step import Recipe, StepSettings
from trainables.task_settings import TaskSettings

if TYPE_CHECKING:
    from pathlib import Path

    from search.goals.objectives import Objective

#: Samplers that can propose subnets: they are fast, and learn only from what they are told.
SUBNET_SAMPLERS = ("evolution", "nsga2", "nsga3", "qmc", "random")


@dataclass(frozen=True, init=False)
class SearchConfig:
    """All settings of a search, which are saved as ``config.json`` with the results.

    The constructor takes the fields of all blocks by name: ``SearchConfig(space="pmf_nas", num_samples=10)``.
    Each value is an attribute of its block: ``config.search.num_samples``. docs/options.md lists all fields.
    Fields that are left out have the values of ``recipe``, if that is given and states them, or else their
    defaults.

    Settings are data: making or reading them runs no plugin. ``load`` runs the plugins. ``check`` looks up
    the names, of which plugins may have registered some. ``run_search`` and ``resume_search`` call both.

    Args:
        space: Name of the space.
        **settings: Fields of the blocks.

    Raises:
        UserError: If a value is not accepted.
    """

    extensions: Extensions
    search: SearchSettings
    configuration: ConfigurationSettings
    oneshot: OneShotSettings
    trial: TrialSettings
    step: StepSettings
    target: TargetSettings
    recipe: Recipe
    task: TaskSettings
    data: DataSettings
    reading: ReadingSettings
    encoders: EncoderSettings
    storage: StorageSettings
    tracking: TrackingSettings
    backend: BackendSettings
    placement: PlacementSettings
    created: float = field(repr=False)

    def __init__(self, *, space: str, created: float | None = None, **settings: Any) -> None:
        given = {"space": space, **settings}
        defaults = self._defaults(given.get("strategy", SearchSettings.strategy), given.get("recipe"))
        made: dict[str, Settings] = {}
        for name, block in self.blocks().items():
            names = [option.name for option in block.options()]
            made[name] = block(**{name: given.pop(name, defaults[name]) for name in names})
        if given:
            raise TypeError(f"SearchConfig() got an unexpected keyword argument {next(iter(given))!r}")
        for name, values in made.items():
            object.__setattr__(self, name, values)
        object.__setattr__(self, "created", time.time() if created is None else created)

    @classmethod
    def of_training(
        cls, method: str, settings: Mapping[str, Any] | Iterable[str] = (), **options: Any
    ) -> SearchConfig:
        """Return the settings with which one configuration is trained: the search of a space of one.

        Args:
            method: Name of the method.
            settings: Values by name, or texts ``NAME=VALUE``, see ``spaces.single``.
            **options: Further fields of the blocks.

        Raises:
            UserError: If a value is not accepted.
        """
        if isinstance(settings, Mapping):
            settings = [f"{name}={_as_text(value)}" for name, value in settings.items()]
        fixed: dict[str, Any] = {"num_samples": 1, "sampler": "random", "probe": False}
        return cls(space=method, method=method, settings=tuple(settings), **fixed, **options)

    @classmethod
    def blocks(cls) -> dict[str, type[Settings]]:
        """Return the blocks' classes by attribute, in the order of the command line."""
        hints = get_type_hints(cls)
        return {name: kind for name, kind in hints.items() if issubclass(kind, Settings)}

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Return all options by name."""
        return {option.name: option for block in cls.blocks().values() for option in block.options()}

    @classmethod
    def _defaults(cls, strategy: str, recipe: str | None) -> dict[str, Any]:
        """Return the values of options that are left out, by name."""
        paper = RECIPES.get(recipe or "")
        stated = paper.options if paper else {}
        options = cls.options().items()
        return {name: stated.get(name, default_with(option, strategy)) for name, option in options}

    def load(self) -> None:
        """Run the plugins, unless this process has run them already.

        Raises:
            UserError: If a plugin cannot be loaded.
        """
        self.extensions.load()

    def check(self) -> None:
        """Check the names in the settings, and whether the settings go together.

        Raises:
            UserError: If nothing is registered under a name, or if settings do not go together.
        """
        for name in self.blocks():
            getattr(self, name).check()
        self._check_together()

    def _check_together(self) -> None:
        from search.goals.constraints import parse_constraints
        from search.goals.objectives import always_reported, get_objectives
        from search.schedulers import make_rule
        from spaces import get_space
        from trainables.tasks import DEFAULT_TASK, get_task

        search, trial = self.search, self.trial
        if self.configuration.method is None:
            get_space(search.space)
        # Which metric the dataset's task has does not matter here
        default = always_reported(get_task(self.task.task or DEFAULT_TASK))
        objectives = default if search.objectives is None else get_objectives(search.objectives)
        self._check_meaning()
        make_rule(search.scheduler, objectives, trial.epochs, search.reduction_factor, self.first_rung)
        if self.step.prefix != "computed" and (trial.augment != "none" or not trial.feature_cache):
            raise UserError(
                f"--prefix {self.step.prefix} takes the frozen layers' output from the cache, which "
                "--no-feature-cache and --augment rule out; use --prefix computed"
            )
        if trial.augment != "none" and trial.feature_cache:
            raise UserError(
                f"--augment {trial.augment} changes the images in every epoch, so cached outputs of the "
                "frozen layers would be wrong; add --no-feature-cache"
            )
        if self.configuration.method is not None and trial.gradient_checkpointing == "search":
            raise UserError("--gradient-checkpointing search: one configuration is trained; use off or on")
        if search.strategy == "oneshot":
            constraints = parse_constraints(search.all_constraints)
            self._check_oneshot((*objectives, *(constraint.objective for constraint in constraints)))

    def _check_meaning(self) -> None:
        """Raise ``UserError`` if an option was given that means nothing beside others."""
        values, options = self.to_dict(), self.options()
        defaults = self._defaults(self.search.strategy, self.trial.recipe)
        for name, option in options.items():
            for marker in option.markers if values[name] != defaults[name] else ():
                if isinstance(marker, OnlyWith) and values[marker.option] not in marker.values:
                    raise UserError(
                        f"{option.flag}: is not for {options[marker.option].flag} {values[marker.option]}; "
                        f"leave it out, or give {marker.condition}"
                    )

    def _check_oneshot(self, objectives: Iterable[Objective]) -> None:
        """Raise ``UserError`` if a one-shot search cannot use the settings.

        Args:
            objectives: The search's objectives, including those of constraints.
        """
        from trainables.supernet.step import check_paths

        search, oneshot, step = self.search, self.oneshot, self.step
        if search.sampler not in SUBNET_SAMPLERS:
            accepted = ", ".join(SUBNET_SAMPLERS)
            raise UserError(f"--sampler {search.sampler}: proposes no subnets; must be one of {accepted}")
        for objective in objectives:
            if not (objective.known or objective.tested):
                raise UserError(
                    f"{objective.name}: is not known of subnets that are not trained; use --strategy trials"
                )
        if self.trial.gradient_checkpointing == "search":
            raise UserError("--gradient-checkpointing search: is not for --strategy oneshot; use off or on")
        if step.prefix == "offloaded":
            raise UserError(
                "--prefix offloaded: is not for --strategy oneshot, whose subnets share their frozen layers; "
                "use cached or computed"
            )
        workers, parts = oneshot.workers, step.gradient_accumulation
        if step.batch_size % (workers * parts):
            times = f" times --gradient-accumulation {parts}" if parts > 1 else ""
            raise UserError(f"--workers {workers}{times}: must divide --batch-size, {step.batch_size}")
        check_paths(oneshot.paths, distill=oneshot.distill)

    @property
    def run_name(self) -> str:
        """The search's name; by default it is made from the space and the time."""
        made = time.strftime(f"{self.search.space}-%Y%m%d-%H%M%S", time.localtime(self.created))
        return self.storage.name or made

    @property
    def place(self) -> Place:
        """Where the search is."""
        return Place(absolute(self.storage.storage_path), self.run_name)

    @property
    def most_at_once(self) -> int:
        """Number of trials that could run at the same time, if they fit."""
        return self.search.num_samples if self.configuration.method is None else self.search.seeds

    @property
    def first_rung(self) -> int:
        """Number of epochs after which a scheduler first compares trials."""
        least = self.search.min_epochs
        return least if least is not None else max(1, round(self.trial.epochs / 3))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings of all blocks by name."""
        return {key: value for name in self.blocks() for key, value in getattr(self, name).to_dict().items()}

    def _values(self) -> dict[str, Any]:
        """Return all settings by name, with the secrets that ``to_dict`` leaves out."""
        return {**self.to_dict(), "tracking_uri": self.tracking.address}

    def to_json(self) -> str:
        """Return the settings as a JSON document."""
        return json.dumps({**self.to_dict(), "name": self.run_name, "created": self.created}, indent=1)

    @classmethod
    def from_json(cls, text: Any, source: Path | None = None) -> SearchConfig:
        """Read settings from a document that ``to_json`` wrote.

        Args:
            text: The document.
            source: The file that holds it, for messages.

        Raises:
            UserError: If it is no such document, or if another version wrote it.
        """
        where = "" if source is None else f"{source}: "
        try:
            values: dict[str, Any] = dict(json.loads(text))
            created = float(values.pop("created"))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{where}no settings of a search ({type(error).__name__}: {error})") from error
        unknown = values.keys() - cls.options().keys()
        if unknown:
            raise UserError(
                f"{where}settings of another version: this one has no {', '.join(sorted(unknown))}"
            )
        values.setdefault("target", "cpu")  # which it was before there was a choice
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        try:
            return cls(**{**values, **lists}, created=created)
        except UserError as error:
            raise UserError(f"{where}{error}") from error
        except (AttributeError, TypeError) as error:
            raise UserError(f"{where}settings of another version: {error}") from error

    def replace(self, **changes: Any) -> SearchConfig:
        """Return these settings with some changed, by name."""
        return SearchConfig(**{**self._values(), "created": self.created, **changes})

    def resumed(self, num_samples: int | str | None = None, **changes: Any) -> SearchConfig:
        """Return the settings with which this search is resumed.

        Args:
            num_samples: Total number of samples, or ``+20`` for twenty more; None keeps the number.
            **changes: Settings that were given again.

        Raises:
            UserError: If a setting differs that may not change.
        """
        values, options = self.to_dict(), self.options()
        for name, value in changes.items():
            if options[name].kept(value) != values[name] and not options[name].find(Changeable):
                before = "without" if values[name] in (None, ()) else f"with {_shown(values[name])}"
                raise UserError(
                    f"{options[name].flag} {_shown(value)}: search '{self.run_name}' was started {before}; "
                    f"leave it out, or start a new search with --warm-start {self.place.argument}"
                )
        return self.replace(num_samples=more_samples(num_samples, self.search.num_samples), **changes)


def default_with(option: Option, strategy: str) -> Any:
    """Return an option's default for a search strategy."""
    other = option.find(DefaultWith)
    return other.value if other and other.strategy == strategy else option.default


def more_samples(wanted: int | str | None, before: int | None = None) -> int:
    """Return the total number of samples; ``+20`` means twenty more than before.

    Raises:
        UserError: If the text is not such a number.
    """
    text = str(before if wanted is None else wanted)
    if not re.fullmatch(r"\+?\d{1,18}", text) or (text.startswith("+") and before is None):
        raise UserError(f"--num-samples {text}: write a number, or with --resume +20 for twenty more")
    return int(text) + (before or 0) * text.startswith("+")


def _as_text(value: Any) -> str:
    """Return a setting's value as it is written on the command line."""
    if isinstance(value, str):
        return value
    return "none" if value is None else json.dumps(value)


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
