"""What a report says."""

from __future__ import annotations

from trainables.memory import MemoryReport

TENSORS = {"weights": 10, "gradients": 1, "optimizer": 2, "activations": 20, "temporary": 3}
ON_CPU = MemoryReport(36, **TENSORS, trainable_parameters=1, checkpoint=4)
ON_GPU = MemoryReport(36, **TENSORS, trainable_parameters=1, checkpoint=4, reserved=40, context=500)


def test_parts_add_up_to_what_must_be_free() -> None:
    assert ON_CPU.to_dict() == {"target": "cpu", **TENSORS, "total": 36, "memory": 36}
    on_gpu = {"total": 36, "fragmentation": 4, "reserved": 40, "context": 500, "memory": 540}
    assert ON_GPU.to_dict() == {"target": "cuda", **TENSORS, **on_gpu}
    assert (ON_CPU.memory, ON_GPU.memory) == (36, 540)


def test_gradients_that_are_held_all_the_time_count_everywhere() -> None:
    assert ON_GPU.with_gradients(7).sizes() == {
        **ON_GPU.sizes(),
        **{"gradients": 8, "total": 43, "reserved": 47, "memory": 547},
    }
    assert ON_CPU.with_gradients(7).memory == 43
