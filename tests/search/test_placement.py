from __future__ import annotations

import pytest

from search.nodes import Node
from search.placement import STEPS, Placement, place
from trainables.errors import UserError

GIB = 2**30
SMALL = Node(cpus=4, gpus=1, accelerator="A10G", gpu_memory=24 * GIB)
LARGE = Node(cpus=32, gpus=2, accelerator="A100", gpu_memory=80 * GIB)


def cores(cpus: float, memory: int | None = 64 * GIB) -> Node:
    return Node(cpus=cpus, memory=memory)


@pytest.mark.parametrize(
    ("nodes", "samples", "options", "expected"),
    [
        ([cores(2)], 10, {}, (1, 2)),
        ([cores(8)], 10, {"max_concurrent": 2}, (4, 2)),
        ([cores(8)], 1, {}, (8, 1)),
        ([cores(2)], 10, {"max_concurrent": 5}, (1, 2)),
        ([cores(8)], 3, {}, (2, 3)),
        ([cores(0)], 10, {}, (1, 1)),
        ([cores(0), cores(4), cores(4)], 10, {}, (1, 8)),
        ([cores(8), cores(8)], 1, {}, (8, 1)),  # a trial cannot span nodes
        ([Node(cpus=2, gpus=2, memory=GIB)], 10, {"gpus_per_trial": 0}, (1, 2)),
    ],
)
def test_cores_are_shared_out(nodes, samples, options, expected) -> None:
    placement = place(nodes, samples, **options)
    share = placement.of(0)
    assert (share.resources["CPU"], placement.concurrent) == expected
    assert share.threads == expected[0]
    assert "GPU" not in share.resources


def test_ordinary_trials_on_cores_ask_for_the_same_memory_and_larger_ones_for_multiples() -> None:
    placement = place([cores(4, 16 * GIB), cores(2, 10 * GIB)], 10)
    asked = [placement.of(needed * GIB).resources["memory"] / GIB for needed in (0, 3, 4, 5, 8.5, 11, 16)]
    # 8.5 is three units, 12, more than the smaller node has: all of that node is enough.
    assert asked == [4, 4, 4, 8, 10, 12, 16]
    assert placement.limit == 16 * GIB
    assert placement.of(GIB, alone=True).granted == 16 * GIB
    with pytest.raises(ValueError, match="largest node"):
        placement.of(16 * GIB + 1)


@pytest.mark.parametrize(
    ("nodes", "options"), [([cores(2), cores(4, None)], {}), ([cores(2), cores(4)], {"packing": False})]
)
def test_cores_without_a_count_of_memory_have_no_limit(nodes, options) -> None:
    placement = place(nodes, 10, **options)
    assert placement.limit is None
    assert placement.of(10**15).resources == {"CPU": 1}
    assert placement.of(10**15, alone=True).resources == {"CPU": 4}


