"""Documents of reports, made of the recorded trials in ``benchmarks/tables``."""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
import random
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image, ImageDraw

TABLES = Path(__file__).parents[4] / "benchmarks" / "tables"
GIB = 2**30
BUDGET = 0.3
CLASSES = ["animals", "buildings", "food", "music", "plants", "signs", "tools", "vehicles"]
OBJECTIVES = [
    {
        "name": "memory",
        "title": "predicted training memory",
        "short": "",
        "unit": "GiB",
        "direction": "minimize",
        "known": True,
    },
    {
        "name": "accuracy",
        "title": "",
        "short": "",
        "unit": "%",
        "direction": "maximize",
        "known": False,
    },
    {
        "name": "step_time",
        "title": "",
        "short": "",
        "unit": "s",
        "direction": "minimize",
        "known": False,
    },
]
COMMANDS = {
    "train": "python search.py train {config} --dataset openclipart --epochs 6",
    "load": (
        "from trainables import load_model\n"
        'model = load_model("runs/{name}/models/{id}")\n'
        'print(model.predict([{{"text": "a red car", "image": "car.png"}}]))'
    ),
    "apply": "python search.py apply runs/{name}/models/{id} new.parquet --out predictions.parquet",
    "export": "python search.py export {name} --member {number} my-model",
    "serve": "mlflow models serve -m runs/{name}/models/{id} --env-manager local --port 5001",
}


def document(*searches: dict[str, Any]) -> dict[str, Any]:
    """Return a document of some searches, or of ``recorded()`` if there are none."""
    return {
        "version": "0.1.0",
        "made": "2026-11-27T00:40:00+00:00",
        "searches": [*searches] or [recorded()],
    }


@cache
def _table(name: str) -> list[dict[str, Any]]:
    """Return the last epoch of each configuration of a recorded table."""
    last = {row["number"]: row for row in pq.read_table(TABLES / f"{name}.parquet").to_pylist()}
    return list(last.values())


def recorded(table: str = "all_methods", name: str = "clipart", trials: int = 100) -> dict[str, Any]:
    """Return a search as the document has it: recorded trials, and made-up luck, splits and answers.

    Args:
        table: Name of the recorded table.
        name: Name of the search.
        trials: How many trials it has; recorded ones are repeated with small changes if there are fewer.
    """
    chance = random.Random(len(name) + trials)
    rows = _table(table)
    made = [_trial(number, rows[number % len(rows)], chance, number >= len(rows)) for number in range(trials)]
    finished = [trial for trial in made if trial["status"] == "finished"]
    probe = _probe()
    members = _front([*finished, probe])
    for trial in members:
        trial["front"] = True
        if trial["kind"] == "trial":
            trial["p_front"] = round(chance.uniform(0.2, 1), 3)
            trial["seeds"] = 3
            trial["spread"] = {"accuracy": 0.012, "test_accuracy": 0.017}
            trial["model"] = f"runs/{name}/models/{trial['id']}"
    for before, trial in itertools.pairwise(members):
        trial["p_better"] = round(0.5 + 0.5 * math.tanh(20 * (_accuracy(trial) - _accuracy(before))), 3)
    for trial in members:
        for modality, share in {"text": 0.55, "image": 0.8}.items():
            trial["robustness"][modality] = {"accuracy": trial["test"]["accuracy"] * share}
    best: dict[str, dict[str, Any]] = {}
    for trial in sorted(finished, key=_accuracy, reverse=True):
        best.setdefault(trial["method"], trial)
    parameters = _parameters(made)
    return {
        "name": name,
        "space": table,
        "dataset": "openclipart",
        "task": "classification into 8 classes",
        "state": "finished",
        "verdict": (
            "wander at 242 MiB is better than the probe at 88 MiB by 6.2 ± 3.1 points of accuracy on test"
        ),
        "command": f"python search.py --space {table} --dataset openclipart --num-samples {trials}",
        "go_on": None,
        "objectives": OBJECTIVES,
        "budget": BUDGET,
        "parameters": parameters,
        "trials": [probe, *made],
        "members": [trial["id"] for trial in members],
        "best_of_methods": [trial["id"] for trial in best.values()],
        "probe": "probe",
        "commands": {
            trial["id"]: {
                key: command.format(
                    name=name, id=trial["id"], number=number, config=json.dumps(trial["config"])
                )
                for key, command in COMMANDS.items()
            }
            for number, trial in enumerate(members, 1)
        },
        "progress": _progress(finished),
        "importance": {
            objective["name"]: _importance(parameters, objective["name"]) for objective in OBJECTIVES
        },
        "memory": [
            {
                "id": trial["id"],
                "memory": trial["values"]["memory"],
                "expected": trial["values"]["memory"] * 0.92,
                "measured": trial["values"]["memory"] * 0.92 * chance.gauss(1, 0.004),
                "expected_reserved": None,
                "reserved": None,
            }
            for trial in finished
        ],
        "classes": _classes(members, chance),
        "disagreements": _disagreements(members, chance),
        "environment": [
            ["machine", "Linux-6.18 x86_64"],
            ["torch", "2.13.0+cpu"],
            ["transformers", "5.23.0"],
            ["text encoder", "minilm"],
            ["image encoder", "dinov2-small"],
        ],
        "data": [
            ["rows", "192 train, 240 validation, 240 test"],
            ["classes", str(len(CLASSES))],
            ["fingerprint", "cd6334e440fe4da1"],
        ],
        "notes": ["Inference memory was not predicted, because no objective or constraint needs it."],
    }


