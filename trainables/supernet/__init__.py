"""Supernets: training one set of weights for a whole space, and evaluating its subnets."""

from trainables.supernet.evaluation import SubnetEvaluator
from trainables.supernet.plan import SupernetPlan, Worker
from trainables.supernet.prediction import predict_supernet
from trainables.supernet.run import SupernetRun
from trainables.supernet.step import Curriculum
from trainables.supernet.trainer import SupernetTrainer

__all__ = [
    "Curriculum",
    "SubnetEvaluator",
    "SupernetPlan",
    "SupernetRun",
    "SupernetTrainer",
    "Worker",
    "predict_supernet",
]
