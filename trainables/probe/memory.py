"""Prediction of what a probe needs: a forward pass through its encoders, and the arrays of the solver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from trainables.memory import MemoryPredictor, MemoryReport
from trainables.methods.linear import Linear, LinearConfig
from trainables.tasks import Task
from trainables.towers import EncoderSource

#: Bytes of all that does not grow: buffers and objects of scipy and scikit-learn.
_OTHERS = 2**17


class ProbeModel(Linear):
    """What a probe does with a sample: ``linear``, for one modality or more."""

    n_modalities = (1, None)


def predict_probe(
    predictor: MemoryPredictor, modalities: Sequence[str], rows: Mapping[str, int]
) -> MemoryReport:
    """Return the memory of a probe, which is that of the larger one of its two phases.

    One is a forward pass without gradient of as many samples as each part of a training step has. The other
    is the solver, which holds the features of all rows. It works in main memory, so that on a GPU only the
    forward pass counts.

    Args:
        predictor: Predicts the forward pass.
        modalities: The modalities that the probe reads, without the task's query.
        rows: Number of rows of each split.
    """
    query = predictor.task.query
    read = modalities if query is None else [*modalities, query.modality]
    forward = predictor.predict_forward(ProbeModel, LinearConfig(), read)
    if predictor.inference:
        inference = predictor.forward_bytes(ProbeModel, LinearConfig(), read)
        forward = replace(forward, inference=inference)
    width = sum(probed_width(predictor.encoders[modality]) for modality in modalities)
    size = predictor.task.output_size if query is None else probed_width(predictor.encoders[query.modality])
    count = size * (width + 1)  # the weights of the linear model, whatever trains in the method
    forward = replace(forward, trainable_parameters=count, checkpoint=4 * count)
    if forward.target != "cpu":
        return forward
    splits = rows["train"], rows["validation"]
    if query is None:
        weights, features, rest = solver_memory(*splits, width, predictor.task)
    else:
        weights, features, rest = ridge_memory(*splits, width, size)
    if forward.total >= weights + features + rest:
        return forward
    return replace(
        forward, total=weights + features + rest, weights=weights, activations=features, temporary=rest
    )


def start_memory(report: MemoryReport, rows: Mapping[str, int], task: Task) -> int:
    """Return the bytes of main memory that a trial on a CPU takes while its head starts from the probe.

    They are those of the weights and of the solver, which holds the features of all rows.

    Args:
        report: Memory of the trial's steps.
        rows: Number of rows of each split.
        task: The task.
    """
    splits, width = (rows["train"], rows["validation"]), report.head_features
    if not width:  # no linear model can be its start
        return 0
    if task.query is None:
        return report.weights + sum(solver_memory(*splits, width, task))
    return report.weights + sum(ridge_memory(*splits, width, report.query_features))


def probed_width(encoder: EncoderSource) -> int:
    """Return the number of features that a probe reads of a modality: the encoder's own, or those it encodes.

    See ``own_features``.
    """
    return int(encoder.config.feature_size) if encoder.from_seed else encoder.width


def solver_memory(train: int, validation: int, width: int, task: Task) -> tuple[int, int, int]:
    """Return the bytes of ``solve_linear`` that are weights, features and temporary.

    With N training and M validation rows, F features and D outputs, the weights are D (F + 1) numbers. The
    features are there in float32, and those of the training rows twice. The rest is ``Task.probe_bytes``.

    Args:
        train: Number N of training rows.
        validation: Number M of validation rows.
        width: Number F of features.
        task: The task, which has D outputs.
    """
    weights = 8 * task.output_size * (width + 1)
    features = 4 * (2 * train + validation) * width
    return weights, features, task.probe_bytes(train, validation, width) + _OTHERS


def ridge_memory(train: int, validation: int, width: int, size: int) -> tuple[int, int, int]:
    """Return the bytes of ``solve_linear`` with a query that are weights, features and temporary.

    With N training and M validation rows, F features of documents and Q of queries, the weights are Q (F + 1)
    numbers. The features of both are there in float32, those of the training rows twice. scikit-learn copies
    the latter once more; it needs the products of all features, or of all rows if these are fewer, and three
    times the weights.

    Args:
        train: Number N of training rows.
        validation: Number M of validation rows.
        width: Number F of the documents' features.
        size: Number Q of the queries' features.
    """
    features = 4 * (2 * train + validation) * (width + size)
    rest = 4 * (train * (width + size) + min(train, width) ** 2 + 3 * size * width) + _OTHERS
    return 8 * size * (width + 1), features, rest
