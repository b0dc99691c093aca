"""Trained models that answer without a search."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.data.features import encoded, to_device
from trainables.errors import UserError
from trainables.model.building import Network, Parts
from trainables.model.description import ModelDescription, read_description
from trainables.model.values import Distinct, Row, Values, check_rows
from trainables.step.precision import default_device
from trainables.towers import PRESENCE, ModalityInput
from trainables.towers.base import Sequence as Tokens


def load_model(folder: str | Path, device: str | None = None, batch_size: int | None = None) -> Model:
    """Load a trained model from its folder.

    Its encoders are found as the search has found them: by bundled name, on the hub at the recorded commit,
    or in a folder; a copy with ``--standalone`` has them in its own folder. The files in ``plugins`` are run.

    Example::

        from trainables import load_model

        model = load_model("model")
        model.predict([{"text": "a red square", "image": "square.png"}])

    Args:
        folder: The folder.
        device: The device to compute on, such as ``cpu`` or ``cuda:1``; None takes a GPU if there is one.
        batch_size: Number of rows that are computed at once; None takes as many as a step of the training.

    Raises:
        UserError: If the folder holds no whole model, an encoder is not there or is another one than the
            model was trained with, or the device cannot be used.
    """
    folder = Path(folder)
    description = read_description(folder)
    where = _device(device or default_device())
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch size {batch_size}: must be at least 1")
    return Model(description, Parts(description, folder), where, batch_size)


class Model:
    """A trained model, which turns rows into outputs and answers.

    A row is a mapping from modalities to values: a text as ``str``; a picture as a path, bytes, or
    ``PIL.Image.Image``; a sound as a path or bytes; features as an array (T, D) or (D,). A picture or sound
    may also be a base64 text. A modality that is absent or None is missing: the model gets a blank, as in
    training. Several threads may use a model; they take turns.

    Args:
        description: The model.
        parts: What it is made of.
        device: The device to compute on.
        batch_size: Number of rows that are computed at once; None takes as many as a step of the training.

    Attributes:
        description: What the model is.
        task: The task, with its label names and tuned thresholds.
        device: The device.
        batch_size: Number of rows that are computed at once.
        modalities: The modalities that it reads, in order. Rows may also have the others of the search.
        torch_module: The module with all weights, in evaluation mode on the device. It takes what ``inputs``
            returns, and returns a ``FusionOutput``.
    """

    def __init__(
        self, description: ModelDescription, parts: Parts, device: torch.device, batch_size: int | None = None
    ) -> None:
        self.description = description
        self.task = parts.task
        self.device = device
        self._setting = parts.setting
        of_a_step = parts.setting.batch_size // parts.setting.gradient_accumulation
        self.batch_size = batch_size or of_a_step
        self._method: Network = parts.build().to(device)
        self.torch_module: nn.Module = self._method
        self.modalities: tuple[str, ...] = self._method.modalities
        pool = ThreadPoolExecutor(thread_name_prefix="decoding")
        self._values = {m: Values(m, description.inputs[m], parts.sources[m], pool) for m in self.modalities}
        # A search computes these layers once and keeps them; it rounds their output, and so do we
        stops = {} if parts.setting.prefix == "computed" else self._method.prefix_layers()
        self._stops: dict[str, int] = stops
        self._turns = threading.Lock()  # tokenisers serve one thread at a time

    def predict(self, rows: Sequence[Row], *, top: int = 10) -> list[dict[str, Any]]:
        """Return an answer for each row, see ``Task.answers``.

        Args:
            rows: The rows. A retrieval ranks those of the call that have a document.
            top: Number of probabilities, or of ranked rows, in an answer.

        Raises:
            UserError: If a row is refused; the message has its number, from 0.
        """
        outputs, present = self._all(rows)
        return self.task.answers(outputs, present, top)

    def outputs(self, rows: Sequence[Row]) -> Tensor:
        """Return the outputs (N, D) of the model for the rows, in float32 on the CPU.

        Raises:
            UserError: If a row is refused; the message has its number, from 0.
        """
        return self._all(rows)[0]

    def batches(self, rows: Iterable[Row]) -> Iterator[tuple[list[Row], Tensor]]:
        """Yield rows in batches with their outputs (B, D); no more than a batch is in memory at a time.

        Raises:
            UserError: If a row is refused; the message has its number, from 0.
        """
        for batch, outputs, _ in self._computed(rows):
            yield batch, outputs

    def inputs(self, rows: Sequence[Row]) -> dict[str, ModalityInput]:
        """Return the inputs of ``torch_module`` for some rows: tensors (B, …) by modality, on the device.

        A method that reads which values are present gets that, too, under ``present``.

        Raises:
            UserError: If a row is refused; the message has its number, from 0.
        """
        with self._turns:
            found = self._distinct(rows, 0)
        return self._with_presence(
            {
                m: to_device(self._values[m].kind.trimmed(cells.of_rows()), self.device)
                for m, cells in found.items()
            },
            found,
        )

    def _all(self, rows: Sequence[Row]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the outputs (N, D) of rows, and which rows have each modality (N,)."""
        found = list(self._computed(rows))
        outputs = [of_batch for _, of_batch, _ in found] or [torch.empty(0, self.task.output_size)]
        none = torch.empty(0, dtype=torch.bool)
        present = {m: torch.cat([none, *(there[m] for _, _, there in found)]) for m in self.modalities}
        return torch.cat(outputs), present

    def _computed(self, rows: Iterable[Row]) -> Iterator[tuple[list[Row], Tensor, dict[str, Tensor]]]:
        """Yield batches of rows with their outputs, and with which of them have each modality."""
        first, waiting = 0, iter(rows)
        while batch := list(itertools.islice(waiting, self.batch_size)):
            with self._turns:
                found = self._distinct(batch, first)
                outputs = self._run(found)
            yield batch, outputs, {m: cells.present for m, cells in found.items()}
            first += len(batch)

    def _distinct(self, rows: Sequence[Row], first: int) -> dict[str, Distinct]:
        check_rows(rows, tuple(self.description.inputs), first)
        return {m: values.distinct(rows, first) for m, values in self._values.items()}

    def _run(self, found: Mapping[str, Distinct]) -> Tensor:
        inputs: dict[str, ModalityInput] = {}
        for modality, cells in found.items():
            if modality in self._stops:
                inputs[modality] = self._encoded(modality, cells)
            else:
                trimmed = self._values[modality].kind.trimmed(cells.of_rows())
                inputs[modality] = to_device(trimmed, self.device)
        with torch.no_grad(), self._setting.autocast(self.device):
            outputs: Tensor = self._method(self._with_presence(inputs, found)).outputs
        return outputs.float().cpu()

    def _encoded(self, modality: str, cells: Distinct) -> Tokens:
        """Return the rows' tokens after the layers whose output a search keeps; equal inputs are run once."""
        tower, stop = self._method.tower(modality), self._stops[modality]
        *_, last = encoded(tower, to_device(cells.inputs, self.device), stop, self._setting)
        numbers = cells.numbers.to(self.device)
        return replace(
            last, tokens=last.tokens[numbers], mask=None if last.mask is None else last.mask[numbers]
        )

    def _with_presence(
        self, inputs: dict[str, ModalityInput], found: Mapping[str, Distinct]
    ) -> dict[str, ModalityInput]:
        if self._method.uses_presence:
            present = {m: cells.present for m, cells in found.items()}
            inputs[PRESENCE] = to_device(present, self.device)
        return inputs


def _device(name: str) -> torch.device:
    """Return a device that can be computed on.

    Raises:
        UserError: If it cannot.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch was built without CUDA
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"device '{name}': cannot be used here ({reason}); accepted: cpu, cuda") from error
    return device
