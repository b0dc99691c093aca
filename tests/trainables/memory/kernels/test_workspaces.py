"""Workspaces of libraries. Source of the rules: aten/src/ATen/cuda/CublasHandlePool.cpp."""

from __future__ import annotations

import pytest

from trainables.memory.kernels import CudaDevice, library_workspaces
from trainables.units import MIB


@pytest.mark.parametrize(
    ("capability", "size"),
    [(7.5, 8_519_680), (8.0, 8_519_680), (8.9, 8_519_680), (9.0, 32 * MIB), (12.0, 32 * MIB)],
)
def test_one_for_each_pass(capability: float, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    assert library_workspaces(CudaDevice(capability)) == [size, size]
    assert library_workspaces(CudaDevice(capability), backward=False) == [size]


def test_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8:4096:2")
    assert library_workspaces(CudaDevice()) == [8 * 16 * 1024 + 2 * 4096 * 1024] * 2
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "nothing")
    assert library_workspaces(CudaDevice()) == [8_519_680] * 2
