"""Supernets: training one set of weights for a whole space, and evaluating its subnets."""

from trainables.supernet.evaluation import SubnetEvaluator
from trainables.supernet.prediction import predict_supernet
from trainables.supernet.run import SupernetPlan, SupernetRun
from trainables.supernet.step import Curriculum
from trainables.supernet.trainer import SupernetTrainer

__all__ = [
    "Curriculum",
    "SubnetEvaluator",
    "SupernetPlan",
    "SupernetRun",
    "SupernetTrainer",
    "predict_supernet",
]
