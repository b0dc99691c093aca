"""What the trials of a search learn from, as a dataset in MLflow."""

from __future__ import annotations

import json
from pathlib import PurePath

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.types import DataType, Schema
from mlflow.types.schema import Array, ColSpec
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from search.backends.base import Material
from trainables.data.readers import split_address

#: MLflow's type of a column, by the kind of modality or the task of a label that it holds; others are texts.
_TYPES: dict[str, DataType | Array] = {
    "image": DataType.binary,
    "audio": DataType.binary,
    "features": Array(Array(DataType.double)),
    "multilabel": Array(DataType.string),
    "regression": DataType.double,
}
_LONGEST_NAME = 500  # characters that MLflow takes


def dataset_input(material: Material) -> DatasetInput:
    """Return the dataset of a run, which was used for training.

    Its digest is the fingerprint, its source the address, its schema the columns that are used, and its
    profile the number of rows in each split and the modalities of the columns.
    """
    used = [*material.modalities.values()] + ([material.label] if material.label else [])
    columns = [ColSpec(_TYPES.get(kind, DataType.string), name) for name, kind in dict(used).items()]
    profile = {
        "rows": dict(material.rows),
        "modalities": {name: f"{kind} in {column}" for name, (column, kind) in material.modalities.items()},
        "label": material.label and f"{material.label[1]} by {material.label[0]}",
    }
    source_type, source = _source(material)
    dataset = Dataset(
        name=_name(material)[:_LONGEST_NAME],
        digest=material.fingerprint,
        source_type=source_type,
        source=json.dumps(source),
        schema=json.dumps({"mlflow_colspec": Schema(columns).to_dict()}) if columns else None,
        profile=json.dumps({name: value for name, value in profile.items() if value}),
    )
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])


def _name(material: Material) -> str:
    """Return the dataset's name: the last part of a path, or a name of the hub."""
    if material.included:
        return material.dataset
    format_name, path = split_address(material.dataset)
    return path if format_name == "hf" else PurePath(path).name


def _source(material: Material) -> tuple[str, dict[str, object]]:
    """Return the type of the dataset's source, and what MLflow's class of this type reads."""
    if material.included:
        return "code", {"tags": {"mlflow.source.name": f"paretofuse: {material.dataset}"}}
    format_name, path = split_address(material.dataset)
    return ("hugging_face", {"path": path}) if format_name == "hf" else ("local", {"uri": path})
