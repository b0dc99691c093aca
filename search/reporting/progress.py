"""The progress of a running search, shown in the terminal."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.records.status import UNFINISHED, Status
from search.units import format_duration

if TYPE_CHECKING:
    from search.records.history import History, TrialRecord

#: Least seconds between two lines if the output cannot be redrawn.
_QUIET_SECONDS = 60.0
#: Seconds that a view may take at every event, because the search waits for it. A view goes through all
#: trials; one that takes longer is followed by a pause of this many times its duration.
_CHEAP = 0.001
_PAUSE = 20.0


@dataclass(frozen=True)
class View:
    """What is shown of a search at one moment.

    The terminal is redrawn in a thread of its own. That thread reads only a view, which nothing changes,
    because the search may change its history at any time.

    Attributes:
        facts: Names and values, without times.
        running: How far each running trial is, and its configuration.
        taken: Time of the moment, in seconds.
        elapsed: Seconds since the search began.
        left: Estimated seconds until its end; None if they are unknown.
    """

    facts: tuple[tuple[str, str], ...]
    running: tuple[tuple[str, str], ...]
    taken: float
    elapsed: float
    left: float | None

    def rows(self, now: float) -> list[tuple[str, str]]:
        """Return the facts with the times of a later moment, as pairs of a name and a value."""
        later = now - self.taken
        rows = list(self.facts)
        if self.left is not None:
            rows.append(("time left", f"about {format_duration(max(self.left - later, 0))}"))
        return [*rows, ("elapsed", format_duration(self.elapsed + later))]


class Progress:
    """Shows progress: a live view in a terminal, elsewhere at most one plain line a minute.

    Args:
        console: Where progress is shown.
        history: The search's trials.
        num_samples: Number of planned trials; of a training, that of its seeds.
        epochs: Epochs of a complete trial.
        time_budget: Seconds after which training ends; None sets no limit.
        alone: Whether one configuration is trained, which has no front.
    """

    def __init__(
        self,
        console: Console,
        history: History,
        num_samples: int,
        epochs: int,
        time_budget: float | None = None,
        *,
        alone: bool = False,
    ) -> None:
        self.alone = alone
        self.console = console
        self.history = history
        self.num_samples = num_samples
        self.epochs = epochs
        self.time_budget = time_budget
        self._began = time.monotonic()
        self._said = self._began
        self._before = sum(len(record.epochs) for record in history.trials.values())
        self._preparing: float | None = None
        self._shown = self.view()
        self._due = self._began
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=2, transient=True)

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def started(self, record: TrialRecord) -> None:
        """Show progress, if it is due: a trial was started."""
        self.update()

    def reported(self, record: TrialRecord) -> None:
        """Show progress, if it is due: a trial reported an epoch."""
        self.update()

    def ended(self, record: TrialRecord) -> None:
        """Show progress, if it is due: a trial ended."""
        self.update()

    def update(self) -> None:
        """Take a new view for the terminal; without a terminal, print a line if one is due."""
        now = time.monotonic()
        if self.console.is_terminal:
            if now >= self._due:
                self._shown = self.view()
                taken = time.monotonic() - now
                self._due = now + (_PAUSE * taken if taken > _CHEAP else 0)
        elif now - self._said > _QUIET_SECONDS:
            self._said = now
            line = " | ".join(f"{name} {value}" for name, value in self.facts())
            say(self.console, line)

    def facts(self) -> list[tuple[str, str]]:
        """Return the facts to show now, as pairs of a name and a value."""
        return self.view().rows(time.monotonic())

    def view(self) -> View:
        """Return what is to be shown now; only the search's own thread may call this."""
        history, now = self.history, time.monotonic()
        running, paused = history.by_status(Status.RUNNING), history.by_status(Status.PAUSED)
        records = history.trials.values()
        samples = [r for r in records if (r.retry_of is None if self.alone else r.number is not None)]
        going_on = (Status.RUNNING, Status.PAUSED, Status.SET_ASIDE)
        ended = sum(record.status not in going_on for record in samples)
        best = history.best()
        facts = [
            (
                "trials",
                f"{ended} of {self.num_samples} done, {len(running)} running"
                + (f", {len(paused)} paused" if paused else ""),
            ),
            *((f"best {o.name}", f"{best[o.name]:.3f}") for o in history.objectives if best),
        ]
        if not self.alone:
            facts.append(("hypervolume", f"{history.hypervolume():.3f}"))
            facts.append(("front", f"{len(history.front())} members"))
        if history.infeasible:
            facts.append(("infeasible", f"{len(history.infeasible)} never started"))
        for status in (*UNFINISHED, Status.SET_ASIDE):
            count = len(history.by_status(status))
            if count:
                facts.append((status.words, str(count)))
        planned = (self.num_samples - len(samples) + len(running)) * self.epochs
        planned -= sum(len(record.epochs) for record in running)
        elapsed = now - self._began
        rows = tuple(
            (f"running {len(record.epochs)}/{self.epochs}", _configured(record)) for record in running
        )
        return View(tuple(facts), rows, now, elapsed, self._left(elapsed, planned))

    def _left(self, elapsed: float, planned: int) -> float | None:
        """Estimate the seconds for ``planned`` epochs from the epochs so far; None before the first one."""
        epochs = sum(len(record.epochs) for record in self.history.trials.values()) - self._before
        if not epochs:
            return None
        if self._preparing is None:  # preparation before the first epoch happens only once
            done = (record.epochs[-1] for record in self.history.trials.values() if record.epochs)
            latest = max(done, key=lambda epoch: epoch["time"])
            training = latest.get("epoch_seconds", elapsed) + latest.get("validation_seconds", 0.0)
            self._preparing = max(0.0, elapsed - training)
        left = (elapsed - self._preparing) / epochs * planned
        return left if self.time_budget is None else min(left, self.time_budget - elapsed)

    def _table(self) -> Table:
        """Draw the latest view; called from the terminal's thread."""
        shown, table = self._shown, Table.grid(padding=(0, 2))
        for name, value in (*shown.rows(time.monotonic()), *shown.running):
            table.add_row(Text(name, style="dim"), Text(value))
        return table