def _trial(number: int, row: dict[str, Any], chance: random.Random, changed: bool) -> dict[str, Any]:
    config = json.loads(row["config"])
    accuracy = row["accuracy"]
    memory = row["memory.total"] / GIB
    if changed:
        accuracy = min(0.99, max(0.05, accuracy + chance.gauss(0, 0.02)))
        memory *= chance.uniform(0.97, 1.03)
    status = "finished"
    if number % 9 == 4:
        status, accuracy = "stopped", accuracy * 0.8
    if memory > BUDGET:
        status = "infeasible"
    elif number % 40 == 7:
        status = "out_of_memory"
    unknown = status in ("infeasible", "out_of_memory")
    values = {"memory": memory}
    if not unknown:
        values |= {"accuracy": accuracy, "step_time": row.get("step_time", 0.2)}
    return {
        "id": f"t{number:04d}",
        "kind": "trial",
        "repeat_of": None,
        "method": config.get("method", "pmf"),
        "status": status,
        "front": False,
        "epochs": None if unknown else 6 if status == "finished" else 2,
        "seeds": None if unknown else 1,
        "config": config,
        "values": values,
        "test": {"accuracy": accuracy - chance.uniform(-0.01, 0.03)} if status == "finished" else {},
        "spread": {},
        "standard_error": (
            {"accuracy": _binomial(accuracy), "test_accuracy": _binomial(accuracy)}
            if status == "finished"
            else {}
        ),
        "p_front": None,
        "p_better": None,
        "robustness": {},
        "model": None,
        "run_id": f"{number:032x}",
        "node": "10.0.0.2",
        "message": "CUDA out of memory. Tried to allocate 2.00 GiB" if status == "out_of_memory" else None,
    }


def _probe() -> dict[str, Any]:
    return {
        **_trial(0, _table("all_methods")[0], random.Random(0), False),
        "id": "probe",
        "kind": "probe",
        "method": "probe",
        "epochs": None,
        "config": {"method": "probe", "strength": 0.1, "pooling.text": "mean", "pooling.image": "cls"},
        "values": {"memory": 0.086, "accuracy": 0.41},
        "test": {"accuracy": 0.4},
        "standard_error": {"accuracy": _binomial(0.41), "test_accuracy": _binomial(0.4)},
    }


