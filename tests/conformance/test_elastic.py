"""What supernets of every method with elastic options must satisfy."""

from __future__ import annotations

import dataclasses
import itertools
import random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conformance.methods import CLASSES, PAIRS, build, make_batch, tiny_towers
from tests.conftest import SIZES
from tests.tasks import classification
from trainables.elastic import Supernet
from trainables.errors import UserError
from trainables.memory import measure_memory
from trainables.methods import METHODS, MethodContext
from trainables.step.setting import TrainingSetting
from trainables.step.training import forward_loss

ELASTIC = [name for name in METHODS if METHODS[name].method.elastic]

each_elastic = pytest.mark.parametrize("name", ELASTIC)


def legal(name: str, option: str) -> range:
    """An option's values, the largest one small."""
    meta = next(f.metadata for f in dataclasses.fields(METHODS[name].config_class) if f.name == option)
    return range(meta["low"], (3 if "layers" in option else 4) + 1)


def largest(name: str) -> dict[str, Any]:
    options = METHODS[name].method.elastic
    return {option: legal(name, option)[-1] for option in options}


def smaller(name: str) -> list[dict[str, Any]]:
    """Each elastic option at each value, the others largest; then some where all differ."""
    options, top = METHODS[name].method.elastic, largest(name)
    singles = [{**top, option: value} for option in options for value in legal(name, option)]
    rng = random.Random(0)
    mixed = [{**top, **{o: rng.choice(legal(name, o)) for o in options}} for _ in range(4)]
    return [*singles, *mixed]


def supernet_of(name: str, pair: tuple[str, str] = PAIRS[0], **context: Any) -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(MethodContext(tiny_towers(pair), CLASSES, SIZES, **context), name, largest(name))
    for parameter in supernet.largest.trainable_parameters():  # zeros would hide what is wrong
        torch.nn.init.normal_(parameter, std=0.1)
    return supernet


def test_the_methods_asked_for_are_elastic() -> None:
    assert {"pmf", "wander", "mope", "adapter", "lora"} <= set(ELASTIC)


@pytest.mark.slow
@each_elastic
def test_a_slice_equals_the_model_on_its_own(name, tmp_path) -> None:
    supernet = supernet_of(name).eval()
    inputs, labels = make_batch()
    path = tmp_path / "weights.safetensors"
    for config in smaller(name):
        with torch.no_grad():
            sliced = supernet(config, inputs).outputs
        save_file(supernet.subnet_state_dict(config), path)
        ordinary = build(name, config)
        ordinary.load_trainable_state_dict(load_file(path))
        with torch.no_grad():
            assert torch.allclose(ordinary.eval()(inputs).outputs, sliced, atol=1e-6), config
        alone = supernet.subnet(config)
        assert alone.trainable_parameter_count() == ordinary.trainable_parameter_count()
        assert supernet.shell(config).prefix_layers() == ordinary.prefix_layers()
        if config not in smaller(name)[-2:]:
            continue
        setting = TrainingSetting()
        assert measure_memory(alone, inputs, labels, setting, classification(CLASSES)) == measure_memory(
            ordinary, inputs, labels, setting, classification(CLASSES)
        )


@each_elastic
def test_so_it_does_where_layers_differ_in_width(name) -> None:
    pair = ("roberta", "swin")
    supernet = supernet_of(name, pair).eval()
    inputs, _ = make_batch(tiny_towers(pair))
    for config in smaller(name)[-4:]:
        with torch.no_grad():
            alone = supernet.subnet(config).eval()(inputs).outputs
            assert torch.allclose(alone, supernet(config, inputs).outputs, atol=1e-6), config


@each_elastic
def test_a_slice_gets_the_gradients_of_the_model_on_its_own(name) -> None:
    """Also where layers are run once more in the backward pass: on the slices, not on other weights."""
    supernet = supernet_of(name, encoder_dropout=False, gradient_checkpointing=True)
    weights = supernet.largest.trainable_state_dict()
    inputs, labels = make_batch()
    for config in smaller(name)[-2:]:
        alone = supernet.subnet(config)
        for model in (alone, supernet.train().bound(config)):
            model.train()
            torch.manual_seed(5)
            forward_loss(model, inputs, labels, classification(CLASSES), TrainingSetting()).backward()
        expected = {n: p.grad for n, p in alone.named_parameters() if p.grad is not None}
        gradients = {n: p.grad for n, p in supernet.largest.named_parameters() if p.grad is not None}
        assert sum(float(g.abs().sum()) for g in gradients.values()) == pytest.approx(
            sum(float(g.abs().sum()) for g in expected.values()), rel=1e-3
        )
        got = Supernet(supernet.context, name, supernet.largest.config)
        filled = {n: gradients.get(n, torch.zeros_like(w)) for n, w in weights.items()}
        got.largest.load_trainable_state_dict(filled)
        for n, part in got.subnet_state_dict(config).items():
            assert torch.allclose(part, expected.get(n, torch.zeros_like(part)), atol=1e-5), n
        supernet.zero_grad(set_to_none=True)


@each_elastic
def test_training_changes_trained_weights_only(name) -> None:
    supernet = supernet_of(name).train()
    before = {n: v.clone() for n, v in supernet.largest.state_dict().items()}
    trained = set(supernet.largest.trainable_state_dict())
    optimizer = TrainingSetting().make_optimizer(supernet.largest.trainable_parameters(), 1e-2)
    inputs, labels = make_batch()
    configs = [largest(name), *smaller(name)[-1:], largest(name)]
    for config in configs:
        task = classification(CLASSES)
        forward_loss(supernet.bound(config), inputs, labels, task, TrainingSetting()).backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {n for n, v in supernet.largest.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == trained


@each_elastic
def test_refuses_what_is_no_subnet(name) -> None:
    supernet = supernet_of(name)
    option = supernet.largest.elastic[-1]
    with pytest.raises(UserError, match=r"larger than the supernet|must be"):
        supernet.shell({**largest(name), option: largest(name)[option] + 1})
    others = [
        f for f in dataclasses.fields(METHODS[name].config_class) if f.name not in supernet.largest.elastic
    ]
    for field in others:
        value = field.metadata["other"]
        if value != getattr(supernet.largest.config, field.name):
            with pytest.raises(UserError, match="may differ"):
                supernet.shell({**largest(name), field.name: value})


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
