"""bfloat16 on a machine without instructions for it, in little more than the time of fp32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from kept import is_emulated
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

aten = torch.ops.aten
#: The operators that PyTorch emulates tens of times slower than it runs them in fp32. Inference mode does not
#: take those of the second line apart.
PRODUCTS = {
    *(aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution),
    *(aten.linear, aten.matmul, aten.conv2d),
}


class WideProducts(TorchDispatchMode):
    """Computes bfloat16 matrix products of this context in fp32, and rounds the sums to bfloat16.

    The product of two bfloat16 numbers is exact in fp32, and the instructions for bfloat16 add such products
    in fp32, too. So results are theirs up to the order of the sums. Steps take more memory.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator."""
        kwargs = kwargs or {}
        tensors = [each for each in args if isinstance(each, Tensor)]
        if func._overloadpacket not in PRODUCTS or tensors[0].dtype != torch.bfloat16:
            return func(*args, **kwargs)
        return func(*tree_map_only(Tensor, Tensor.float, args), **kwargs).bfloat16()


def products_in(precision: str) -> AbstractContextManager[object]:
    """Return a context in which a precision is about as fast as fp32 on this machine."""
    return WideProducts() if is_emulated(precision) else nullcontext()
