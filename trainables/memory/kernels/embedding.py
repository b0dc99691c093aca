"""What the gradient of an embedding allocates beside the result."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from torch import Tensor

from trainables.memory.kernels.device import CudaDevice

_INDEX, _FLOAT = 8, 4  # bytes

#: The most indices that are not sorted, the rows that one thread adds up (NROWS_PER_THREAD), and the most
#: blocks a multiprocessor that add to the result at once (MAX_ATOMIC_ACCUM_BLOCKS_PER_SM).
_UNSORTED, _ROWS_A_THREAD, _BLOCKS = 3072, 10, 4
_THREADS_A_BLOCK, _WARP = 1024, 32


def embedding_backward(
    device: CudaDevice, grad: Tensor, indices: Tensor, vocabulary: int, padding: int, by_frequency: bool
) -> Sequence[int]:
    """Return sorted indices, and sums over parts of the rows that belong to the same index.

    If there are few different indices, the parts are added to the result at once; in half precision, to one
    in float32.

    Source: ``embedding_dense_backward_cuda`` in aten/src/ATen/native/cuda/Embedding.cu and
    ``embedding_backward_cuda_kernel`` in EmbeddingBackwardKernel.cu.

    Args:
        device: The GPU.
        grad: Gradient of the result, shape (..., D).
        indices: The indices, shape (...).
        vocabulary: Number of rows of the weight.
        padding: Index whose row gets no gradient.
        by_frequency: Whether gradients are divided by the frequency of their index.
    """
    count, width = indices.numel(), grad.shape[-1]
    dense = [] if grad.is_contiguous() else [grad.nbytes]
    if count <= _UNSORTED and not by_frequency:
        return dense
    sorting = [_INDEX * count] * 3  # sorted, their old positions, and a range
    buffer = 2 * _INDEX * count
    segments = min(count, vocabulary)
    parts = count // _ROWS_A_THREAD + segments
    sums = [_INDEX * size for size in (count, segments, segments, parts)]
    columns = ceil(width / _WARP) * _WARP
    blocks = ceil(segments * columns / min(columns, _THREADS_A_BLOCK))
    if blocks < device.multiprocessors * _BLOCKS and parts > 4 * blocks:
        sums.append(_INDEX * parts)
        if grad.element_size() < _FLOAT:
            sums.append(vocabulary * width * _FLOAT)
    else:
        sums.append(parts * width * max(_FLOAT, grad.element_size()))
    return [*dense, *sorting, buffer, -_INDEX * count, -buffer, *sums]
