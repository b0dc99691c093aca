"""Supernets of every method with elastic options behave as supernets must."""

from __future__ import annotations

import itertools

import torch

from tests.conformance.each import each
from trainables.methods import METHODS
from trainables.testing import Check, elastic_checks
from trainables.testing.cases import make_batch
from trainables.testing.elastic import largest, supernet_of


@each(check for name in METHODS for check in elastic_checks(name))
def test_elastic(check: Check) -> None:
    check()


def test_the_methods_asked_for_are_elastic() -> None:
    assert all(METHODS[name].method.elastic for name in ("pmf", "wander", "mope", "adapter", "lora"))


def test_every_layer_and_modality_may_have_lengths_of_its_own() -> None:
    supernet = supernet_of("pmf").eval()
    inputs, _ = make_batch()
    lengths = itertools.cycle(range(4 + 1))
    for layers in (1, 2, 3):
        kinds = [o for o in supernet.largest.elastic if o.endswith("prompts")]
        config = {
            "n_fusion_layers": layers,
            "translator_width": 3,
            **{kind: {m: [next(lengths) for _ in range(layers)] for m in inputs} for kind in kinds},
        }
        with torch.no_grad():
            assert torch.allclose(
                supernet(config, inputs).outputs, supernet.subnet(config).eval()(inputs).outputs, atol=1e-6
            )


def test_subnets_of_other_depth_share_the_upper_layers() -> None:
    supernet = supernet_of("pmf")
    two = supernet.subnet_state_dict({**largest("pmf"), "n_fusion_layers": 2})
    one = supernet.subnet_state_dict({**largest("pmf"), "n_fusion_layers": 1})
    for name, weight in one.items():
        above = name.replace("fusion_layers.0", "fusion_layers.1")
        assert torch.equal(weight, two[above])
