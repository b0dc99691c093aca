"""The memory of any PyTorch model's step, found by running it on tensors without content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from trainables.errors import UserError
from trainables.garbage import garbage_kept
from trainables.memory.blanks import blank_batch, blank_model, built_on_meta
from trainables.memory.content import AnyContent, NothingSkipped, content_unneeded
from trainables.memory.fake import FakeTensors
from trainables.memory.predictor import countable
from trainables.memory.report import MemoryReport
from trainables.memory.storage_log import Holdings, StorageLog
from trainables.memory.target import kernels_of, report_on_target
from trainables.memory.tracking import inferring, track, track_inference
from trainables.step.setting import TrainingSetting
from trainables.units import MIB

#: Computes the loss of a batch, given the model and the batch.
Loss = Callable[[Any, Any], Tensor]
#: Makes the optimizer of these parameters.
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def estimate(
    model: nn.Module | Callable[[], nn.Module],
    example_batch: Any,
    loss: Loss | None = None,
    optimizer: MakeOptimizer | None = None,
    *,
    target: str = "cuda",
    precision: str = "bf16",
    gradient_accumulation: bool = False,
    compute_capability: float = 8.0,
    expandable_segments: bool = False,
    context: int = 500 * MIB,
) -> MemoryReport:
    """Return the memory of an optimization step of any model, or of a forward pass.

    The step is run on tensors that have shapes but no content, so it needs no GPU, no weights and hardly any
    memory. The model is only read. It runs in training mode, and its parameters with ``requires_grad`` train.
    The step is one after the first: forward pass and loss (under autocast, unless the precision is fp32),
    backward pass, update, and ``zero_grad``. It keeps the loss, but no other output of the model.

    Args:
        model: A module on any device, also on ``meta``, or a function that builds it. The function is called
            with ``meta`` as the default device, so that not even a very large model takes memory.
        example_batch: A tensor, or tensors in dicts, tuples and lists. Only shapes and types matter, so they
            may be on ``meta``.
        loss: Returns the loss of a batch, given the model and the batch, as in
            ``lambda net, batch: cross_entropy(net(batch[0]), batch[1])``. None calls the model with the
            batch, the entries of a dict as keywords and those of a tuple or list one by one, and takes the
            output's ``loss``, as models of transformers have it if the batch holds labels.
        optimizer: Makes the optimizer of a list of parameters, as ``functools.partial(torch.optim.AdamW,
            lr=1e-4)`` does. None runs a forward pass without gradient, in evaluation mode.
        target: Kind of device: ``cuda`` or ``cpu``; see ``TrainingSetting``.
        precision: ``fp32`` runs the model in the types of its parameters, ``bf16`` under bfloat16 autocast,
            and ``bf16-frozen`` also stores frozen matrices in bfloat16.
        gradient_accumulation: Whether a step adds up the gradients of several batches like the example.
        compute_capability: CUDA compute capability of the target.
        expandable_segments: Whether the target's allocator has expandable segments.
        context: Bytes of a process's CUDA context there.

    Returns:
        The report. ``memory`` is what must be free on the target.

    Raises:
        UserError: If the step cannot be run without content, above all because what the model does depends
            on the data; if nothing trains; or if an argument is not accepted.

    Example:
        >>> from functools import partial
        >>> net = torch.nn.Linear(1000, 10)
        >>> def loss(net, batch):
        ...     return torch.nn.functional.cross_entropy(net(batch[0]), batch[1])
        >>> batch = torch.empty(32, 1000), torch.empty(32, dtype=torch.long)
        >>> report = estimate(net, batch, loss, partial(torch.optim.AdamW, lr=0.1), target="cpu")
        >>> report.weights, report.optimizer
        (40040, 80088)
    """
    setting = TrainingSetting(
        target=target,
        precision=precision,
        compute_capability=compute_capability,
        expandable_segments=expandable_segments,
        context_bytes=context,
    )
    if not isinstance(model, nn.Module):
        model = built_on_meta(model)
    kernels = kernels_of(setting)
    with FakeTensors().active(), garbage_kept(), kernels, NothingSkipped(), countable(), content_unneeded():
        copied = blank_model(model, torch.bfloat16 if setting.precision == "bf16-frozen" else None)
        batch = blank_batch(example_batch)
        log = StorageLog()
        if optimizer is None:
            held = _track_inference(copied, batch, loss, setting, log)
        else:
            held = _track_step(
                copied, batch, loss, optimizer, setting, log, accumulates=gradient_accumulation
            )
        return report_on_target(copied, held, log, setting, backward=optimizer is not None)


def _track_step(
    model: nn.Module,
    batch: Any,
    loss: Loss | None,
    make_optimizer: MakeOptimizer,
    setting: TrainingSetting,
    log: StorageLog,
    *,
    accumulates: bool,
) -> Holdings:
    """Run two steps and log the second one, which finds the optimizer's state; return what its peak holds."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise UserError("model: no parameter trains; leave out the optimizer for a forward pass alone")
    optimizer = make_optimizer(trained) if callable(make_optimizer) else None
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UserError(
            "optimizer: must be a function that makes the optimizer of a list of parameters, such as "
            "functools.partial(torch.optim.AdamW, lr=1e-4)"
        )
    if setting.target == "cuda":
        _choose_kernels(optimizer)
    model.train()

    def step(after_forward: Callable[[], None]) -> Tensor:
        for _ in range(2 if accumulates else 1):  # all batches after the first need the same memory
            value = _loss_of(model, batch, loss, setting)
            after_forward()
            value.backward()
        with AnyContent():
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value.detach()

    step(lambda: None)
    return track(_weights(model), _tensors(batch), optimizer, step, log)[0]


def _track_inference(
    model: nn.Module, batch: Any, loss: Loss | None, setting: TrainingSetting, log: StorageLog
) -> Holdings:
    """Log a forward pass without gradient; return what its peak holds."""
    model.eval()

    def forward() -> None:
        with inferring(setting, torch.device("cpu")):
            _called(model, batch) if loss is None else loss(model, batch)

    return track_inference(_weights(model), _tensors(batch), forward, log)


def _choose_kernels(optimizer: torch.optim.Optimizer) -> None:
    """Make an optimizer go through its parameters as it would by default on a GPU: all of them together.

    See ``_default_to_fused_or_foreach`` in torch/optim/optimizer.py.
    """
    for group in optimizer.param_groups:
        stated = group.get("foreach", False) is not None or group.get("fused") or group.get("differentiable")
        if not stated and (group.get("capturable") or not isinstance(group["lr"], Tensor)):
            group["foreach"] = True


def _loss_of(model: nn.Module, batch: Any, loss: Loss | None, setting: TrainingSetting) -> Tensor:
    with setting.autocast(torch.device("cpu")):
        value = getattr(_called(model, batch), "loss", None) if loss is None else loss(model, batch)
    if loss is None and value is None:
        raise UserError("loss: the model returns none; put labels into the batch, or give a loss function")
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.80}"
        raise UserError(f"loss: must be a single number in a tensor, not {found}")
    if not value.requires_grad:
        raise UserError("loss: depends on no parameter that trains")
    return value


def _called(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, dict):
        return model(**batch)
    return model(*batch) if isinstance(batch, list) else model(batch)


def _weights(model: nn.Module) -> list[tuple[None, Tensor]]:
    return [(None, tensor) for tensor in (*model.parameters(), *model.buffers())]


def _tensors(batch: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]
