"""A GPU that was promised must work."""

from __future__ import annotations

import pytest
import torch

from trainables.errors import UserError
from trainables.trial.device import device_name, require_cuda


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("Torch not compiled with CUDA enabled"),
        RuntimeError("Found no NVIDIA driver on your system.\nPlease check"),
    ],
)
def test_a_gpu_that_does_not_work_is_refused(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, device: str) -> None:
        assert device == "cuda:1"
        raise error

    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(UserError, match=rf"PyTorch cannot use it: {str(error).splitlines()[0]}; install"):
        require_cuda("cuda:1")


def test_a_full_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, device: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(torch.OutOfMemoryError):
        require_cuda()


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A10G")
    assert device_name(torch.device("cuda", 0)) == "cuda (NVIDIA A10G)"
    assert device_name(torch.device("cpu")) == "cpu"
