"""Probes: linear models on the pooled vectors of frozen encoders, which show what fusion has to beat.

They are fitted exactly, in seconds, with the strength of the penalty chosen on the validation split. A search
runs them before its first trial. A method can start its head from such a solution.
"""

from trainables.probe.features import own_features, pooled_features
from trainables.probe.memory import predict_probe, start_memory
from trainables.probe.network import ProbeNetwork, reading_of
from trainables.probe.probe import Probe, Prober, Probes
from trainables.probe.solver import STRENGTHS, LinearSolution, solve_linear

__all__ = [
    "STRENGTHS",
    "LinearSolution",
    "Probe",
    "ProbeNetwork",
    "Prober",
    "Probes",
    "own_features",
    "pooled_features",
    "predict_probe",
    "reading_of",
    "solve_linear",
    "start_memory",
]