def _configured(record: TrialRecord) -> str:
    settings = " ".join(f"{key}={value}" for key, value in record.config.items() if key != "method")
    return f"{record.config['method']} {settings}"


class Steps:
    """Counts steps: a live line in a terminal, elsewhere at most one plain line a minute.

    Args:
        console: Where the line is shown.
        name: Name of the steps.
        planned: Total number of steps.
        done: Number of steps that were done before.
    """

    def __init__(self, console: Console, name: str, planned: int, done: int = 0) -> None:
        self.console = console
        self.name = name
        self.planned = planned
        self._before = done
        self._started = self._said = time.monotonic()
        self._status = console.status(f"{name}: {done} of {planned}")

    def __enter__(self) -> Steps:
        if self.console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.console.is_terminal:
            self._status.stop()

    def update(self, done: int, what: str, *, always: bool = False) -> None:
        """Show how many steps are done.

        Args:
            done: Number of steps that are done.
            what: Text to show after the number.
            always: Whether to print a plain line even if none is due.
        """
        now = time.monotonic()
        text = f"{self.name}: {done} of {self.planned}, {what}"
        if self._before < done < self.planned:
            left = (now - self._started) / (done - self._before) * (self.planned - done)
            text += f", about {format_duration(left)} left"
        if self.console.is_terminal:
            self._status.update(text)
        elif always or now - self._said > _QUIET_SECONDS:
            self._said = now
            say(self.console, text)


def error_console() -> Console:
    """Return a console on standard error, for everything except results."""
    return Console(file=sys.stderr, highlight=False)


def say(console: Console, text: str) -> None:
    """Print a text as it is: brackets in it are no markup, and a long line is left to the terminal."""
    console.print(text, markup=False, soft_wrap=True)