@pytest.mark.parametrize(
    ("gib", "sixteenths"),
    [(0, 1), (1, 1), (1.5, 1), (1.6, 2), (12, 8), (12.1, 9), (22.5, 15), (22.6, 16), (24, 16)],
)
def test_shares_of_a_gpu_are_rounded_up_to_sixteenths(gib: float, sixteenths: int) -> None:
    needed = int(gib * GIB)
    share = place([SMALL], 10).of(needed)
    assert share.resources == {"GPU": sixteenths / STEPS, "CPU": 4 * sixteenths / STEPS}
    assert share.granted == 24 * GIB * sixteenths // STEPS >= needed
    assert share.threads == max(1, 4 * sixteenths // STEPS)
    assert share.labels == {}


def test_equal_shares_are_equal_requests() -> None:
    placement = place([SMALL, LARGE], 10)
    assert placement.of(5 * GIB).request() == placement.of(6 * GIB).request()
    assert placement.of(31 * GIB).request() == placement.of(35 * GIB).request()
    assert placement.of(5 * GIB).request() != placement.of(31 * GIB).request()


def test_large_trials_are_kept_off_small_devices() -> None:
    placement = place([LARGE, SMALL], 10)
    small, large = placement.of(12 * GIB), placement.of(40 * GIB)
    assert small.labels == {}
    assert small.resources == {"GPU": 0.5, "CPU": 2}  # half of the smaller, so that it may land on either
    assert small.granted == 12 * GIB
    assert large.labels == {"ray.io/accelerator-type": "in(A100)"}
    assert large.resources == {"GPU": 0.5, "CPU": 8}
    assert large.options()["label_selector"] == large.labels
    assert placement.limit == 80 * GIB
    with pytest.raises(ValueError, match="largest share"):
        placement.of(80 * GIB + 1)


def test_a_kind_counts_as_its_smallest_device() -> None:
    placement = place([Node(8, gpus=1, accelerator="A100", gpu_memory=40 * GIB), LARGE], 10)
    assert placement.limit == 40 * GIB
    assert "40.00 GiB and 80.00 GiB" in str(placement.note)
    unnamed = place([SMALL, Node(8, gpus=1, gpu_memory=16 * GIB)], 10)
    assert unnamed.limit == 16 * GIB
    assert unnamed.of(16 * GIB).labels == {}


def test_alone_is_a_whole_device_that_holds_the_trial() -> None:
    placement = place([SMALL, LARGE], 10)
    assert placement.of(GIB, alone=True).resources["GPU"] == 1
    assert placement.of(GIB, alone=True).granted == 24 * GIB
    assert placement.of(30 * GIB, alone=True).granted == 80 * GIB
    assert place([SMALL], 10, gpus_per_trial=0.25).of(7 * GIB, alone=True).granted == 24 * GIB


@pytest.mark.parametrize(
    ("options", "gpu", "granted", "limit", "concurrent"),
    [
        ({}, 1 / 16, 1.5, 80, 48),
        ({"packing": False}, 1, 24, 80, 3),
        ({"gpus_per_trial": 0.25}, 0.25, 6, 20, 12),
        ({"gpus_per_trial": 0.6}, 0.6, 14.4, 48, 3),
        ({"gpus_per_trial": 0.5, "packing": False}, 0.5, 12, 40, 6),
        ({"max_concurrent": 4}, 1 / 16, 1.5, 80, 4),
    ],
)
def test_overrides(options, gpu, granted, limit, concurrent) -> None:
    placement = place([SMALL, LARGE], 100, **options)
    share = placement.of(GIB)
    assert share.resources["GPU"] == gpu
    assert share.granted == int(granted * GIB)
    assert placement.limit == limit * GIB
    assert placement.concurrent == concurrent


def test_a_fixed_share_goes_where_it_is_enough() -> None:
    share = place([SMALL, LARGE], 10, gpus_per_trial=0.5).of(20 * GIB)
    assert share.labels == {"ray.io/accelerator-type": "in(A100)"}
    assert share.granted == 40 * GIB


def test_gpus_of_unknown_size_are_not_packed() -> None:
    nodes = [Node(4, gpus=1, accelerator="A10G"), LARGE]
    placement = place(nodes, 10)
    assert placement.of(10**15).resources["GPU"] == 1
    assert (placement.limit, placement.of(1).granted, placement.concurrent) == (None, None, 3)
    assert "--gpu-memory" in str(placement.note)
    assert place(nodes, 10, packing=False).note is None
    assert place(nodes, 10, gpus_per_trial=0.5).note is None


@pytest.mark.parametrize(
    ("options", "gpu", "granted"),
    [
        ({"gpus_per_trial": 1}, 1, None),
        ({"gpu_memory": 24 * GIB}, 0.25, 6 * GIB),
        ({"gpu_memory": 24 * GIB, "packing": False}, 1, 24 * GIB),
    ],
)
def test_gpu_nodes_that_are_still_to_come_are_asked_for(options, gpu, granted) -> None:
    placement = place([cores(0)], 10, **options)
    share = placement.of(5 * GIB)
    assert (share.resources["GPU"], share.granted, share.threads) == (gpu, granted, 1)
    assert placement.concurrent == 10
    assert not placement.full([share] * 100)


def test_a_cluster_is_full_when_the_shares_fill_its_devices() -> None:
    def fits(placement: Placement, needed: int) -> int:
        shares = []
        while not placement.full(shares):
            shares.append(placement.of(needed))
        return len(shares)

    assert fits(place([SMALL], 100), 6 * GIB) == 4
    assert fits(place([SMALL], 100), 7 * GIB) == 4  # three run, one waits
    assert fits(place([SMALL], 100, packing=False), GIB) == 1
    assert fits(place([cores(4, 16 * GIB)], 100), GIB) == 4
    assert fits(place([cores(4, 16 * GIB)], 100), 7 * GIB) == 2


@pytest.mark.parametrize("share", [-0.5, 1.5, 2])
def test_a_trial_runs_on_one_gpu(share: float) -> None:
    with pytest.raises(UserError, match="give 0 to 1"):
        place([SMALL], 10, gpus_per_trial=share)


@pytest.mark.parametrize(
    ("nodes", "excluded"),
    [
        ([SMALL], Node(8, gpus=1, accelerator="T4", gpu_memory=16 * GIB, node_id="old")),
        ([cores(4, 16 * GIB)], Node(4, 16 * GIB, node_id="old")),
        ([cores(4)], Node(4, node_id="old")),
    ],
)
def test_no_trial_goes_to_a_machine_that_is_excluded(nodes: list[Node], excluded: Node) -> None:
    placement = place(nodes, 10, excluded=[excluded])
    assert placement.summary == place(nodes, 10).summary
    for share in (placement.of(GIB), placement.of(GIB, alone=True)):
        assert share.labels == {"ray.io/node-id": "!in(old)"}
    placement.keep_out("bad")
    placement.keep_out("bad")
    for share in (placement.of(GIB), placement.worker(GIB, 2)):
        assert share.labels == {"ray.io/node-id": "!in(old,bad)"}
    assert place(nodes, 10).of(GIB).labels == {}
