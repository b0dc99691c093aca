"""Dropout. Source of the rules: aten/src/ATen/native/Dropout.cpp."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.trainables.memory.kernels.saving import FAKE, on_gpu, saved_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saves_a_byte_an_element(dtype: torch.dtype) -> None:
    with on_gpu():
        x = torch.randn(6, 50, dtype=dtype, requires_grad=True)
        assert saved_bytes(lambda: F.dropout(x, 0.1)) == 300


@pytest.mark.parametrize(("p", "train"), [(0.0, True), (0.5, False), (1.0, True)])
def test_what_is_not_random_is_as_on_a_cpu(p: float, train: bool) -> None:
    with FAKE.active():
        x = torch.randn(6, 50, requires_grad=True)
        expected = saved_bytes(lambda: torch.dropout(x, p, train))
    with on_gpu():
        assert saved_bytes(lambda: torch.dropout(x, p, train)) == expected
        assert (torch.dropout(x, p, train) is x) == (p < 1)


def test_other_dropouts_are_as_on_a_cpu() -> None:
    with on_gpu():
        x = torch.randn(6, 50, 4, 4, requires_grad=True)
        assert saved_bytes(lambda: F.dropout2d(x, 0.1)) == 4 * 300  # a number a channel
        assert saved_bytes(lambda: F.dropout(x * 2, 0.1, inplace=True)) == 4 * x.numel()


def test_gradients_flow() -> None:
    with on_gpu():
        x = torch.randn(6, 50, requires_grad=True)
        F.dropout(x, 0.1).sum().backward()
        assert x.grad is not None
        assert x.grad.shape == x.shape


def test_in_inference_mode() -> None:
    with on_gpu(), torch.inference_mode():
        assert F.dropout(torch.randn(6, 50), 0.1).shape == (6, 50)
