"""The emulation concerns fake tensors of one thread only."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.trainables.memory.kernels.saving import FAKE, on_gpu, saved, saved_bytes
from trainables.memory.kernels import CudaDevice, cuda_kernels


class Net(nn.Module):
    """Uses operators of all kinds that are replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.wide = nn.LayerNorm(8), nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.wide(self.norm(x)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=0.2)
        joined = torch.cat([mixed, F.dropout(mixed.float(), 0.3).to(mixed.dtype)], -1)
        return torch.einsum("bhtd,bhsd->bts", joined, joined).softmax(-1).square().sum()


def real_step(autocast: bool) -> list[Tensor]:
    """Return the loss and the gradients of a step with real tensors."""
    torch.manual_seed(0)
    net = Net()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = net(torch.randn(2, 5, 8))
    loss.backward()
    return [loss, *(parameter.grad for parameter in net.parameters() if parameter.grad is not None)]


COMPARISON = """
import torch
from tests.trainables.memory.kernels.test_device import real_step
from trainables.memory.kernels import CudaDevice, cuda_kernels

before = [real_step(autocast) for autocast in (False, True)]
with cuda_kernels(CudaDevice()):
    within = [real_step(autocast) for autocast in (False, True)]
after = [real_step(autocast) for autocast in (False, True)]
for steps in within, after:
    for found, expected in zip(sum(steps, []), sum(before, []), strict=True):
        assert found.dtype is expected.dtype and torch.equal(found, expected)
"""


def test_real_steps_are_the_same() -> None:
    """They equal those of a process that has not emulated anything yet."""
    subprocess.run([sys.executable, "-c", COMPARISON], check=True)


def test_in_another_thread_nothing_changes() -> None:
    entered, done = threading.Event(), threading.Event()

    def emulate() -> int:
        with on_gpu():
            entered.set()
            done.wait(10)
            x = torch.randn(6, 50, requires_grad=True)
            return saved_bytes(lambda: F.dropout(x, 0.1))

    with ThreadPoolExecutor() as pool:
        emulating = pool.submit(emulate)
        entered.wait(10)
        try:
            _, found = saved(lambda: F.dropout(torch.randn(6, 50, requires_grad=True), 0.1))
            with FAKE.active():
                x = torch.randn(6, 50, requires_grad=True)
                fake = saved_bytes(lambda: F.dropout(x, 0.1))
        finally:
            done.set()
        assert found == {(6, 50): torch.float32}
        assert fake == 4 * 300
        assert emulating.result() == 300


def test_it_ends_with_the_block_and_nests() -> None:
    with FAKE.active():
        x = torch.randn(6, 50, requires_grad=True)
        with cuda_kernels(CudaDevice(8.0)):
            with cuda_kernels(CudaDevice(9.0)):
                pass
            assert saved_bytes(lambda: F.dropout(x, 0.1)) == 300
        assert saved_bytes(lambda: F.dropout(x, 0.1)) == 4 * 300


def test_no_warning_reaches_the_user() -> None:
    program = "import torch; from trainables.memory.kernels import *\nwith cuda_kernels(CudaDevice()): pass"
    ended = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
