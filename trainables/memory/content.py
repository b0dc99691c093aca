"""What happens where a step asks for the content of a tensor that has none."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.errors import UserError


class NothingSkipped(TorchFunctionMode):
    """Makes single random numbers 1, the most, so that no layer is skipped.

    Models with LayerDrop compare one random number a layer with the probability of skipping it. A step that
    skips none takes the most memory.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        return torch.tensor(1.0) if func is torch.rand and out.ndim == 0 else out


class AnyContent(TorchDispatchMode):
    """Lets an optimizer read numbers from tensors without content: it needs the same memory with any."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        try:
            return func(*args, **(kwargs or {}))
        except DataDependentOutputException:
            if func is not torch.ops.aten._local_scalar_dense.default:
                raise
            return 1


@contextmanager
def content_unneeded() -> Iterator[None]:
    """Raise ``UserError`` if the model asks for the content of a tensor, which there is not."""
    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise UserError(
            f"model: what it does in {_place(error)} depends on the content of its data, and so does its "
            f"memory, which cannot be told from shapes alone ({error.func})"
        ) from error
    except UnsupportedOperatorException as error:
        raise UserError(
            f"model: the operator {error.func} in {_place(error)} does not say of which shape its result is; "
            "register a fake implementation (torch.library.register_fake)"
        ) from error


def _place(error: Exception) -> str:
    """Return the file and line, outside of PyTorch, in which an error was raised."""
    torch_itself, here = Path(torch.__file__).parent, Path(__file__).parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not {torch_itself, here} & set(Path(frame.filename).parents)
    ]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the backward pass"
