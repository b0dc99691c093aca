"""The progress of a running search, shown in the terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from search.records.history import History, TrialRecord
from search.records.status import UNFINISHED, Status
from search.units import format_duration

#: Least seconds between two lines if the output cannot be redrawn.
_QUIET_SECONDS = 60.0


class Progress:
    """Shows progress: a live view in a terminal, elsewhere at most one plain line a minute.

    Args:
        console: Where progress is shown.
        history: The search's trials.
        num_samples: Number of planned trials.
        epochs: Epochs of a complete trial.
        time_budget: Seconds after which training ends; None sets no limit.
    """

    def __init__(
        self,
        console: Console,
        history: History,
        num_samples: int,
        epochs: int,
        time_budget: float | None = None,
    ) -> None:
        self.console = console
        self.history = history
        self.num_samples = num_samples
        self.epochs = epochs
        self.time_budget = time_budget
        self._began = time.monotonic()
        self._said = self._began
        self._before = sum(len(record.epochs) for record in history.trials.values())
        self._preparing: float | None = None
        self._live = Live(console=console, get_renderable=self._view, refresh_per_second=2, transient=True)

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
        """Print a line if the output is no terminal and a line is due."""
        if not self.console.is_terminal and time.monotonic() - self._said > _QUIET_SECONDS:
            self._said = time.monotonic()
            self.console.print(" | ".join(f"{name} {value}" for name, value in self.facts()), soft_wrap=True)

    def facts(self) -> list[tuple[str, str]]:
        """Return the facts to show, as pairs of a name and a value."""
        history = self.history
        running, paused = history.by_status(Status.RUNNING), history.by_status(Status.PAUSED)
        samples = [record for record in history.trials.values() if record.number is not None]
        ended = sum(record.status not in (Status.RUNNING, Status.PAUSED) for record in samples)
        best = history.best()
        facts = [
            (
                "trials",
                f"{ended} of {self.num_samples} done, {len(running)} running"
                + (f", {len(paused)} paused" if paused else ""),
            ),
            *((f"best {o.name}", f"{best[o.name]:.3f}") for o in history.objectives if best),
            ("hypervolume", f"{history.hypervolume():.3f}"),
            ("front", f"{len(history.front())} members"),
        ]
        if history.infeasible:
            facts.append(("infeasible", f"{len(history.infeasible)} never started"))
        for status in UNFINISHED:
            count = len(history.by_status(status))
            if count:
                facts.append((status.words, str(count)))
        elapsed = time.monotonic() - self._began
        planned = (self.num_samples - len(samples) + len(running)) * self.epochs
        planned -= sum(len(record.epochs) for record in running)
        left = self._left(elapsed, planned)
        if left is not None:
            facts.append(("time left", f"about {format_duration(max(left, 0))}"))
        facts.append(("elapsed", format_duration(elapsed)))
        return facts

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

    def _view(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, value in self.facts():
            table.add_row(f"[dim]{name}[/dim]", value)
        for record in self.history.by_status(Status.RUNNING):
            settings = " ".join(f"{key}={value}" for key, value in record.config.items() if key != "method")
            done = len(record.epochs)
            table.add_row(f"[dim]running {done}/{self.epochs}[/dim]", f"{record.config['method']} {settings}")
        return table


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
            self.console.print(text, markup=False, soft_wrap=True)


def error_console() -> Console:
    """Return a console on standard error, for everything except results."""
    return Console(file=sys.stderr, highlight=False)
