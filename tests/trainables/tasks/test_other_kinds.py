"""A task of another kind goes all the way from the dataset to the trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from tests.trials import PMF
from trainables.data import SPLITS, open_dataset, prepare
from trainables.errors import UserError
from trainables.memory import MemoryPredictor
from trainables.step import Recipe
from trainables.supernet.evaluation import SubnetEvaluator
from trainables.supernet.plan import SupernetPlan
from trainables.supernet.run import SupernetRun
from trainables.supernet.step import Curriculum
from trainables.tasks import TASKS, LabelColumn, Metric, Task, register_task
from trainables.testing.tasks import check_task
from trainables.towers import InputSizes, resolve_encoder
from trainables.trial.run import TrialRun
from trainables.trial.workbench import TrialSpec


@dataclass(frozen=True)
class Amounts(Task):
    """How much there is of some colours; labels and outputs (B, D)."""

    size: int

    name = "amounts"
    metrics = (Metric("mae", "minimize", None, 0.0, "", "mean absolute error"),)
    label_types = "lists of numbers of one length"

    @classmethod
    def takes(cls, kind: pa.DataType) -> bool:
        return pa.types.is_list(kind) and pa.types.is_floating(kind.value_type)

    @classmethod
    def of_column(cls, column: LabelColumn) -> Self:
        return cls(len(next(column.values("train"))[0]))

    @classmethod
    def of_size(cls, output_size: int) -> Self:
        return cls(output_size)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(values["size"])

    def to_dict(self) -> dict[str, Any]:
        return {"task": self.name, "size": self.size}

    @property
    def output_size(self) -> int:
        return self.size

    def encode(self, values: Sequence[Any], where: str = "row", first: int = 0) -> Tensor:
        for row, value in enumerate(values, first):
            if value is None or len(value) != self.size:
                raise UserError(f"{where} {row}: label {value} has not {self.size} amounts")
        return torch.tensor(values, dtype=torch.float32).view(-1, self.size)

    def decode(self, labels: Tensor) -> list[Any]:
        return labels.tolist()

    def example_labels(self, rows: int) -> Tensor:
        return torch.eye(self.size)[torch.arange(rows) % self.size]

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs.float() - labels).abs().mean()

    def distillation(self, outputs: Tensor, taught: Tensor) -> Tensor:
        return self.loss(outputs, taught)

    def fit_linear(
        self, features: Tensor, labels: Tensor, strength: float, start: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Ridge regression: the loss is taken as half of the squared error."""
        middle, mean = features.mean(dim=0), labels.to(features.dtype).mean(dim=0)
        inner, outer = features - middle, labels.to(features.dtype) - mean
        penalty = strength * len(features) * torch.eye(features.shape[1], dtype=features.dtype)
        weight = torch.linalg.solve(inner.T @ inner + penalty, inner.T @ outer).T
        return weight, mean - weight @ middle

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        return {"mae": self.loss(outputs, labels).item()}

    def answers(self, outputs: Tensor, present: Mapping[str, Tensor], top: int = 10) -> list[dict[str, Any]]:
        return [{"amounts": amounts} for amounts in outputs.tolist()]

    def guess(self, labels: Tensor) -> dict[str, float]:
        return self.score(labels.mean(dim=0).expand_as(labels), labels)


@pytest.fixture
def amounts() -> Iterator[type[Task]]:
    with mock.patch.dict(TASKS):
        yield register_task(Amounts)


@pytest.fixture
def spec(trial_spec, squares, tmp_path, amounts) -> TrialSpec:
    """The squares, with how much red and blue there is."""
    folder = tmp_path / "amounts"
    folder.mkdir()
    shares = {"red": [1.0, 0.0], "green": [0.0, 0.0], "blue": [0.0, 1.0]}
    for split in SPLITS:
        table = pq.read_table(squares / f"{split}.parquet")
        labels = pa.array([shares[name] for name in table["label"].to_pylist()])
        table = table.drop_columns("label").append_column("label", labels)
        pq.write_table(
            table.replace_schema_metadata({"paretofuse.task": "amounts"}), folder / f"{split}.parquet"
        )
    encoders = {m: resolve_encoder(m, name) for m, name in trial_spec.encoders.items()}
    dataset = open_dataset(str(folder))
    data = prepare(dataset, encoders, InputSizes(text_length=8, image_size=32))
    return replace(trial_spec, dataset=str(folder), prepared=data.key, task=dataset.task.to_dict())


