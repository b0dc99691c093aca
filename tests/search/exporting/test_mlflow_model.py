"""Models' folders as MLflow models: what is in them, and how they answer, in Python and over HTTP."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc.scoring_server import invocations
from PIL import Image

from search.exporting.mlflow_model import add_mlflow
from search.exporting.model_code import rows_of
from tests.search.exporting.models import exported
from trainables.errors import UserError
from trainables.model import load_model
from trainables.tasks import TASKS


@pytest.fixture
def folder(trial_spec, tmp_path) -> Path:
    """A model's folder that is an MLflow model, too."""
    folder = exported(trial_spec, tmp_path / "model")
    add_mlflow(folder)
    return folder


@pytest.fixture
def rows(squares) -> list[dict[str, Any]]:
    """Rows of the test split."""
    return pq.read_table(squares / "test.parquet", columns=["text", "image"]).to_pylist()


def _text(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def _asked(model: Any, request: dict[str, Any]) -> Any:
    """Return the answers to a request as the server gives them."""
    schema = model.metadata.get_input_schema()
    return json.loads(invocations(json.dumps(request), "application/json", model, schema).response)[
        "predictions"
    ]


def test_the_folder_is_one_model_that_answers_as_it_does_without_mlflow(folder, rows, caplog) -> None:
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle") or path.is_symlink()]
    assert not list(folder.glob(".*"))
    assert "/" not in (folder / "MLmodel").read_text().replace("code/", "")
    expected = load_model(folder).predict(rows[:3])
    found = mlflow.pyfunc.load_model(str(folder)).predict(rows[:3])
    assert found.to_dict("records") == expected

    add_mlflow(folder)
    assert mlflow.pyfunc.load_model(str(folder)).predict(rows[:1])["label"][0] == expected[0]["label"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_signature_and_example_say_what_can_be_asked(folder) -> None:
    described = Model.load(str(folder))
    signature = described.signature
    columns = {column.name: (str(column.type), column.required) for column in signature.inputs}
    assert columns == {"text": ("Any", False), "image": ("Any", False)}
    assert [(column.name, str(column.type)) for column in signature.outputs] == [
        ("label", "DataType.string"),
        ("probability", "DataType.double"),
        ("probabilities", "Map(str -> DataType.double)"),
    ]
    assert [(param.name, param.default) for param in signature.params] == [("top", 10)]
    assert described.metadata["columns"]["image"] == "a picture's file, in base64; null if it is missing"

    model = mlflow.pyfunc.load_model(str(folder))
    example = json.loads((folder / "serving_input_example.json").read_text())
    (answer,) = _asked(model, example)
    assert set(answer) == {"label", "probability", "probabilities"}


def test_it_needs_what_models_need_as_it_is_installed(folder) -> None:
    wheel, *pins = (folder / "requirements.txt").read_text().splitlines()
    assert (folder / wheel).is_file()
    stated = dict(pin.split("==") for pin in pins)
    assert stated["mlflow"] == version("mlflow")
    assert stated["torch"] == version("torch").partition("+")[0]
    assert not {"ray", "optuna"} & set(stated)


def test_a_row_of_the_dataset_may_be_the_example(folder, rows) -> None:
    add_mlflow(folder, rows[0])
    (shown,) = json.loads((folder / "serving_input_example.json").read_text())["inputs"]
    assert shown == {"text": rows[0]["text"], "image": _text(rows[0]["image"])}


def test_what_is_no_model_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        add_mlflow(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", TASKS)
def test_the_signature_states_the_answers_of_each_task(folder, name) -> None:
    """The folder stands for that of another task's model: its weights are not read."""
    task = TASKS[name].of_size(4)
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "task": task.to_dict()}))
    add_mlflow(folder)
    present = {name: torch.ones(2, dtype=torch.bool) for name in ("text", "image")}
    answer = task.answers(torch.randn(2, task.output_size), present)[0]
    signature = Model.load(str(folder)).signature
    assert [column.name for column in signature.outputs] == list(answer)
    for column, value in zip(signature.outputs, answer.values(), strict=True):
        stated = str(column.type)
        assert stated.startswith({list: "Array", dict: "Map"}.get(type(value), "DataType")), name