def _binomial(share: float) -> float:
    """Return the standard error of a share of 240 rows."""
    return math.sqrt(share * (1 - share) / 240)


def _accuracy(trial: dict[str, Any]) -> float:
    return trial["values"]["accuracy"]


def _front(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    front: list[dict[str, Any]] = []
    for trial in sorted(trials, key=lambda trial: (trial["values"]["memory"], -_accuracy(trial))):
        if not front or _accuracy(trial) > _accuracy(front[-1]):
            front.append(trial)
    return front


def _parameters(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what differs: the settings with several values, and the method."""
    values: dict[str, list[Any]] = {}
    for trial in trials:
        for key, value in trial["config"].items():
            values.setdefault(key, []).append(value)
    return [
        {
            "name": key,
            "kind": "number" if all(type(value) in (int, float) for value in there) else "choice",
            "log": key == "learning_rate",
        }
        for key, there in values.items()
        if len({json.dumps(value) for value in there}) > 1
    ][:9]


def _importance(parameters: list[dict[str, Any]], objective: str) -> dict[str, float]:
    sizes = {parameter["name"]: 0.6**number for number, parameter in enumerate(parameters)}
    if objective == "accuracy":
        sizes = dict(zip(sizes, reversed(sizes.values()), strict=True))
    return {name: size / sum(sizes.values()) for name, size in sizes.items()}


def _progress(finished: list[dict[str, Any]]) -> list[dict[str, float]]:
    best, progress = 0.0, []
    for number, trial in enumerate(finished, 1):
        best = max(best, _accuracy(trial) * (1 - trial["values"]["memory"] / 2))
        progress.append(
            {"seconds": 41.0 * number, "trials": number, "epochs": 6 * number, "hypervolume": best}
        )
    return progress


def _classes(members: list[dict[str, Any]], chance: random.Random) -> dict[str, Any]:
    def confusion(accuracy: float) -> list[list[int]]:
        matrix = [[0] * len(CLASSES) for _ in CLASSES]
        for truth in range(len(CLASSES)):
            for _ in range(30):
                right = chance.random() < accuracy
                matrix[truth][truth if right else chance.randrange(len(CLASSES))] += 1
        return matrix

    def per_class(matrix: list[list[int]]) -> list[dict[str, Any]]:
        found = []
        for index, name in enumerate(CLASSES):
            right, given = matrix[index][index], sum(row[index] for row in matrix)
            precision, recall = right / given if given else 0.0, right / 30
            both = precision + recall
            f1 = 2 * precision * recall / both if both else 0.0
            found.append({"name": name, "rows": 30, "precision": precision, "recall": recall, "f1": f1})
        return found

    matrices = {trial["id"]: confusion(_accuracy(trial)) for trial in members}
    return {
        "split": "test",
        "names": CLASSES,
        "members": {
            name: {"per_class": per_class(matrix), "confusion": matrix} for name, matrix in matrices.items()
        },
    }


def _disagreements(members: list[dict[str, Any]], chance: random.Random) -> dict[str, Any]:
    rows = []
    for number in range(12):
        truth = chance.choice(CLASSES)
        wrong = chance.choice([name for name in CLASSES if name != truth])
        rows.append(
            {
                "row": 7 * number + 3,
                "values": {
                    "text": None if number == 4 else {"text": f"a drawing of {truth}, number {number}"},
                    "image": {"picture": _picture(number)},
                },
                "truth": truth,
                "answers": {trial["id"]: chance.choice([truth, wrong]) for trial in members},
            }
        )
    return {"split": "test", "rows": rows}


def _picture(number: int) -> str:
    """Return a small picture as an address that holds it."""
    image = Image.new("RGB", (96, 96), "white")
    draw = ImageDraw.Draw(image)
    shades = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]
    draw.ellipse((12, 12, 84, 84), fill=shades[number % 4])
    draw.rectangle((30 + number, 40, 60, 90), fill=shades[(number + 1) % 4])
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
