"""What MLflow runs to load a model of paretofuse, and to answer with it. It lies in the model's folder.

A request has a column for each modality, and a value that is null or absent is missing. Text is a string.
Pictures and sounds are the content of their files: bytes, or base64 in a string. Features are a vector, or a
list of vectors.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException

#: Kinds of modalities whose values are files.
_FILES = ("image", "audio")


class FrontModel(mlflow.pyfunc.PythonModel):
    """A model of paretofuse."""

    # MLflow would ask for a type of the input, to make a signature of it; the folder has a better one
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Load the model of the folder in which this file lies."""
        from trainables import load_model

        self._model = load_model(Path(__file__).parent)
        self._kinds = {name: one.kind for name, one in self._model.description.inputs.items()}

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Return an answer for each row, see ``trainables.model.Model.predict``.

        Args:
            context: MLflow's; nothing of it is used.
            model_input: A DataFrame with a column for each modality.
            params: ``top``, for tasks that have it: the most entries of what is listed best first.

        Returns:
            A DataFrame with a row for each answer.

        Raises:
            MlflowException: If a value cannot be read, with a line that names its row; over HTTP it is
                the response 400.
        """
        from trainables.errors import UserError

        try:
            rows = rows_of(model_input, self._kinds)
            return type(model_input)(self._model.predict(rows, **(params or {})))
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


def rows_of(frame: Any, kinds: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the rows of a DataFrame as a model takes them, without the values that are missing.

    Args:
        frame: The DataFrame.
        kinds: Kind of each modality.

    Raises:
        UserError: If a picture or sound is neither bytes nor base64.
    """
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    if len(records) == 1 and any(
        kinds.get(name) != "features" and isinstance(value, list | tuple | np.ndarray)
        for name, value in records[0].items()
    ):  # MLflow makes this of a request that gives a list of values for each modality
        columns = {name: value for name, value in records[0].items() if value is not None}
        records = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [
        {name: _value(name, kinds.get(name), value, number) for name, value in record.items()}
        for number, record in enumerate(records)
    ]


def _value(name: str, kind: str | None, value: Any, number: int) -> Any:
    from trainables.errors import UserError

    if kind == "features" and isinstance(value, np.ndarray):
        return list(value)  # tables read by pyarrow have arrays of arrays, which are no vectors yet
    if kind not in _FILES or value is None or isinstance(value, bytes):
        return value
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (AttributeError, ValueError):
        raise UserError(f"row {number}: its {name} is neither bytes nor base64") from None


mlflow.models.set_model(FrontModel())