def test_values_of_all_kinds_are_shown_and_read(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    one = config["inputs"]["image"]
    config["inputs"] |= {
        "sound": {**one, "kind": "audio"},
        "face": {**one, "kind": "features", "facts": {"mean": [0.5, 1.0], "std": [1.0, 1.0], "length": 3}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    add_mlflow(folder)
    shown = json.loads((folder / "serving_input_example.json").read_text())["inputs"]
    kinds = {name: values["kind"] for name, values in config["inputs"].items()}
    row, lacking = rows_of(pa.Table.from_pylist([*shown, {"text": "alone"}]).to_pandas(), kinds)
    assert row["text"] == shown[0]["text"]
    assert Image.open(io.BytesIO(row["image"])).size == (64, 64)
    assert soundfile.info(io.BytesIO(row["sound"])).duration == 0.1
    assert np.array(row["face"]).tolist() == [[0.5, 1.0]]
    assert lacking == {"text": "alone", "image": None, "sound": None, "face": None}


def test_requests_of_each_form_are_answered_and_any_value_may_be_missing(folder, rows) -> None:
    model, alone = mlflow.pyfunc.load_model(str(folder)), load_model(folder)
    texts, pictures = [row["text"] for row in rows[:2]], [_text(row["image"]) for row in rows[:2]]
    both = [{"text": t, "image": p} for t, p in zip(texts, pictures, strict=True)]
    for request in (
        {"dataframe_records": both},
        {"dataframe_split": {"columns": ["image", "text"], "data": list(zip(pictures, texts, strict=True))}},
        {"inputs": both},
        {"inputs": {"text": texts, "image": pictures}},
        {"instances": both},
    ):
        assert _asked(model, request) == alone.predict(rows[:2])

    lacking = [{"text": texts[0]}, {"text": None, "image": pictures[1]}]
    expected = alone.predict([{"text": texts[0]}, {"image": rows[1]["image"]}])
    for request in (
        {"dataframe_records": lacking},
        {"inputs": lacking},
        {"inputs": {"text": [texts[0], None], "image": [None, pictures[1]]}},
    ):
        assert _asked(model, request) == expected

    (answer,) = _asked(model, {"dataframe_records": [{"text": texts[0]}], "params": {"top": 1}})
    assert len(answer["probabilities"]) == 1
    assert answer["label"] == alone.predict([{"text": texts[0]}])[0]["label"]


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"image": "squares/red.png"}, "row 1: its image is neither bytes nor base64"),
        ({"image": 3}, "row 1: its image is neither bytes nor base64"),
        ({"image": _text(b"GIF89a, not really")}, "row 1: its image cannot be read"),
        ({"text": 3}, "row 1: its text"),
        ({"text": None}, "row 1: has no value; accepted: at least one of text, image"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_row(folder, row, line) -> None:
    model = mlflow.pyfunc.load_model(str(folder))
    with pytest.raises(MlflowException) as refused:
        model.predict([{"text": "a red square", "image": None}, row])
    assert refused.value.message.startswith(line)
    assert "\n" not in refused.value.message
    assert refused.value.get_http_status_code() == 400


@pytest.fixture
def address(folder, tmp_path) -> Iterator[str]:
    """The address at which MLflow serves the model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tools = Path(sys.executable).parent  # MLflow starts what answers by its name
    command = [str(tools / "mlflow"), "models", "serve", "-m", str(folder), "--env-manager", "local"]
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    log = tmp_path / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + 180
        while not _is_up(address):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _is_up(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/ping") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _post(address: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the status and content of the response."""
    body, headers = json.dumps(request).encode(), {"Content-Type": "application/json"}
    try:
        asked = urllib.request.Request(f"{address}/invocations", body, headers)
        with urllib.request.urlopen(asked) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
def test_mlflow_serves_a_picture_and_a_text(address, folder, rows) -> None:
    alone = load_model(folder)
    row = {"text": rows[0]["text"], "image": _text(rows[0]["image"])}
    second = {"text": rows[1]["text"]}

    status, answer = _post(address, {"dataframe_records": [row, second]})
    assert (status, answer["predictions"]) == (200, alone.predict([rows[0], second]))
    status, answer = _post(address, {"inputs": [second]})
    assert (status, answer["predictions"]) == (200, alone.predict([second]))

    status, answer = _post(address, {"inputs": [row, {"image": _text(b"no picture")}]})
    assert status == 400
    assert "row 1: its image cannot be read" in answer["message"]
    assert "Traceback" not in answer["message"]

    status, answer = _post(address, {"inputs": [row]})
    assert (status, answer["predictions"]) == (200, alone.predict([rows[0]]))
