"""The probe: a linear model on frozen features, which is what fusion has to beat.

Uses data and memory predictions. The search runs it once, before its first trial.
"""

from trainables.probe.solver import STRENGTHS, LinearSolution, solve_linear

__all__ = ["STRENGTHS", "LinearSolution", "solve_linear"]