def test_it_passes_the_checks(amounts) -> None:
    check_task("amounts")
    check_task(Amounts(2))


def test_a_trial_learns_it_in_the_memory_that_was_predicted(spec) -> None:
    run = TrialRun(spec, PMF)
    results = [run.epoch() for _ in range(spec.epochs)]
    task, guess = Amounts(2), open_dataset(spec.dataset).task.guess(open_dataset(spec.dataset).labels("test"))
    assert run.bench.task == task
    assert run.validation.split.labels.shape == (12, 2)
    assert results[-1]["mae"] < results[0]["mae"]
    assert run.evaluate("test").metrics["mae"] < guess["mae"]
    encoders = {m: resolve_encoder(m, name) for m, name in spec.encoders.items()}
    predictor = MemoryPredictor(encoders, task, spec.setting)
    assert run.measured is not None
    expected = predictor.predict_as_run(dict(PMF.config), cached=True, target="cpu")
    assert run.measured.allocated == expected.total


def test_a_trial_starts_from_its_linear_model_and_keeps_the_best_epoch(spec) -> None:
    run = TrialRun(replace(spec, recipe=Recipe(head_start="probe", keep="best")), PMF)
    results = [run.epoch() for _ in range(2)]
    assert results[0]["start_mae"] < TrialRun(spec, PMF).epoch()["mae"]
    assert results[0]["start_mae"] >= results[0]["mae"] >= results[1]["mae"]


def test_labels_that_cannot_be_smoothed_are_not(spec) -> None:
    encoders = {m: resolve_encoder(m, name) for m, name in spec.encoders.items()}
    predictor = MemoryPredictor(encoders, Amounts(2), spec.setting)
    with pytest.raises(UserError, match="--label-smoothing: is not for the task amounts; leave it out"):
        predictor.changed(label_smoothing=0.1)
    config = {**PMF.config, "label_smoothing": 0.1}
    with pytest.raises(UserError, match="--label-smoothing: is not"):
        predictor.predict_configuration(config)


def test_a_supernet_learns_it_with_distillation(spec) -> None:
    largest = {"n_fusion_layers": 2}
    curriculum = Curriculum("sandwich", True, largest, {"n_fusion_layers": 1}, lambda rng: largest)
    run = SupernetRun(spec, SupernetPlan("pmf", 5e-3, 3, curriculum, largest), torch.device("cpu"))
    results = [run.epoch() for _ in range(3)]
    assert results[-1]["train_loss"] < results[0]["train_loss"]
    evaluator = SubnetEvaluator(run.bench, run.setting, run.supernet)
    assert evaluator.evaluate(largest)["mae"] == pytest.approx(results[-1]["mae"], abs=1e-5)


def test_a_label_it_refuses_is_named_by_its_row(spec, tmp_path) -> None:
    path = tmp_path / "amounts" / "validation.parquet"
    table = pq.read_table(path)
    labels = [*table["label"].to_pylist()[:-1], [1.0]]
    table = table.drop_columns("label").append_column("label", pa.array(labels))
    pq.write_table(table.replace_schema_metadata({"paretofuse.task": "amounts"}), path)
    with pytest.raises(UserError, match=r"validation row 11: label \[1.0\] has not 2 amounts"):
        open_dataset(spec.dataset).labels("validation")
    encoders = {m: resolve_encoder(m, name) for m, name in spec.encoders.items()}
    with pytest.raises(UserError, match=r"validation row 11: label \[1.0\] has not 2 amounts"):
        prepare(open_dataset(spec.dataset), encoders, InputSizes(text_length=8, image_size=32))


def test_labels_of_another_type_are_refused(squares, tmp_path, amounts) -> None:
    for split in SPLITS:
        table = pq.read_table(squares / f"{split}.parquet")
        pq.write_table(
            table.replace_schema_metadata({"paretofuse.task": "amounts"}), tmp_path / f"{split}.parquet"
        )
    with pytest.raises(UserError, match="'label' is string; expected lists of numbers of one length"):
        open_dataset(str(tmp_path))
