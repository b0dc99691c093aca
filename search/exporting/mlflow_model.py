"""Makes MLflow models of models' folders."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import math
import os
import shutil
import tempfile
import wave
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from search.exporting.wheel import needed_by_models, write_wheel
from trainables.model import Input, ModelDescription, read_description
from trainables.tasks import read_task

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec

#: The file that makes a folder an MLflow model.
MLMODEL = "MLmodel"
_CODE = Path(__file__).with_name("model_code.py")
_WHEELS = "code"
_SIDE, _RATE = 64, 16_000  # of the picture and the sound of an example, in pixels and samples a second
_SHOWN = 10  # most entries of what is listed best first, unless a request says otherwise
_UV = "MLFLOW_UV_AUTO_DETECT"


def add_mlflow(folder: Path, example: Mapping[str, Any] | None = None) -> None:
    """Make a model's folder one that MLflow loads and serves, too; earlier files of this kind are replaced.

    ``mlflow.pyfunc.load_model(folder)`` loads it, and ``mlflow models serve -m folder`` answers over HTTP.
    The folder then holds the code that MLflow runs, the wheel of this program, the versions of what a model
    needs (neither Ray nor Optuna), a signature and an example. There is no pickle in it.

    The signature has a column of type ``any`` for each modality, all of them optional. MLflow's ``binary``
    and ``string`` would refuse rows without a picture, or take their null for the text "None".

    Args:
        folder: A model's folder.
        example: A row for which a request is shown, as ``Model.predict`` takes it, with bytes for pictures
            and sounds. None shows values that are made up.

    Raises:
        UserError: If it is no model's folder, or if this program is not installed.
    """
    description = read_description(folder)
    row = example or {name: _made_up(one) for name, one in description.inputs.items()}
    requirements = [f"{_WHEELS}/{write_wheel(folder / _WHEELS).name}"]
    requirements += [f"{name}=={_version(name)}" for name in ("mlflow", *needed_by_models())]
    with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=folder) as scratch, _quiet():
        import mlflow.pyfunc

        made = Path(scratch) / "model"
        mlflow.pyfunc.save_model(
            made,
            python_model=_CODE,
            signature=_signature(description),
            input_example=[{name: _written(value) for name, value in row.items()}],
            pip_requirements=requirements,
            metadata={"columns": {name: _expected(one) for name, one in description.inputs.items()}},
        )
        (made / MLMODEL).rename(described := Path(scratch) / MLMODEL)
        for path in made.iterdir():
            shutil.move(path, folder / path.name)
        # MLmodel comes last, so that a folder that has it has the rest
        _finish(described, folder)


def _finish(made: Path, folder: Path) -> None:
    """Move MLmodel into a folder, after making it one of this folder, and not of this machine."""
    from mlflow.models import Model

    described = Model.load(str(made))
    described.flavors["python_function"]["model_code_path"] = _CODE.name
    described.model_size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    described.save(str(made))
    shutil.move(made, folder / MLMODEL)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow from telling of each step, and from looking for a project of uv in the working folder."""
    logger = logging.getLogger("mlflow.pyfunc")
    level, before = logger.level, os.environ.get(_UV)
    logger.setLevel(logging.WARNING)
    os.environ[_UV] = "false"
    try:
        yield
    finally:
        logger.setLevel(level)
        os.environ.pop(_UV)
        if before is not None:
            os.environ[_UV] = before


def _signature(description: ModelDescription) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType

    answer = read_task(description.task).example_answer()
    listed = any(isinstance(value, dict) or name == "ranking" for name, value in answer.items())
    return ModelSignature(
        Schema([ColSpec(AnyType(), name, required=False) for name in description.inputs]),
        Schema([_column(name, value) for name, value in answer.items()]),
        ParamSchema([ParamSpec("top", DataType.long, _SHOWN)]) if listed else None,
    )


def _column(name: str, value: Any) -> ColSpec:
    """Return the column of answers of which one is given."""
    from mlflow.types import ColSpec, DataType
    from mlflow.types.schema import AnyType, Array, Map

    types = {bool: DataType.boolean, int: DataType.long, float: DataType.double, str: DataType.string}
    if isinstance(value, dict):
        return ColSpec(Map(DataType.double), name)
    if isinstance(value, list):
        return ColSpec(Array(types[type(value[0])] if value else DataType.string), name, required=False)
    return ColSpec(types.get(type(value), AnyType()), name)


def _expected(one: Input) -> str:
    """Return what a column takes, in words."""
    words = {
        "text": "a string",
        "image": "a picture's file, in base64",
        "audio": "a sound's file, in base64",
        "features": "a vector, or a list of vectors",
    }
    return f"{words[one.kind]}; null if it is missing"


def _made_up(one: Input) -> Any:
    """Return a value of a modality."""
    if one.kind == "text":
        return "a red square"
    if one.kind == "image":
        picture = io.BytesIO()
        Image.new("RGB", (_SIDE, _SIDE), (200, 40, 40)).save(picture, "PNG")
        return picture.getvalue()
    if one.kind == "audio":
        return _tone()
    return [one.facts["mean"]]


def _tone() -> bytes:
    """Return a tenth of a second of a tone, as a WAV file."""
    samples = [round(8000 * math.sin(2 * math.pi * 440 * n / _RATE)) for n in range(_RATE // 10)]
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, _RATE, 0, "NONE", ""))
        file.writeframes(np.array(samples, "<i2").tobytes())
    return sound.getvalue()


def _written(value: Any) -> Any:
    """Return a value as a request in JSON has it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.tolist() if isinstance(value, np.ndarray) else value


def _version(name: str) -> str:
    """Return the installed version, without what names a build for one kind of device."""
    return version(name).partition("+")[0]
