"""Trained models as folders that load and answer without a search."""

from trainables.model.copying import copy_model
from trainables.model.description import Input, ModelDescription, read_description
from trainables.model.folder import write_model
from trainables.model.model import Model, load_model

__all__ = [
    "Input",
    "Model",
    "ModelDescription",
    "copy_model",
    "load_model",
    "read_description",
    "write_model",
]
