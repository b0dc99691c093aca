"""Ends a search: scores its best trials on the test split, and writes the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from rich.console import Console

from search.backends.base import Exporter, Scorer
from search.engine.searcher import ParetoSearcher
from search.execution.modeling import ModelWriter
from search.execution.scoring import score_on_test
from search.oneshot import OneShot
from search.records.shelf import ENDED, State
from search.records.status import Status
from search.records.store import SearchStore
from search.reporting.clock import Clock
from search.reporting.front_picture import plot_front
from search.reporting.mlflow_note import Note
from search.reporting.progress import say
from search.reporting.report.writing import report_at_end
from search.reporting.rows import probe_table
from search.reporting.tracker import Tracker
from search.reporting.verdict import verdict
from search.result import SearchResult
from search.setup import Setup
from search.signals import undisturbed


def score_test(scorer: Scorer, searcher: ParetoSearcher, console: Console) -> bool:
    """Score the trials of ``History.scored`` on the test split, which the search never uses.

    Trials that have a score are not scored again.

    Args:
        scorer: Scores trials.
        searcher: The search, whose trials have finished.
        console: Where progress is shown, and which trials have no score.

    Returns:
        Whether all were tried; False if Ctrl-C ended it.
    """
    history = searcher.history
    runs = [run for record in history.scored() for run in history.finished(record)]
    for run in runs:
        if run.scored and not run.test:  # its worker has scored it
            run.test = run.scored
            searcher.recorder.keep(run)
    scored = [run for run in runs if run.checkpoint and not run.test]
    if not scored:
        return True
    limits = searcher.config.placement
    failed: dict[str, list[str]] = {}
    try:
        with console.status(f"scoring the {len(scored)} best trials on the test split"):
            for index, found in score_on_test(
                scorer,
                [searcher.assignment(record) for record in scored],
                console,
                hang_timeout=limits.hang_timeout,
                max_failures=limits.max_failures,
            ):
                if isinstance(found, str):
                    failed.setdefault(found, []).append(scored[index].trial_id)
                else:
                    searcher.recorder.outputs.write(scored[index].trial_id, "test", found.outputs)
                    scored[index].test, scored[index].robustness = found.metrics, found.robustness
                    searcher.recorder.keep(scored[index])
    except KeyboardInterrupt:
        return False
    finally:
        for reason, trials in failed.items():
            has = "has" if len(trials) == 1 else "have"
            say(console, f"{', '.join(sorted(trials))} {has} no test score: {reason}")
    return True


def export(exporter: Exporter | None, searcher: ParetoSearcher) -> dict[str, str]:
    """Write the whole encoders that a training has trained, of the best seed; return their folders."""
    history = searcher.history
    objective = history.trained_objective
    runs = [run for run in history.by_status(Status.FINISHED) if run.checkpoint]
    if exporter is None or not runs:
        return {}
    best = min(runs, key=lambda run: objective.loss(run.values[objective.name]))
    assignment, _ = searcher.assignment(best)
    folders = exporter(assignment, searcher.config.place.folder / "encoders")
    return {modality: str(folder) for modality, folder in folders.items()}


@undisturbed()
def finish(
    setup: Setup,
    store: SearchStore,
    tracker: Tracker,
    clock: Clock,
    console: Console,
    models: ModelWriter | None,
    oneshot: OneShot | None,
    searcher: ParetoSearcher | None = None,
    *,
    interrupted: bool,
    encoders: Mapping[str, str] | None = None,
) -> SearchResult:
    """Write the search's result to its folder and to MLflow, and return it."""
    with clock.part("end"):
        config, history = setup.config, setup.history
        if searcher is not None:
            searcher.evidence.note()
        if models is not None:
            models.front(store, searcher and (lambda record: searcher.assignment(record)[0]))
        exhausted = searcher is not None and searcher.candidates.exhausted
        place = config.place
        tracker.wait()  # the result holds the ids of the runs
        result = SearchResult.of(
            setup,
            oneshot,
            verdict=verdict(searcher.evidence) if searcher is not None else None,
            interrupted=interrupted,
            exhausted=exhausted,
        )
        picture = place.folder / "front.png" if history.front() else None
        if picture:
            plot_front(history, picture, f"{config.run_name} on {config.data.dataset}")
        tables = {"front.json": result.front, "methods.json": result.methods, "memory.json": result.memory}
        if result.probe is not None:
            tables["probe.json"] = probe_table(result.probe)
        if oneshot is not None:
            tables["subnets.json"] = oneshot.rows()
        report_at_end(setup, store, result.verdict, partial(say, console), interrupted=interrupted)
        status = "KILLED" if interrupted else "FINISHED"
        folders = models.folders() if models is not None else {}
        note = Note.of(setup, result.front, result.verdict, interrupted=interrupted)
        if not tracker.close(status, tables, picture, verdict=result.verdict, note=note, models=folders):
            say(console, f"not all is in MLflow yet; `{place.resume_command}` writes the rest")
        result = replace(
            result,
            parent_run_id=tracker.parent_id,
            tracking_page=tracker.page,
            seconds=clock.seconds(),
            encoders=encoders or {},
        )
        result.write()
        if models is not None:
            models.sweep()
        store.put_facts({ENDED: State.INTERRUPTED if interrupted else State.FINISHED})
        return result
