"""One trial: its assignment, its training and its result."""

from trainables.trial.assignment import Assignment
from trainables.trial.run import TrialRun
from trainables.trial.trainer import DivergedError, Trainer
from trainables.trial.workbench import TrialSpec, Workbench

__all__ = ["Assignment", "DivergedError", "Trainer", "TrialRun", "TrialSpec", "Workbench"]
